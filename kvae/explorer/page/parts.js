/** The way from one test image to another: a slider, and a strip. */
class Way {
  constructor(page) {
    this.page = page;
    by("slide").addEventListener("input", () => {
      const t = page.state.t = Number(by("slide").value);
      page.goTo(...this.at(t));
      page.show(`${Math.round(100 * t)} % of the way from A to B`);
    });
  }

  /** Latents and context of a share of the way; the classes of the ends are mixed too. */
  at(t) {
    const { means, state: { marks: [a, b] } } = this.page;
    const between = (from, to) => from.map((value, i) => (1 - t) * value + t * to[i]);
    return [between(means[a], means[b]), between(this.page.contextOfImage(a), this.page.contextOfImage(b))];
  }

  show() {
    const { page } = this, { marks, t } = page.state;
    page.map.marks = marks;
    by("slide").value = t;
    page.sheet.draw(by("first"), marks[0]);
    page.sheet.draw(by("second"), marks[1]);
    by("way").hidden = !page.runner.decodes;
    if (!page.runner.decodes) return;
    page.queue.put("way", cells(by("way"), 9, "Between the two images")
      .map((canvas, i) => () => page.decodeOnto(canvas, ...this.at(i / 8))));
  }
}

/** The class of a conditional model. */
class Classes {
  constructor(page) {
    this.page = page;
    by("told").hidden = !(page.data.classes && page.runner.decodes);
    by("class").max = Math.max(1, page.data.model.context_dim - 1);
    by("class").addEventListener("input", () => {
      this.set(page.contextOf(Number(by("class").value)));
      page.show();
      page.samples.show();
    });
  }

  set(context) {
    const { page } = this;
    page.state.context = context;
    if (!page.data.classes) return;
    const text = this.nameOf(context), last = context.length - 1;
    const first = context.findIndex((share) => share > 0), beside = first < last ? context[first + 1] : 0;
    by("class").value = first + beside; // of classes that are not neighbours, the first
    by("class").setAttribute("aria-valuetext", text);
    write(by("class-name"), text);
  }

  nameOf(context) {
    const parts = Array.from(context.entries()).filter(([, share]) => share >= 0.025);
    if (parts.length === 1) return this.page.classOf(parts[0][0]);
    return parts.map(([number, share]) => `${this.page.classOf(number)} ${Math.round(100 * share)} %`).join(", ");
  }
}

const signed = (value) => value.toFixed(2).replace("-", "−");

/** A slider for each latent, most KL first. */
class Sliders {
  constructor(page) {
    this.page = page;
    this.all = [];
    by("one-by-one").hidden = !page.runner.decodes;
    by("kl-of").textContent = page.data.kl_of;
    const few = Math.min(page.order.length, 12);
    page.order.slice(0, few).forEach((latent) => this.add(latent));
    by("more").hidden = few === page.order.length;
    by("more").textContent = `Show all ${page.order.length}`;
    by("more").addEventListener("click", () => {
      page.order.slice(few).forEach((latent) => this.add(latent));
      by("more").hidden = true;
      page.show();
    });
    by("middle").addEventListener("click", () => this.toMiddle());
  }

  add(latent) {
    const { page } = this, { data, means, order } = page, id = `latent-${latent}`, kl = data.kl[latent];
    const end = 1.1 * means.reduce((most, mean) => Math.max(most, Math.abs(mean[latent])), 3);
    const input = element("input", { id, type: "range", min: -end, max: end, step: end / 200 });
    const value = element("span", { "aria-hidden": "true" }), bar = element("span");
    bar.style.width = `${Math.max(0, (100 * kl) / (data.kl[order[0]] || 1))}%`;
    const label = element("label", { for: id }, `latent ${latent + 1} · ${kl.toFixed(2)} nats`);
    input.addEventListener("input", () => {
      page.state.z = page.state.z.slice();
      page.state.z[latent] = Number(input.value);
      page.map.finger = page.plane.placeOf(page.state.z);
      page.show(`latent ${latent + 1} at ${signed(Number(input.value))}`);
    });
    by("sliders").append(element("div", { class: "slider" }, label, value, input, element("div", { class: "meter" }, bar)));
    this.all.push({ latent, input, value });
  }

  show() {
    const { z } = this.page.state;
    for (const { latent, input, value } of this.all) {
      input.value = z[latent];
      write(value, signed(z[latent]));
    }
  }

  /** What noise of zero becomes: the prior's middle. */
  toMiddle() {
    const { page } = this, zeros = new Float32Array(page.data.model.latent_dim);
    page.queue.put("middle", [async () => {
      page.goTo(page.runner.draws ? await page.runner.ask("fromNoise", zeros, page.state.context) : zeros);
      page.show(page.runner.draws ? "the middle of the prior" : "all latents at 0");
    }], true);
  }
}

/** New images, drawn from the prior. */
class Samples {
  constructor(page) {
    this.page = page;
    by("new").hidden = !(page.runner.draws && page.runner.decodes);
    by("temperature").addEventListener("input", () => {
      page.state.temperature = Number(by("temperature").value);
      this.show();
      page.link.write();
    });
    by("again").addEventListener("click", () => {
      page.state.seed = (page.state.seed % 9999) + 1;
      this.show();
      page.link.write();
    });
  }

  show() {
    const { page } = this, { temperature, seed, context } = page.state;
    by("temperature").value = temperature;
    write(by("temperature-value"), temperature.toFixed(2));
    if (by("new").hidden) return;
    const random = randomFrom(seed), name = page.data.classes ? page.classes.nameOf(context) : "";
    write(by("samples-of"), name && `These are of class ${name}.`);
    page.queue.put("samples", cells(by("samples"), 20, "New image", true).map((button) => {
      const noise = normalFrom(random, page.data.model.latent_dim).map((value) => value * temperature);
      return async () => {
        const z = await page.runner.ask("fromNoise", noise, context);
        await page.decodeOnto(button.firstChild, z, context);
        button.onclick = () => {
          page.goTo(z, context);
          page.show("a new image");
        };
      };
    }));
  }
}

/** An image of the user's own, drawn or from a file. */
class Own {
  constructor(page) {
    this.page = page;
    const { background, fit } = page.data, channels = page.shape[2];
    by("own").hidden = !page.runner.encodes || ![1, 3, 4].includes(channels);
    by("ink-label").hidden = channels === 1;
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(background.slice(at, at + 2), 16));
    by("ink").value = 0.299 * red + 0.587 * green + 0.114 * blue > 127 ? "#000000" : "#ffffff";
    this.paper = new Paper(by("paper"), by("own"), {
      shape: page.shape, background, fit, onChange: () => this.encode(), onRefusal: () => this.refuse(),
    });
    by("clear").addEventListener("click", () => {
      this.paper.clear();
      this.encode();
    });
    by("file").addEventListener("change", () => this.paper.open(by("file").files[0]));
    const random = randomFrom(1);
    this.noises = [1, 2, 3, 4].map(() => normalFrom(random, page.data.model.latent_dim));
  }

  refuse() {
    const words = "This file is no picture that the browser can read.";
    write(by("own-facts"), words);
    say(words);
  }

  /** Encodes what is on the paper, once for each class where the model can say which fits best. */
  encode() {
    const { page, noises } = this, { runner, data, shape } = page, image = this.paper.values(), scores = [];
    const of = data.classes && runner.judges ? Array.from({ length: data.model.context_dim }, (_, label) => label) : [];
    const judge = of.map((label) => async () => {
      scores[label] = await runner.ask("logProb", image, page.contextOf(label), noises);
    });
    const look = async () => {
      for (const figure of document.querySelectorAll(".made")) figure.hidden = false;
      paint(by("seen"), await runner.ask("observed", image), shape);
    };
    const end = () => this.show(image, of.length ? scores.indexOf(Math.max(...scores)) : -1);
    page.queue.put("own", [look, ...judge, end]);
  }

  async show(image, label) {
    const { page } = this, context = label < 0 ? page.state.context : page.contextOf(label);
    const [z] = await page.runner.ask("encode", image, context);
    await page.decodeOnto(by("own-rebuilt"), z, context);
    page.fillNear(by("own-near"), z);
    const name = page.data.classes ? page.classes.nameOf(context) : "";
    const words = name && (label < 0 ? `encoded as ${name}; ` : `likeliest as ${name}; `);
    write(by("own-facts"), `${words}nearest test images`);
    page.goTo(z, context);
    page.show("the reconstruction of your image");
    clearTimeout(this.telling);
    this.telling = setTimeout(() => say(`Your image is encoded. ${name}`), 400);
  }
}
