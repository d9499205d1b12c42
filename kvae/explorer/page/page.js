/** The page: what is shown is one state, and each part of the page a way to change it. */
class Page {
  constructor(data, sheet, made) {
    this.data = data;
    this.sheet = sheet;
    this.made = made;
    this.shape = data.model.image_shape;
    this.runner = new Runner(data.model, fromBase64(data.weights), by("engine").textContent);
    this.queue = new Queue();
    const width = data.model.latent_dim, means = new Float32Array(fromBase64(data.means));
    this.means = data.labels.map((_, i) => means.subarray(i * width, (i + 1) * width));
    this.order = Array.from(data.kl.keys()).sort((a, b) => data.kl[b] - data.kl[a]);
    this.state = {
      plane: 0, z: this.means[0], context: this.contextOf(0), marks: [0, this.another(0)], t: 0,
      temperature: 1, seed: 1, label: null,
    };
  }

  /** The first image of another class than this one's. */
  another(number) {
    const { labels } = this.data, found = labels.findIndex((label) => label !== labels[number]);
    return Math.max(Math.min(1, labels.length - 1), found);
  }

  /** The name of a label of the data set. */
  nameOf(label) {
    return label < 0 ? "" : this.data.class_names[label] ?? String(label);
  }

  /** The name of a class of the model. */
  classOf(number) {
    return this.data.model_classes[number] ?? String(number);
  }

  /** What the model is told of a class: between two classes, a part of each. */
  contextOf(number) {
    const low = Math.floor(number), rest = number - low;
    return Float32Array.from({ length: this.data.model.context_dim }, (_, i) => (i === low ? 1 - rest : i === low + 1 ? rest : 0));
  }

  contextOfImage(number) {
    return this.contextOf(this.data.classes ? this.data.classes[number] : 0);
  }

  start() {
    const { data, runner } = this, [height, width] = this.shape, latents = data.model.latent_dim;
    by("title").textContent = data.title;
    document.title = `${data.title} · kvae explorer`;
    by("lede").textContent = `A variational autoencoder of ${width}×${height} images with ${latents} ${latents > 1 ? "latents" : "latent"}. ` +
      (runner.decodes ? "Drag over the map: the decoder draws what lies under your finger." : "Each point is a test image.");
    for (const note of data.notes) by("notes").append(element("li", {}, note));
    by("near-note").textContent = data.classes ? "−ELBO, given the class" : "−ELBO";
    fillCard(by("card"), data.card);
    by("training").hidden = !(data.history && drawCurves(by("curves"), data.history));
    this.map = new PlaneMap(by("plane"), {
      labels: data.labels,
      onMove: (place) => this.drag(place),
      onHover: (number) => this.lookAt(number < 0 ? this.state.marks[0] : number),
      onPick: (number) => this.pick(number),
      onStep: () => this.tellPlace(),
    });
    this.map.lens = by("picture");
    this.planes = new Planes(this);
    this.way = new Way(this);
    this.classes = new Classes(this);
    this.sliders = new Sliders(this);
    this.samples = new Samples(this);
    this.own = new Own(this);
    this.link = new Link(this);
    this.link.restore();
  }

  /** Whether something is still to be computed or drawn. */
  get busy() {
    return Boolean(this.waiting || this.queue.working || this.link.later || this.map.drawing);
  }

  get plane() { return this.planes.chosen; }

  /** Shows the state with the next frame, however often it changed before. */
  show(caption) {
    if (caption !== undefined) write(by("caption"), caption);
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.queue.put("picture", [() => this.drawPicture()], true);
      this.map.draw();
      this.sliders.show();
      this.link.write();
    });
  }

  async drawPicture() {
    await this.decodeOnto(by("picture"), this.state.z, this.state.context);
    this.map.draw();
  }

  /** What latents are decoded as; where nothing is decoded, the nearest that was made beforehand. */
  async decodeOnto(canvas, z, context) {
    if (this.runner.decodes) paint(canvas, await this.runner.ask("decode", z, context), this.shape);
    else this.made.draw(canvas, nearest(this.means, z, 1)[0][0]);
  }

  drag(place) {
    const { plane } = this;
    this.state.z = plane.latentsAt(place, this.state.z);
    if (plane.mixes) this.classes.set(this.contextOfImage(nearest(plane.places, place, 1)[0][0]));
    this.show(this.runner.decodes ? "decoded from the latents under your finger" : "the reconstruction nearest to your finger");
  }

  /** Says where keys have led to, once they rest. */
  tellPlace() {
    clearTimeout(this.telling);
    this.telling = setTimeout(() => {
      const [[number]] = nearest(this.plane.places, this.map.finger, 1);
      say(`Near test image ${number + 1} ${this.nameOf(this.data.labels[number])}`);
    }, 400);
  }

  /** A test image becomes what is shown, and one end of the way between two. */
  pick(number) {
    const { marks } = this.state;
    this.state.marks = [number, marks[0] === number ? marks[1] : marks[0]];
    this.state.t = 0;
    this.goTo(this.means[number], this.contextOfImage(number));
    this.lookAt(number);
    this.way.show();
    const name = this.nameOf(this.data.labels[number]);
    this.show(`the reconstruction of test image ${number + 1}`);
    say(`Test image ${number + 1}${name && `, ${name}`}, ${this.scoreOf(number)}`);
  }

  goTo(z, context = this.state.context) {
    this.state.z = Float32Array.from(z);
    this.map.finger = this.plane.placeOf(this.state.z);
    this.classes.set(context);
  }

  scoreOf(number) {
    const score = this.data.scores[number];
    return score === null ? "no finite score" : `${score.toFixed(1)} nats`;
  }

  /** A test image, its reconstruction, its score and its neighbours. */
  lookAt(number) {
    this.sheet.draw(by("original"), number);
    this.queue.put("look", [() => this.decodeOnto(by("rebuilt"), this.means[number], this.contextOfImage(number))]);
    write(by("near-name"), this.nameOf(this.data.labels[number]) || `test image ${number + 1}`);
    write(by("near-score"), this.scoreOf(number));
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
}

async function main() {
  const data = JSON.parse(by("data").textContent), shape = data.model.image_shape;
  const sheet = await Sheet.read(data.images, shape, data.columns);
  const page = new Page(data, sheet, data.made ? await Sheet.read(data.made, shape, data.columns) : null);
  page.start();
  return page;
}

const ready = main();
ready.catch((error) => {
  by("failed").hidden = false;
  console.error(error);
});
