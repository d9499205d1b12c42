/** Within a Worker: takes a model, and then questions. */
function serve() {
  let model = null;
  onmessage = ({ data: { description, buffer, number, verb, values } }) => {
    try {
      if (description) model = new Model(description, buffer);
      postMessage({ number, found: description ? null : model[verb](...values) });
    } catch (error) {
      postMessage({ number, error: String(error) });
    }
  };
}

/** Asks a model, which runs in a Worker; in the page, where a browser allows none. */
class Runner {
  constructor(description, buffer, engine) {
    this.description = description;
    this.asked = 0;
    this.open = new Map();
    this.started = this.start(engine, { description, buffer });
  }

  get decodes() { return "decoder" in this.description.graphs; }
  get encodes() { return "encoder" in this.description.graphs || "bottom_up" in this.description.graphs; }
  get draws() { return this.description.prior.length > 0; }
  /** Whether it can say how likely an image is. */
  get judges() { return this.decodes && this.encodes && this.draws && this.description.likelihood.kind === "bernoulli"; }

  async start(engine, given) {
    try {
      const code = new Blob([engine, "\nserve();"], { type: "text/javascript" });
      this.worker = new Worker(URL.createObjectURL(code));
      this.worker.onmessage = ({ data }) => this.answered(data);
      await new Promise((found, refused) => {
        this.open.set(0, { found, refused });
        this.worker.onerror = () => { for (const number of [...this.open.keys()]) this.answered({ number, error: "no Worker" }); };
        this.worker.postMessage({ ...given, number: 0 });
      });
    } catch {
      this.worker = null;
      this.model = new Model(given.description, given.buffer);
    }
  }

  answered({ number, found, error }) {
    const asked = this.open.get(number);
    this.open.delete(number);
    if (asked) error ? asked.refused(new Error(error)) : asked.found(found);
  }

  /** What a method of `Model` gives. */
  async ask(verb, ...values) {
    await this.started;
    if (!this.worker) {
      await new Promise((go) => { setTimeout(go); }); // between two answers the page can draw
      return this.model[verb](...values);
    }
    return new Promise((found, refused) => {
      const number = (this.asked += 1);
      this.open.set(number, { found, refused });
      this.worker.postMessage({ number, verb, values });
    });
  }
}

/** What is asked for, one after the other; of each kind only what was asked for last. */
class Queue {
  constructor() {
    this.tasks = [];
    this.working = false;
  }

  put(kind, runs, first = false) {
    const others = this.tasks.filter((task) => task.kind !== kind), own = runs.map((run) => ({ kind, run }));
    this.tasks = first ? [...own, ...others] : [...others, ...own];
    if (!this.working) this.work();
  }

  async work() {
    this.working = true;
    while (this.tasks.length)
      try {
        await this.tasks.shift().run();
      } catch (error) {
        console.error(error);
      }
    this.working = false;
  }
}
