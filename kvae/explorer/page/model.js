/** A model that decodes and encodes one image at a time. */
class Model {
  constructor(description, buffer, plain = false) {
    Object.assign(this, description);
    this.tensors = new Tensors(description.tensors, buffer);
    this.memory = new Memory(plain);
    this.compiled = new Map();
  }

  graph(name) {
    if (!this.compiled.has(name)) this.compiled.set(name, new Graph(this.graphs[name], this.tensors, this.memory));
    return this.compiled.get(name);
  }

  /** What a graph makes of values, and of the context where it takes one more than these. */
  made(name, values, context) {
    const takesMore = this.graphs[name].inputs.length > values.length;
    return this.graph(name).run(...values, ...(takesMore ? [context] : []));
  }

  /** The expected image, values in [0, 1]. */
  decode(latents, context) {
    const [parameters] = this.made("decoder", [latents], context);
    return MEANS[this.likelihood.kind](parameters, this.likelihood, this.image_shape[2]);
  }

  /** An image as the model sees it. */
  observed(image) {
    return this.likelihood.threshold ? image.map((value) => (value >= 0.5 ? 1 : 0)) : image;
  }

  /** Mean and log-variance of the posterior of an image of values in [0, 1]. */
  encode(image, context) {
    const seen = this.observed(image);
    if (!("encoder" in this.graphs)) return this.climb(seen, context);
    return this.made("encoder", [seen], context).map((output) => output.slice());
  }

  /** The same of a ladder, whose groups of latents depend on those before; and what they were drawn
   *  as, with this noise: at the means without any. */
  climb(seen, context, noise = new Float32Array(this.latent_dim)) {
    const features = this.made("bottom_up", [seen], context);
    const found = [0, 1, 2].map(() => new Float32Array(this.latent_dim));
    let state = [], start = 0;
    this.groups.forEach((size, i) => {
      const posterior = this.made(`posterior_${i + 1}`, [...state, features[i]]);
      posterior.forEach((values, which) => found[which].set(values, start));
      const z = drawnFrom(...posterior, noise.subarray(start, start + size));
      found[2].set(z, start);
      start += size;
      state = this.made(`stage_${i + 1}`, [...state, z], context);
    });
    return found;
  }

  /** What standard normal noise becomes: latents of the prior. */
  fromNoise(noise, context) {
    const latents = noise.slice();
    this.forEachBlock(latents, (block, { couplings, mixture }) => {
      if (mixture) placeInMixture(block, ...this.parametersOf(mixture, context));
      for (const name of [...couplings].reverse()) {
        const [logScale, shift] = this.made(name, [block], context);
        for (let i = 0; i < block.length; i++) block[i] = (block[i] - shift[i]) * Math.exp(-logScale[i]);
      }
    });
    return latents;
  }

  /** The log-density of latents under the prior, but for its constant. */
  logPrior(latents, context) {
    let logVolume = 0;
    const noise = latents.slice();
    this.forEachBlock(noise, (block, { couplings, mixture }) => {
      if (mixture) {
        logVolume += logMixture(block, ...this.parametersOf(mixture, context));
        block.fill(0);
      }
      for (const name of couplings) {
        const [logScale, shift] = this.made(name, [block], context);
        for (let i = 0; i < block.length; i++) {
          block[i] = block[i] * Math.exp(logScale[i]) + shift[i];
          logVolume += logScale[i];
        }
      }
    });
    return logVolume - 0.5 * squares(noise);
  }

  forEachBlock(latents, run) {
    let start = 0;
    for (const block of this.prior) run(latents.subarray(start, start += block.size), block);
  }

  /** Weights, means and log-variances of a mixture; one that is not told the class takes a 1. */
  parametersOf(name, context) {
    const told = context && context.length === this.graphs[name].inputs[0][0] ? context : Float32Array.of(1);
    const [logits, means, logVariances] = this.graph(name).run(told);
    const most = Math.max(...logits), weights = Array.from(logits, (value) => Math.exp(value - most));
    const sum = weights.reduce((sum, weight) => sum + weight, 0);
    return [weights.map((weight) => weight / sum), means, logVariances];
  }

  /** Log p(image | context) of Bernoulli pixels, estimated as the log of the mean of p(x|z) p(z) / q(z|x)
   *  over draws of z, which are made with this noise. */
  logProb(image, context, noises) {
    const seen = this.observed(image), flat = "encoder" in this.graphs ? this.encode(image, context) : null;
    const weights = noises.map((noise) => {
      const [, logVariance, z] = flat ? [...flat, drawnFrom(...flat, noise)] : this.climb(seen, context, noise);
      const [logits] = this.made("decoder", [z], context);
      let sum = this.logPrior(z, context) + 0.5 * squares(noise);
      for (const value of logVariance) sum += 0.5 * value;
      for (let i = 0; i < seen.length; i++) sum += seen[i] * logits[i] - softplus(logits[i]);
      return sum;
    });
    const most = Math.max(...weights);
    return most + Math.log(weights.reduce((sum, weight) => sum + Math.exp(weight - most), 0) / weights.length);
  }
}

/** Turns noise into latents of the component that the angle of its first two numbers chooses. */
function placeInMixture(noise, weights, means, logVariances) {
  const length = Math.hypot(noise[0], noise[1]), turn = (Math.atan2(noise[1], noise[0]) / (2 * Math.PI) + 1) % 1;
  let component = 0, before = 0;
  while (component < weights.length - 1 && turn >= before + weights[component]) before += weights[component++];
  const angle = 2 * Math.PI * Math.min(1, (turn - before) / weights[component]);
  noise.set([length * Math.cos(angle), length * Math.sin(angle)]);
  const start = component * noise.length;
  for (let i = 0; i < noise.length; i++) noise[i] = means[start + i] + Math.exp(0.5 * logVariances[start + i]) * noise[i];
}

/** The log-density of latents under a mixture, but for its constant. */
function logMixture(latents, weights, means, logVariances) {
  const each = weights.map((weight, component) => {
    let sum = Math.log(weight);
    for (let i = 0, at = component * latents.length; i < latents.length; i++, at++)
      sum -= 0.5 * (logVariances[at] + (latents[i] - means[at]) ** 2 * Math.exp(-logVariances[at]));
    return sum;
  });
  const most = Math.max(...each);
  return most + Math.log(each.reduce((sum, value) => sum + Math.exp(value - most), 0));
}

function drawnFrom(mean, logVariance, noise) {
  return mean.map((value, i) => value + Math.exp(0.5 * logVariance[i]) * noise[i]);
}

const squares = (values) => values.reduce((sum, value) => sum + value * value, 0);
