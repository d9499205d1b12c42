/** Test images as points of a plane, and the way from a place of it to latents and back.
 *
 *  It has two `axes` and their `centre`, or a `pair` of latents, or one latent, or only the places of
 *  the images. */
class Plane {
  constructor({ name, hint, places, axes, centre, pair, single }, means) {
    Object.assign(this, { name, hint, places, axes, centre, pair, single, means });
  }

  /** Where latents lie; of a plane without axes, in the midst of the nearest images. */
  placeOf(z) {
    if (this.single) return [z[0], 0.5];
    if (this.pair) return this.pair.map((latent) => z[latent]);
    if (this.axes) return this.axes.map((axis) => axis.reduce((sum, a, i) => sum + a * (z[i] - this.centre[i]), 0));
    return weighted(nearest(this.means, z, 4), (i) => this.places[i], 2);
  }

  /** The latents of a place; what the plane does not tell stays as it is in z. */
  latentsAt(place, z) {
    if (this.single) return Float32Array.of(place[0]);
    if (this.pair) {
      const moved = z.slice();
      this.pair.forEach((latent, i) => { moved[latent] = place[i]; });
      return moved;
    }
    if (this.axes) {
      const now = this.placeOf(z);
      return z.map((value, i) => value + this.axes.reduce((sum, axis, k) => sum + axis[i] * (place[k] - now[k]), 0));
    }
    return Float32Array.from(weighted(nearest(this.places, place, 8), (i) => this.means[i], z.length));
  }

  /** Whether latents are mixed of those of the images around a place. */
  get mixes() { return !this.pair && !this.axes && !this.single; }

  get bounds() {
    if (this.known) return this.known;
    this.known = [0, 1].map((axis) => {
      const values = this.places.map((place) => place[axis]).sort((a, b) => a - b);
      const low = values[0], high = values[values.length - 1], margin = 0.06 * (high - low) || 1;
      return [low - margin, high + margin];
    });
    return this.known;
  }
}

/** The nearest of rows to a row: [number, squared distance], the nearest first. */
function nearest(rows, row, count) {
  const found = [];
  rows.forEach((other, number) => {
    let sum = 0;
    for (let i = 0; i < row.length; i++) sum += (other[i] - row[i]) ** 2;
    if (found.length === count && sum >= found[count - 1][1]) return;
    found.push([number, sum]);
    found.sort((a, b) => a[1] - b[1]).splice(count);
  });
  return found;
}

/** The mean of rows, the nearer the heavier. */
function weighted(found, rowOf, length) {
  const sum = new Array(length).fill(0), scale = found[found.length - 1][1] || 1;
  let total = 0;
  for (const [number, square] of found) {
    const weight = (square / scale + 1e-3) ** -1.5, row = rowOf(number);
    total += weight;
    for (let i = 0; i < length; i++) sum[i] += weight * row[i];
  }
  return sum.map((value) => value / total);
}

/** The map that is dragged over: it draws points, and says where the finger is. */
class PlaneMap {
  constructor(canvas, { labels, onMove, onHover, onPick, onStep }) {
    Object.assign(this, { canvas, labels, onMove, onHover, onPick, onStep });
    this.shown = null;
    this.hovered = -1;
    this.marks = [];
    this.finger = null;
    this.lens = null;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", () => { this.pressed = null; });
    canvas.addEventListener("pointerleave", () => { if (!this.pressed) this.hover(-1); });
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Pixels of the canvas, from a place. */
  pixel([x, y]) {
    const [[left, right], [bottom, top]] = this.plane.bounds;
    return [((x - left) / (right - left)) * this.width, (1 - (y - bottom) / (top - bottom)) * this.height];
  }

  place([x, y]) {
    const [[left, right], [bottom, top]] = this.plane.bounds;
    return [left + (x / this.width) * (right - left), bottom + (1 - y / this.height) * (top - bottom)];
  }

  get width() { return this.canvas.clientWidth; }
  get height() { return this.canvas.clientHeight; }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const clipped = (value, most) => Math.min(most, Math.max(0, value));
    return [clipped(event.clientX - box.left, this.width), clipped(event.clientY - box.top, this.height)];
  }

  /** The point that lies within so many pixels, or −1. */
  pointAt([x, y], within) {
    let best = -1, least = within ** 2;
    this.plane.places.forEach((place, number) => {
      if (this.shown !== null && this.labels[number] !== this.shown) return;
      const [a, b] = this.pixel(place), square = (a - x) ** 2 + (b - y) ** 2;
      if (square < least) [best, least] = [number, square];
    });
    return best;
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pressed = { at: this.at(event), moved: false };
  }

  move(event) {
    const at = this.at(event);
    if (!this.pressed) return this.hover(this.pointAt(at, 14));
    if (Math.hypot(at[0] - this.pressed.at[0], at[1] - this.pressed.at[1]) > 3) this.pressed.moved = true;
    if (this.pressed.moved) this.to(this.place(at));
  }

  release(event) {
    const { at, moved } = this.pressed || {};
    this.pressed = null;
    if (!at || moved) return;
    const number = this.pointAt(at, 14);
    if (number >= 0) this.onPick(number);
    else this.to(this.place(at));
  }

  hover(number) {
    if (number === this.hovered) return;
    this.hovered = number;
    this.onHover(number);
    this.draw();
  }

  to(place) {
    this.finger = place;
    this.onMove(place);
    this.draw();
  }

  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const { bounds } = this.plane;
    if (step) {
      const from = this.finger || bounds.map(([low, high]) => (low + high) / 2), share = event.shiftKey ? 0.08 : 0.02;
      this.to(from.map((value, axis) => {
        const [low, high] = bounds[axis];
        return Math.min(high, Math.max(low, value + step[axis] * share * (high - low)));
      }));
      this.onStep();
    } else if (event.key === "Enter" || event.key === " ") {
      const number = this.finger ? this.pointAt(this.pixel(this.finger), 1e6) : -1;
      if (number >= 0) this.onPick(number);
    } else return;
    event.preventDefault();
  }

  /** Draws with the next frame, however often it is asked for. */
  draw() {
    if (this.drawing || !this.plane) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = 0;
      if (this.width) this.drawNow();
    });
  }

  drawNow() {
    const scale = window.devicePixelRatio || 1, context = this.canvas.getContext("2d");
    this.canvas.width = Math.round(this.width * scale);
    this.canvas.height = Math.round(this.height * scale);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink"), ground = style.getPropertyValue("--map");
    const radius = Math.max(2.5, Math.min(4.5, 90 / Math.sqrt(this.plane.places.length)));
    context.drawImage(this.pointsOf(scale, radius), 0, 0, this.width, this.height);
    if (this.hovered >= 0) this.drawRing(context, this.hovered, radius + 2, ink);
    this.marks.forEach((number, i) => {
      if (number >= 0) this.drawMark(context, number, "AB"[i], radius + 3, ink, ground);
    });
    if (this.finger) this.drawFinger(context, ink, ground);
  }

  /** The points, which are drawn anew only where they have changed: a finger moves over the same ones. */
  pointsOf(scale, radius) {
    const { plane, shown, width, height } = this, key = [width, height, scale, plane.name, plane.pair, shown].join();
    if (this.points && this.points.key === key) return this.points.canvas;
    const canvas = element("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    plane.places.forEach((place, number) => {
      const [x, y] = this.pixel(place), faint = shown !== null && this.labels[number] !== shown;
      context.globalAlpha = faint ? 0.08 : 0.78;
      context.fillStyle = colorOf(this.labels[number]);
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.fill();
    });
    this.points = { key, canvas };
    return canvas;
  }

  drawRing(context, number, radius, ink) {
    const [x, y] = this.pixel(this.plane.places[number]);
    context.lineWidth = 2;
    context.strokeStyle = ink;
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.stroke();
    return [x, y];
  }

  drawMark(context, number, letter, radius, ink, ground) {
    const [x, y] = this.drawRing(context, number, radius, ink), across = x > this.width - 30 ? -1 : 1;
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = across < 0 ? "right" : "left";
    context.lineWidth = 3;
    context.strokeStyle = ground;
    context.fillStyle = ink;
    context.strokeText(letter, x + 11 * across, y + 4);
    context.fillText(letter, x + 11 * across, y + 4);
  }

  drawFinger(context, ink, ground) {
    const [x, y] = this.pixel(this.finger);
    if (this.lens && this.lens.width) {
      const wide = 60 * Math.min(1, this.lens.width / this.lens.height), high = (wide * this.lens.height) / this.lens.width;
      const left = Math.min(this.width - wide - 6, Math.max(6, x - wide / 2)), top = y - high - 16 > 6 ? y - high - 16 : y + 16;
      context.fillStyle = ground;
      context.strokeStyle = ink;
      context.lineWidth = 1.5;
      context.beginPath();
      context.rect(left - 3, top - 3, wide + 6, high + 6);
      context.fill();
      context.stroke();
      context.imageSmoothingEnabled = this.lens.width >= 64;
      context.drawImage(this.lens, left, top, wide, high);
    }
    context.beginPath();
    context.arc(x, y, 5, 0, 7);
    context.fillStyle = ink;
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = ground;
    context.stroke();
  }
}
