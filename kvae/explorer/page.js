/** The page: what is shown is one state, and each part of the page a way to change it. */
class Page {
  constructor(data, sheet, made) {
    this.data = data;
    this.sheet = sheet;
    this.made = made;
    this.model = new Model(data.model, fromBase64(data.weights));
    const width = this.model.latent_dim, means = this.model.tensors.get(data.means);
    this.means = data.labels.map((_, i) => means.subarray(i * width, (i + 1) * width));
    this.order = Array.from(data.kl.keys()).sort((a, b) => data.kl[b] - data.kl[a]);
    this.planes = data.planes.map((plane) => new Plane(plane, this.means));
    const names = width > 2 ? "Two latents" : "The latents", pair = this.order.slice(0, 2).sort((a, b) => a - b);
    if (width > 1) this.planes.push(new Plane({ name: names, pair, places: [] }, this.means));
    this.state = {
      plane: 0, z: new Float32Array(width), class: 0, marks: [0, this.another(0)], t: 0, temperature: 1, seed: 1,
    };
    this.tasks = [];
  }

  /** The first image of another class than this one's. */
  another(number) {
    return Math.max(Math.min(1, this.data.labels.length - 1), this.data.labels.findIndex((label) => label !== this.data.labels[number]));
  }

  nameOf(label) {
    return label < 0 ? "" : this.data.class_names[label] ?? String(label);
  }

  get plane() { return this.planes[this.state.plane]; }

  /** What the model is told of the class: between two classes, a part of each. */
  get context() {
    return this.contextOf(this.state.class);
  }

  contextOf(number) {
    const size = this.model.context_dim, low = Math.floor(number), rest = number - low;
    return Float32Array.from({ length: size }, (_, i) => (i === low ? 1 - rest : i === low + 1 ? rest : 0));
  }

  contextOfImage(number) {
    return this.model.context_dim && this.data.classes ? this.contextOf(this.data.classes[number]) : this.context;
  }

  start() {
    const { data, model } = this;
    by("title").textContent = data.title;
    document.title = `${data.title} · kvae explorer`;
    const [height, width] = model.image_shape, latents = model.latent_dim;
    by("lede").textContent = `A variational autoencoder of ${width}×${height} images with ${latents} latents. ` +
      (model.decodes ? "Drag over the map: the decoder draws what lies under your finger." : "Each point is a test image.");
    for (const note of data.notes) by("notes").append(element("li", {}, note));
    fillCard(by("card"), data.card);
    by("training").hidden = !(data.history && drawCurves(by("curves"), data.history));
    this.map = new PlaneMap(by("plane"), {
      labels: data.labels,
      onMove: (place) => this.drag(place),
      onHover: (number) => this.lookAt(number < 0 ? this.state.marks[0] : number),
      onPick: (number) => this.pick(number),
    });
    this.map.lens = by("picture");
    this.addPlanes();
    this.addLegend();
    this.addSlide();
    this.addClass();
    this.addSliders();
    this.addSamples();
    this.addOwn();
    window.addEventListener("hashchange", () => { if (location.hash !== this.written) this.restore(); });
    this.restore();
  }

  // What lasts longer than a frame is done bit by bit.

  later(kind, task) {
    this.tasks = this.tasks.filter((other) => other.kind !== kind || !task);
    if (task) this.tasks.push(...task.map((run) => ({ kind, run })));
    if (!this.working) this.work();
  }

  work() {
    this.working = true;
    setTimeout(() => {
      const end = performance.now() + 10;
      while (this.tasks.length && performance.now() < end) this.tasks.shift().run();
      if (this.tasks.length) this.work();
      else this.working = false;
    });
  }

  /** Shows the state with the next frame, however often it changed before. */
  show(caption) {
    if (caption !== undefined) by("caption").textContent = caption;
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.decodeShown();
      this.map.draw();
      this.sliders.forEach(({ latent, input, output }) => {
        input.value = this.state.z[latent];
        output.textContent = this.state.z[latent].toFixed(2);
      });
      clearTimeout(this.writing);
      this.writing = setTimeout(() => this.write(), 250);
    });
  }

  decodeShown() {
    const { model, state } = this;
    if (model.decodes) paint(by("picture"), model.decode(state.z, this.context), model.image_shape);
    else this.made.draw(by("picture"), nearest(this.means, state.z, 1)[0][0]);
  }

  rebuilt(canvas, number) {
    const { model } = this;
    if (model.decodes) paint(canvas, model.decode(this.means[number], this.contextOfImage(number)), model.image_shape);
    else this.made.draw(canvas, number);
  }

  drag(place) {
    const { plane } = this;
    this.state.z = plane.latentsAt(place, this.state.z);
    if (plane.mixes && this.data.classes) this.setClass(this.data.classes[nearest(plane.places, place, 1)[0][0]]);
    this.show(this.model.decodes ? "decoded from the latents under your finger" : "the reconstruction nearest to your finger");
  }

  /** A test image becomes what is shown, and one end of the way between two. */
  pick(number) {
    const { marks } = this.state;
    this.state.marks = [number, marks[0] === number ? marks[1] : marks[0]];
    this.goTo(this.means[number]);
    if (this.data.classes) this.setClass(this.data.classes[number]);
    this.state.t = 0;
    this.lookAt(number);
    this.showWay();
    const name = this.nameOf(this.data.labels[number]);
    this.show(`the reconstruction of test image ${number + 1}`);
    say(`Test image ${number + 1}${name && `, ${name}`}, ${this.scoreOf(number)}`);
  }

  goTo(z) {
    this.state.z = Float32Array.from(z);
    this.map.finger = this.plane.placeOf(z);
  }

  scoreOf(number) {
    return `${this.data.scores[number].toFixed(1)} nats`;
  }

  lookAt(number) {
    this.sheet.draw(by("original"), number);
    this.later("look", [() => this.rebuilt(by("rebuilt"), number)]);
    by("near-name").textContent = this.nameOf(this.data.labels[number]) || `test image ${number + 1}`;
    by("near-score").textContent = `−ELBO ${this.scoreOf(number)}`;
    this.fillNear(by("neighbours"), this.means[number], number);
  }

  fillNear(strip, z, except = -1) {
    const found = nearest(this.means, z, 6).map(([number]) => number).filter((number) => number !== except).slice(0, 5);
    strip.replaceChildren(...found.map((number) => {
      const label = `Test image ${number + 1} ${this.nameOf(this.data.labels[number])}`.trim();
      const canvas = element("canvas", { class: "cell", role: "img", "aria-label": label });
      this.sheet.draw(canvas, number);
      return canvas;
    }));
  }

  // The parts of the page.

  addPlanes() {
    this.planes.forEach((plane, i) => {
      const button = element("button", { type: "button", role: "radio", "aria-checked": "false" }, plane.name);
      button.addEventListener("click", () => this.choosePlane(i));
      button.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        this.choosePlane((i + step + this.planes.length) % this.planes.length);
        by("planes").children[this.state.plane].focus();
      });
      by("planes").append(button);
    });
    for (const [axis, id] of ["across", "up"].entries()) {
      for (const latent of this.order)
        by(id).append(element("option", { value: latent }, `latent ${latent + 1}`));
      by(id).addEventListener("change", () => {
        this.planes[this.planes.length - 1].pair[axis] = Number(by(id).value);
        this.choosePlane(this.state.plane);
      });
    }
  }

  choosePlane(number) {
    this.state.plane = number;
    const { plane } = this;
    Array.from(by("planes").children).forEach((button, i) => {
      button.setAttribute("aria-checked", String(i === number));
      button.tabIndex = i === number ? 0 : -1;
    });
    by("axes").hidden = !plane.pair || this.model.latent_dim < 3;
    if (plane.pair) {
      plane.places = this.means.map((mean) => plane.pair.map((latent) => mean[latent]));
      plane.known = null;
      [by("across").value, by("up").value] = plane.pair;
    }
    by("hint").textContent = plane.hint || "Across and up are these two latents; the others stay where they are.";
    this.map.plane = plane;
    this.map.hovered = -1;
    this.map.finger = plane.placeOf(this.state.z);
    this.show();
  }

  addLegend() {
    const labels = [...new Set(this.data.labels)].filter((label) => label >= 0).sort((a, b) => a - b);
    by("legend").hidden = labels.length < 2;
    for (const label of labels) {
      const dot = element("span", { class: "dot" });
      dot.style.background = colorOf(label);
      const button = element("button", { type: "button", "aria-pressed": "false", title: this.nameOf(label) },
        dot, element("bdi", {}, this.nameOf(label)));
      button.addEventListener("click", () => {
        this.map.shown = this.map.shown === label ? null : label;
        for (const other of by("legend").children)
          other.setAttribute("aria-pressed", String(other === button && this.map.shown !== null));
        this.map.draw();
      });
      by("legend").append(button);
    }
  }

  addSlide() {
    by("slide").addEventListener("input", () => {
      this.state.t = Number(by("slide").value);
      this.goTo(this.between(this.state.t));
      if (this.data.classes) {
        const [a, b] = this.state.marks.map((mark) => this.data.classes[mark]);
        this.setClass(this.state.t < 0.5 ? a : b);
      }
      this.show(`${Math.round(100 * this.state.t)} % of the way from A to B`);
    });
  }

  between(t) {
    const [a, b] = this.state.marks.map((mark) => this.means[mark]);
    return a.map((value, i) => (1 - t) * value + t * b[i]);
  }

  /** With the classes of the ends mixed too, so that the way has no jump. */
  contextBetween(t) {
    const [a, b] = this.state.marks.map((mark) => this.contextOfImage(mark));
    return a.map((value, i) => (1 - t) * value + t * b[i]);
  }

  showWay() {
    const { marks } = this.state;
    this.map.marks = marks;
    by("slide").value = this.state.t;
    this.sheet.draw(by("first"), marks[0]);
    this.sheet.draw(by("second"), marks[1]);
    by("way").hidden = !this.model.decodes;
    if (!this.model.decodes) return;
    const cells = this.cells(by("way"), 9, "Between the two images");
    this.later("way", cells.map((canvas, i) => () =>
      paint(canvas, this.model.decode(this.between(i / 8), this.contextBetween(i / 8)), this.model.image_shape)));
  }

  cells(strip, count, label) {
    while (strip.childElementCount < count)
      strip.append(element("canvas", { class: "cell", role: "img", "aria-label": `${label}, ${strip.childElementCount + 1} of ${count}` }));
    return Array.from(strip.children);
  }

  addClass() {
    const { classes } = this.data;
    by("told").hidden = !(classes && this.model.decodes);
    by("class").max = Math.max(1, this.model.context_dim - 1);
    by("class").addEventListener("input", () => {
      this.setClass(Number(by("class").value));
      this.show();
      this.showSamples();
    });
  }

  setClass(number) {
    this.state.class = number;
    const low = Math.floor(number), rest = number - low;
    const text = rest < 0.025 ? this.nameOf(low)
      : `${this.nameOf(low)} ${Math.round(100 * (1 - rest))} %, ${this.nameOf(low + 1)} ${Math.round(100 * rest)} %`;
    by("class").value = number;
    by("class").setAttribute("aria-valuetext", text);
    by("class-name").textContent = text;
  }

  addSliders() {
    this.sliders = [];
    by("one-by-one").hidden = !this.model.decodes;
    const few = Math.min(this.order.length, 12), most = this.data.kl[this.order[0]] || 1;
    const farthest = (latent) => Math.max(3, ...this.means.map((mean) => Math.abs(mean[latent])));
    const add = (latent) => {
      const id = `latent-${latent}`, kl = this.data.kl[latent], bar = element("span");
      const end = 1.1 * farthest(latent);
      const input = element("input", { id, type: "range", min: -end, max: end, step: end / 200 });
      const output = element("output", { for: id });
      bar.style.width = `${Math.max(0, (100 * kl) / most)}%`;
      const label = element("label", { for: id }, `latent ${latent + 1} · ${kl.toFixed(2)} nats`);
      input.addEventListener("input", () => {
        this.state.z[latent] = Number(input.value);
        this.map.finger = this.plane.placeOf(this.state.z);
        this.show(`latent ${latent + 1} at ${Number(input.value).toFixed(2)}`);
      });
      by("sliders").append(element("div", { class: "slider" }, label, output, input, element("div", { class: "meter" }, bar)));
      this.sliders.push({ latent, input, output });
    };
    this.order.slice(0, few).forEach(add);
    by("more").hidden = few === this.order.length;
    by("more").textContent = `Show all ${this.order.length}`;
    by("more").addEventListener("click", () => {
      this.order.slice(few).forEach(add);
      by("more").hidden = true;
      this.show();
    });
    by("middle").addEventListener("click", () => {
      this.goTo(new Float32Array(this.model.latent_dim));
      this.show("the middle of the prior");
    });
  }

  addSamples() {
    by("new").hidden = !this.model.draws || !this.model.decodes;
    by("temperature").addEventListener("input", () => {
      this.state.temperature = Number(by("temperature").value);
      this.showSamples();
      this.show();
    });
    by("again").addEventListener("click", () => {
      this.state.seed = (this.state.seed % 9999) + 1;
      this.showSamples();
      this.show();
    });
  }

  showSamples() {
    by("temperature").value = this.state.temperature;
    by("temperature-value").textContent = this.state.temperature.toFixed(2);
    if (by("new").hidden) return;
    const random = randomFrom(this.state.seed);
    this.later("samples", this.cells(by("samples"), 20, "New image").map((canvas) => {
      const noise = normalFrom(random, this.model.latent_dim);
      return () => {
        const warm = noise.map((value) => value * this.state.temperature), { context } = this;
        const z = this.model.fromNoise(warm, context);
        paint(canvas, this.model.decode(z, context), this.model.image_shape);
        canvas.onclick = () => {
          this.goTo(z);
          this.show("a new image");
        };
      };
    }));
  }

  addOwn() {
    by("own").hidden = !this.model.encodes;
    by("ink-label").hidden = this.model.image_shape[2] === 1;
    const show = () => this.later("own", [() => this.encodeOwn()]);
    this.paper = new Paper(by("paper"), by("own"), this.model.image_shape, this.data.background, show);
    by("clear").addEventListener("click", () => {
      this.paper.clear();
      show();
    });
    by("file").addEventListener("change", () => this.paper.open(by("file").files[0]));
  }

  encodeOwn() {
    const { model } = this, image = this.paper.values();
    const seen = model.likelihood.threshold ? image.map((value) => (value >= 0.5 ? 1 : 0)) : image;
    for (const figure of document.querySelectorAll(".made")) figure.hidden = false;
    paint(by("seen"), seen, model.image_shape);
    const [z, context, label] = this.likeliest(image);
    if (model.decodes) paint(by("own-rebuilt"), model.decode(z, context), model.image_shape);
    else this.made.draw(by("own-rebuilt"), nearest(this.means, z, 1)[0][0]);
    this.fillNear(by("own-near"), z);
    by("own-facts").textContent = label < 0 ? "nearest test images" : `taken for ${this.nameOf(label)}; nearest test images`;
    this.goTo(z);
    if (label >= 0) this.setClass(label);
    this.show("the reconstruction of your image");
  }

  /** Latents of an image; where the model is told a class, of the one that explains it best.
   *  For that, pixels are taken for Bernoulli's and the prior for N(0, I), whatever they are. */
  likeliest(image) {
    const { model } = this;
    if (!(this.data.classes && model.decodes)) return [model.encode(image, this.context)[0], this.context, -1];
    let best = null;
    for (let label = 0; label < Math.min(model.context_dim, 20); label++) {
      const context = this.contextOf(label), [mean, logVariance] = model.encode(image, context);
      const made = model.decode(mean, context);
      let cost = 0;
      for (let i = 0; i < made.length; i++) {
        const p = Math.min(1 - 1e-6, Math.max(1e-6, made[i])), x = model.likelihood.threshold ? Number(image[i] >= 0.5) : image[i];
        cost -= x * Math.log(p) + (1 - x) * Math.log(1 - p);
      }
      for (let i = 0; i < mean.length; i++) cost += 0.5 * (mean[i] ** 2 + Math.exp(logVariance[i]) - logVariance[i] - 1);
      if (!best || cost < best[3]) best = [mean, context, label, cost];
    }
    return best;
  }

  // A link holds the state.

  write() {
    const { plane, z, marks, t, temperature, seed } = this.state;
    const values = new URLSearchParams({
      plane, z: Array.from(z, (value) => +value.toFixed(2)).join(","), class: this.state.class,
      pair: (this.planes[this.planes.length - 1].pair || []).join(","), marks: marks.join(","), t, temperature, seed,
    });
    this.written = `#${decodeURIComponent(values.toString())}`;
    by("link").setAttribute("href", this.written);
    try {
      history.replaceState(null, "", this.written);
    } catch {
      // within a notebook there is no address to change
    }
  }

  restore() {
    const given = new URLSearchParams(location.hash.slice(1)), { state, means } = this;
    const numbers = (name) => (given.get(name) || "").split(",").map(Number);
    const within = (name, low, high, otherwise) => {
      const value = Number(given.get(name));
      return given.has(name) && value >= low && value <= high ? value : otherwise;
    };
    const whole = (value, count) => Number.isInteger(value) && value >= 0 && value < count;
    state.plane = Math.floor(within("plane", 0, this.planes.length - 1, 0));
    state.t = within("t", 0, 1, 0);
    state.temperature = within("temperature", 0, 1.5, 1);
    state.seed = Math.floor(within("seed", 1, 9999, 1));
    const marks = numbers("marks"), z = numbers("z"), pair = numbers("pair"), last = this.planes[this.planes.length - 1];
    if (marks.length === 2 && marks.every((mark) => whole(mark, means.length))) state.marks = marks;
    if (last.pair && pair.length === 2 && pair.every((latent) => whole(latent, state.z.length))) last.pair = pair;
    const isRow = given.has("z") && z.length === state.z.length && z.every(Number.isFinite);
    state.z = Float32Array.from(isRow ? z : means[state.marks[0]]);
    const first = this.data.classes ? this.data.classes[state.marks[0]] : 0;
    this.setClass(within("class", 0, Math.max(0, this.model.context_dim - 1), first));
    this.choosePlane(state.plane);
    this.lookAt(state.marks[0]);
    this.showWay();
    this.showSamples();
    this.show(isRow ? "" : `the reconstruction of test image ${state.marks[0] + 1}`);
  }
}

async function main() {
  const data = JSON.parse(by("data").textContent);
  const shape = data.model.image_shape;
  const sheet = await Sheet.read(data.images, shape, data.columns);
  const made = data.made ? await Sheet.read(data.made, shape, data.columns) : null;
  const page = new Page(data, sheet, made);
  page.start();
  return page;
}

const ready = main();
