/** A history's terms as curves: one small chart for each, of training and of validation. */
function drawCurves(box, history) {
  const titles = { loss: "loss", reconstruction: "reconstruction", kl: "KL" };
  for (const [name, title] of Object.entries(titles)) {
    const lines = [[name, "training", PALETTE[0]], [`val_${name}`, "validation", PALETTE[1]]]
      .filter(([column]) => (history[column] || []).filter(Number.isFinite).length > 1);
    if (lines.length) box.append(element("div", {}, heading(title), chart(lines, history, title)));
  }
  return box.childElementCount > 0;
}

function heading(text) {
  return element("h3", {}, `${text}, nats per image`);
}

function drawn(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function chart(lines, history, title) {
  const svg = drawn("svg", { viewBox: "0 0 300 170", role: "img", "aria-label": `${title} by epoch` });
  const count = Math.max(...lines.map(([column]) => history[column].length));
  const late = lines.flatMap(([column]) => history[column].slice(count > 3 ? Math.max(1, Math.floor(count / 20)) : 0)).filter(Number.isFinite);
  const low = Math.min(...late), high = Math.max(...late), span = high - low || 1;
  const x = (i) => 40 + (i / Math.max(1, count - 1)) * 190, y = (value) => 10 + (1 - (value - low) / span) * 130;
  const digits = span < 10 ? 1 : 0;
  for (const value of [low, (low + high) / 2, high]) {
    svg.append(drawn("line", { class: "axis", x1: 40, x2: 230, y1: y(value), y2: y(value) }));
    svg.append(drawn("text", { x: 34, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(digits)));
  }
  svg.append(drawn("text", { x: 40, y: 160 }, "epoch 1"));
  svg.append(drawn("text", { x: 230, y: 160, "text-anchor": "end" }, String(count)));
  const ends = [];
  for (const [column, label, color] of lines) {
    const values = history[column], path = values
      .map((value, i) => (Number.isFinite(value) && value <= high + span && value >= low - span ? `${x(i).toFixed(1)},${y(value).toFixed(1)}` : null))
      .filter(Boolean).join(" ");
    svg.append(drawn("polyline", { points: path, fill: "none", stroke: color, "stroke-width": 2, "stroke-linejoin": "round" }));
    let at = y(values.filter(Number.isFinite).pop()) + 4;
    if (ends.some((other) => Math.abs(other - at) < 13)) at = ends[0] + (at > ends[0] ? 13 : -13);
    ends.push(at);
    const name = drawn("text", { x: 236, y: at }, label);
    name.style.fill = color;
    svg.append(name);
  }
  return svg;
}

/** A card's names and values; all of it as text, since it may come from a stranger. */
function fillCard(list, card) {
  for (const [name, value] of Object.entries(card)) {
    if (value === null || value === undefined) continue;
    const shown = element("dd", { dir: "auto" });
    if (Array.isArray(value)) shown.textContent = value.map(String).join(", ");
    else if (typeof value === "object") {
      const inner = element("dl"), facts = Object.keys(value).length;
      fillCard(inner, value);
      if (inner.childElementCount)
        shown.append(element("details", {}, element("summary", {}, facts === 1 ? "1 fact" : `${facts} facts`), inner));
    } else shown.textContent = String(value);
    if (shown.textContent) list.append(element("dt", { dir: "auto" }, name.replaceAll("_", " ")), shown);
  }
}

/** Paper to draw on, and a place to drop a file. */
class Paper {
  constructor(canvas, section, shape, background, onChange) {
    const [height, width] = shape;
    Object.assign(this, { canvas, shape, background, onChange });
    canvas.width = 280 * Math.min(1, width / height);
    canvas.height = (canvas.width * height) / width;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.small = element("canvas", { width, height });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.last = this.at(event);
      this.line(this.last);
    });
    canvas.addEventListener("pointermove", (event) => { if (this.last) this.line(this.at(event)); });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { this.last = null; });
    section.addEventListener("dragover", (event) => { event.preventDefault(); section.classList.add("over"); });
    section.addEventListener("dragleave", () => section.classList.remove("over"));
    section.addEventListener("drop", (event) => {
      event.preventDefault();
      section.classList.remove("over");
      this.open(event.dataTransfer.files[0]);
    });
    this.clear();
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * this.canvas.width,
      ((event.clientY - box.top) / box.height) * this.canvas.height,
    ];
  }

  line(to) {
    const from = this.last;
    this.context.strokeStyle = by("ink").value;
    this.context.lineWidth = this.canvas.width / 13;
    this.context.lineCap = "round";
    this.context.beginPath();
    this.context.moveTo(...from);
    this.context.lineTo(to[0] + 0.01, to[1]);
    this.context.stroke();
    this.last = to;
    this.onChange();
  }

  clear() {
    this.context.fillStyle = this.background;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** The middle of a picture, as large as can be. */
  async open(file) {
    if (!file) return;
    let picture;
    try {
      picture = await createImageBitmap(file);
    } catch {
      say("This file is no picture that the browser can read.");
      by("own-facts").textContent = "This file is no picture that the browser can read.";
      return;
    }
    const scale = Math.max(this.canvas.width / picture.width, this.canvas.height / picture.height);
    const width = picture.width * scale, height = picture.height * scale;
    this.clear();
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(picture, (this.canvas.width - width) / 2, (this.canvas.height - height) / 2, width, height);
    this.onChange();
  }

  /** What is on the paper, at the size of the model's images. */
  values() {
    const context = this.small.getContext("2d", { willReadFrequently: true });
    let from = this.canvas;
    while (from.width > 2 * this.small.width) from = halved(from);
    context.imageSmoothingQuality = "high";
    context.drawImage(from, 0, 0, this.small.width, this.small.height);
    return valuesOf(this.small, this.shape);
  }
}

function halved(canvas) {
  const small = element("canvas", { width: canvas.width >> 1, height: canvas.height >> 1 });
  small.getContext("2d").drawImage(canvas, 0, 0, small.width, small.height);
  return small;
}

function say(text) {
  by("status").textContent = text;
}
