/** A link that holds the state. */
class Link {
  constructor(page) {
    this.page = page;
    by("link").hidden = location.protocol === "about:"; // within a notebook it would lead out of the page
    window.addEventListener("hashchange", () => { if (location.hash !== this.written) this.restore(); });
  }

  /** Writes it, once the state rests. */
  write() {
    clearTimeout(this.later);
    this.later = setTimeout(() => {
      this.later = 0;
      this.written = this.text();
      by("link").setAttribute("href", this.written);
      try {
        history.replaceState(null, "", this.written);
      } catch {
        // within a notebook there is no address to change
      }
    }, 100);
  }

  text() {
    const { state, planes } = this.page, { plane, z, context, marks, t, temperature, seed, label } = state;
    const shares = Array.from(context.entries()).filter(([, share]) => share > 0).map(([i, share]) => `${i}:${+share.toFixed(2)}`);
    const values = {
      plane, z: Array.from(z, (value) => +value.toFixed(2)).join(","), marks: marks.join(","), t, temperature, seed,
      ...(shares.length && { class: shares.join(",") }), ...(planes.pair && { pair: planes.pair.pair.join(",") }),
      ...(label !== null && { label }),
    };
    return `#${decodeURIComponent(new URLSearchParams(values).toString())}`;
  }

  /** Reads it; what is damaged is as if it were not there. */
  restore() {
    const given = new URLSearchParams(location.hash.slice(1)), { page } = this, { state, means, planes } = page;
    const numbers = (name) => (given.get(name) || "").split(",").map(Number);
    const within = (name, low, high, otherwise) => {
      const value = Number(given.get(name));
      return given.has(name) && value >= low && value <= high ? value : otherwise;
    };
    const places = (name, count) => {
      const found = numbers(name), whole = (value) => Number.isInteger(value) && value >= 0 && value < count;
      return found.length === 2 && found.every(whole) ? found : null;
    };
    state.plane = Math.floor(within("plane", 0, planes.all.length - 1, 0));
    state.t = within("t", 0, 1, 0);
    state.temperature = within("temperature", 0, 1.5, 1);
    state.seed = Math.floor(within("seed", 1, 9999, 1));
    state.marks = places("marks", means.length) || state.marks;
    const pair = planes.pair && places("pair", state.z.length);
    if (pair && pair[0] !== pair[1]) planes.pair.pair = pair;
    const z = numbers("z"), isRow = given.has("z") && z.length === state.z.length && z.every(Number.isFinite);
    state.z = Float32Array.from(isRow ? z : means[state.marks[0]]);
    page.classes.set(this.context(given.get("class")) || page.contextOfImage(state.marks[0]));
    planes.choose(state.plane);
    planes.single(page.data.labels.includes(within("label", 0, 1e9, null)) ? Number(given.get("label")) : null);
    page.lookAt(state.marks[0]);
    page.way.show();
    page.samples.show();
    page.show(isRow ? "" : `the reconstruction of test image ${state.marks[0] + 1}`);
  }

  /** The shares of classes, such as "3:0.4,5:0.6". */
  context(text) {
    const context = new Float32Array(this.page.data.model.context_dim);
    for (const part of (text || "").split(",")) {
      const [number, share] = part.split(":").map(Number);
      if (!(number in context) || !(share > 0 && share <= 1)) return null;
      context[number] = share;
    }
    return context;
  }
}
