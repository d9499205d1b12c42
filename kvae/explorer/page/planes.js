/** The planes of the map, of which one is chosen, and the legend of its points. */
class Planes {
  constructor(page) {
    this.page = page;
    const { data, means, order } = page, latents = data.model.latent_dim;
    this.all = data.planes.map((plane) => new Plane(plane, means));
    this.pair = null; // the plane of two latents that can be chosen
    if (latents === 1) {
      const places = means.map((mean, i) => [mean[0], (i * 0.618034) % 1]);
      const hint = "Across is the latent; points lie at different heights only to be seen.";
      this.all.push(new Plane({ name: "The latent", hint, places, single: true }, means));
    } else {
      const name = latents > 2 ? "Two latents" : "The latents", pair = order.slice(0, 2).sort((a, b) => a - b);
      const hint = "Across and up are these two latents; the others stay where they are.";
      this.pair = new Plane({ name, hint, pair, places: [] }, means);
      this.all.push(this.pair);
    }
    this.addButtons();
    if (this.pair) this.addAxes();
    this.addLegend();
  }

  get chosen() { return this.all[this.page.state.plane]; }

  addButtons() {
    this.all.forEach((plane, i) => {
      const button = element("button", { type: "button", role: "radio", "aria-checked": "false" }, plane.name);
      button.addEventListener("click", () => this.choose(i));
      button.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        this.choose((i + step + this.all.length) % this.all.length);
        by("planes").children[this.page.state.plane].focus();
      });
      by("planes").append(button);
    });
  }

  addAxes() {
    ["across", "up"].forEach((id, axis) => {
      for (const latent of this.page.order) by(id).append(element("option", { value: latent }, `latent ${latent + 1}`));
      by(id).addEventListener("change", () => {
        const { pair } = this.pair, latent = Number(by(id).value);
        if (pair[1 - axis] === latent) pair[1 - axis] = pair[axis];
        pair[axis] = latent;
        this.choose(this.page.state.plane);
      });
    });
  }

  choose(number) {
    const { page } = this, { map, state } = page;
    state.plane = number;
    const plane = this.chosen;
    Array.from(by("planes").children).forEach((button, i) => {
      button.setAttribute("aria-checked", String(i === number));
      button.tabIndex = i === number ? 0 : -1;
    });
    by("axes").hidden = plane !== this.pair || page.data.model.latent_dim < 3;
    if (plane === this.pair) {
      plane.places = page.means.map((mean) => plane.pair.map((latent) => mean[latent]));
      plane.known = null;
      [by("across").value, by("up").value] = plane.pair;
    }
    by("hint").textContent = plane.hint;
    map.plane = plane;
    map.hovered = -1;
    map.finger = plane.placeOf(state.z);
    page.show();
  }

  addLegend() {
    const { page } = this, labels = [...new Set(page.data.labels)].filter((label) => label >= 0).sort((a, b) => a - b);
    by("legend").hidden = labels.length < 2;
    this.buttons = labels.map((label) => {
      const dot = element("span", { class: "dot" });
      dot.style.background = colorOf(label);
      const name = page.nameOf(label);
      const button = element("button", { type: "button", "aria-pressed": "false", title: name }, dot, element("bdi", {}, name));
      button.addEventListener("click", () => this.single(page.state.label === label ? null : label));
      by("legend").append(button);
      return { label, button };
    });
  }

  /** Shows the points of one label alone; of null all. */
  single(label) {
    this.page.state.label = this.page.map.shown = label;
    for (const { label: own, button } of this.buttons) button.setAttribute("aria-pressed", String(own === label));
    this.page.show();
  }
}
