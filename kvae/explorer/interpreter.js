"use strict";

/** Numbers of 16 bits, as a Uint16Array, to a Float32Array. */
function fromHalf(words) {
  const values = new Float32Array(words.length);
  for (let i = 0; i < words.length; i++) {
    const sign = words[i] >> 15 ? -1 : 1, exponent = (words[i] >> 10) & 31, rest = words[i] & 1023;
    if (exponent === 31) values[i] = rest ? NaN : sign * Infinity;
    else values[i] = sign * (exponent ? 2 ** (exponent - 15) * (1 + rest / 1024) : 2 ** -24 * rest);
  }
  return values;
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
}

const sizeOf = (shape) => shape.reduce((product, length) => product * length, 1);
const softplus = (x) => (x > 20 ? x : x < -20 ? Math.exp(x) : Math.log1p(Math.exp(x)));
const sigmoid = (x) => 1 / (1 + Math.exp(-x));

const FUNCTIONS = {
  relu: (x) => (x > 0 ? x : 0),
  silu: (x) => x / (1 + Math.exp(-x)),
  tanh: Math.tanh,
  sigmoid,
  softplus,
  exponential: Math.exp,
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
};

/** From which place of what it takes each value of an operation comes; -1 is none, and 0. */
const PLACES = {
  permute({ axes }, from) {
    const strides = from.map((_, axis) => sizeOf(from.slice(axis + 1)));
    return { strides: axes.map((axis) => strides[axis]), start: 0 };
  },
  pad({ amounts }, from) {
    const strides = from.map((_, axis) => sizeOf(from.slice(axis + 1)));
    return { strides, before: amounts.map((one) => one[0]), lengths: from };
  },
};

function placesOf(node, from) {
  const { strides, before, lengths } = PLACES[node.op](node, from);
  const places = new Int32Array(sizeOf(node.shape));
  const index = node.shape.map(() => 0);
  for (let i = 0; i < places.length; i++) {
    let place = 0;
    for (let axis = 0; axis < index.length; axis++) {
      const at = index[axis] - (before ? before[axis] : 0);
      if (lengths && (at < 0 || at >= lengths[axis])) { place = -1; break; }
      place += at * strides[axis];
    }
    places[i] = place;
    for (let axis = index.length - 1; axis >= 0 && ++index[axis] === node.shape[axis]; axis--) index[axis] = 0;
  }
  return places;
}

/** rows × depth times depth × columns, plus a bias; the kernel's columns lie in blocks of four. */
function multiply(rows, blocks, bias, out, count, depth, columns) {
  for (let r = 0; r < count; r += 4) {
    const left = count - r;
    const a = r * depth, b = left > 1 ? a + depth : a, c = left > 2 ? a + 2 * depth : a, d = left > 3 ? a + 3 * depth : a;
    for (let j = 0, k = 0; j < columns; j += 4) {
      let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
      let c0 = 0, c1 = 0, c2 = 0, c3 = 0, d0 = 0, d1 = 0, d2 = 0, d3 = 0;
      for (let i = 0; i < depth; i++, k += 4) {
        const w0 = blocks[k], w1 = blocks[k + 1], w2 = blocks[k + 2], w3 = blocks[k + 3];
        const xa = rows[a + i], xb = rows[b + i], xc = rows[c + i], xd = rows[d + i];
        a0 += xa * w0; a1 += xa * w1; a2 += xa * w2; a3 += xa * w3;
        b0 += xb * w0; b1 += xb * w1; b2 += xb * w2; b3 += xb * w3;
        c0 += xc * w0; c1 += xc * w1; c2 += xc * w2; c3 += xc * w3;
        d0 += xd * w0; d1 += xd * w1; d2 += xd * w2; d3 += xd * w3;
      }
      const sums = [[a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3], [d0, d1, d2, d3]];
      for (let row = 0; row < Math.min(4, left); row++)
        for (let column = 0; column < Math.min(4, columns - j); column++)
          out[(r + row) * columns + j + column] = sums[row][column] + (bias ? bias[j + column] : 0);
    }
  }
}

/** A depth × columns kernel with its columns in blocks of four, the last filled up with zeros. */
function inBlocks(kernel, depth, columns) {
  const blocks = new Float32Array(Math.ceil(columns / 4) * 4 * depth);
  for (let j = 0; j < columns; j++)
    for (let i = 0; i < depth; i++) blocks[((j >> 2) * depth + i) * 4 + (j & 3)] = kernel[i * columns + j];
  return blocks;
}

/** One row times a matrix, four rows of the matrix at a time. */
function multiplyRow(x, kernel, bias, out) {
  const columns = out.length, depth = x.length;
  if (bias) out.set(bias); else out.fill(0);
  let i = 0;
  for (; i + 3 < depth; i += 4) {
    const p = i * columns, q = p + columns, r = q + columns, s = r + columns;
    const x0 = x[i], x1 = x[i + 1], x2 = x[i + 2], x3 = x[i + 3];
    if (x0 === 0 && x1 === 0 && x2 === 0 && x3 === 0) continue;
    for (let j = 0; j < columns; j++)
      out[j] += x0 * kernel[p + j] + x1 * kernel[q + j] + x2 * kernel[r + j] + x3 * kernel[s + j];
  }
  for (; i < depth; i++) for (let j = 0, p = i * columns; j < columns; j++) out[j] += x[i] * kernel[p + j];
}

/** Each makes, of a node and what is known of its inputs, the function that runs it into `out`. */
const OPERATIONS = {
  add: () => (out, inputs) => {
    out.set(inputs[0]);
    for (const x of inputs.slice(1)) for (let i = 0; i < out.length; i++) out[i] += x[i];
  },
  multiply: () => (out, inputs) => {
    out.set(inputs[0]);
    for (const x of inputs.slice(1)) for (let i = 0; i < out.length; i++) out[i] *= x[i];
  },
  concatenate: (node, shapes) => (out, inputs) => {
    const lengths = shapes.map((shape) => shape[shape.length - 1]), width = lengths.reduce((a, b) => a + b, 0);
    let start = 0;
    inputs.forEach((x, n) => {
      for (let place = 0, to = start; place < x.length; place += lengths[n], to += width)
        out.set(x.subarray(place, place + lengths[n]), to);
      start += lengths[n];
    });
  },
  affine: (node, shapes, tensors) => (out, [x]) => {
    const [scale, offset] = tensors;
    for (let i = 0; i < out.length; i++) out[i] = x[i] * scale[i % scale.length] + offset[i % offset.length];
  },
  dense(node, [from], [kernel, bias]) {
    const depth = from[from.length - 1], columns = node.shape[node.shape.length - 1];
    const count = sizeOf(from) / depth;
    if (count === 1) return (out, [x]) => multiplyRow(x, kernel, bias, out);
    const blocks = inBlocks(kernel, depth, columns);
    return (out, [x]) => multiply(x, blocks, bias, out, count, depth, columns);
  },
  conv(node, [from], [kernel, bias], shapeOfKernel) {
    const [height, width, channels] = from, [rows, columns, filters] = node.shape;
    const [high, wide] = shapeOfKernel, [down, right] = node.strides, [[top], [left]] = node.padding;
    const depth = high * wide * channels, blocks = inBlocks(kernel, depth, filters);
    const patches = new Float32Array(columns * depth), line = columns * filters;
    return (out, [x]) => {
      for (let r = 0; r < rows; r++) {
        for (let c = 0, to = 0; c < columns; c++)
          for (let i = 0; i < high; i++)
            for (let j = 0; j < wide; j++, to += channels) {
              const y = r * down + i - top, at = c * right + j - left;
              if (y < 0 || at < 0 || y >= height || at >= width) patches.fill(0, to, to + channels);
              else for (let k = 0, p = (y * width + at) * channels; k < channels; k++) patches[to + k] = x[p + k];
            }
        multiply(patches, blocks, bias, out.subarray(r * line, (r + 1) * line), columns, depth, filters);
      }
    };
  },
  max_pool: (node, shapes) => pooled(node, shapes, (values) => Math.max(...values)),
  average_pool: (node, shapes) => pooled(node, shapes, (values) => values.reduce((a, b) => a + b) / values.length),
  mean: (node, [from]) => (out, [x]) => {
    out.fill(0);
    for (let i = 0; i < x.length; i++) out[i % out.length] += x[i];
    for (let i = 0; i < out.length; i++) out[i] /= from[0] * from[1];
  },
  norm: (node, [from], [scale]) => (out, [x]) => {
    const width = from[from.length - 1];
    for (let start = 0; start < x.length; start += width) {
      let squares = 0;
      for (let i = 0; i < width; i++) squares += x[start + i] ** 2;
      const factor = 1 / Math.sqrt(squares / width + node.epsilon);
      for (let i = 0; i < width; i++) out[start + i] = x[start + i] * factor * (scale ? scale[i] : 1);
    }
  },
  activation(node, [from]) {
    if (node.function === "softmax") return softmax(from[from.length - 1]);
    const leaky = (x) => (x > 0 ? x : node.slope * x);
    const apply = node.function === "leaky_relu" ? leaky : FUNCTIONS[node.function];
    if (node.function === "silu")
      return (out, [x]) => { for (let i = 0; i < out.length; i++) out[i] = x[i] / (1 + Math.exp(-x[i])); };
    return (out, [x]) => { for (let i = 0; i < out.length; i++) out[i] = apply(x[i]); };
  },
  reshape: () => (out, [x]) => out.set(x),
  permute: moved,
  pad: moved,
  repeat: (node) => (out, [x]) => { for (let i = 0; i < node.count; i++) out.set(x, i * x.length); },
};

function moved(node, [from]) {
  const places = placesOf(node, from);
  return (out, [x]) => { for (let i = 0; i < out.length; i++) out[i] = places[i] < 0 ? 0 : x[places[i]]; };
}

function softmax(width) {
  return (out, [x]) => {
    for (let start = 0; start < x.length; start += width) {
      const row = x.subarray(start, start + width), most = Math.max(...row);
      let sum = 0;
      for (let i = 0; i < width; i++) sum += out[start + i] = Math.exp(row[i] - most);
      for (let i = 0; i < width; i++) out[start + i] /= sum;
    }
  };
}

function pooled(node, [from], reduce) {
  const [, width, channels] = from, [rows, columns] = node.shape, [high, wide] = node.size;
  return (out, [x]) => {
    const values = [];
    for (let r = 0, to = 0; r < rows; r++)
      for (let c = 0; c < columns; c++)
        for (let k = 0; k < channels; k++, to++) {
          for (let i = 0, n = 0; i < high; i++)
            for (let j = 0; j < wide; j++, n++)
              values[n] = x[((r * node.strides[0] + i) * width + c * node.strides[1] + j) * channels + k];
          out[to] = reduce(values);
        }
  };
}

/** The tensors of a model: see kvae/explorer/tensors.py. */
class Tensors {
  constructor(entries, buffer) {
    this.entries = entries;
    this.buffer = buffer;
    this.read = new Map();
  }

  get(number) {
    if (!this.read.has(number)) this.read.set(number, this.values(...this.entries[number]));
    return this.read.get(number);
  }

  values(dtype, offset, shape, scales) {
    const count = sizeOf(shape);
    if (dtype === "float32") return new Float32Array(this.buffer, offset, count);
    if (dtype === "uint8") return new Uint8Array(this.buffer, offset, count);
    if (dtype === "float16") return fromHalf(new Uint16Array(this.buffer, offset, count));
    const whole = new Int8Array(this.buffer, offset, count), factors = this.get(scales);
    return Float32Array.from(whole, (value, i) => value * factors[i % factors.length]);
  }
}

/** A graph that can be run: see kvae/explorer/graph.py. What it gives is its own: copy to keep. */
class Graph {
  constructor({ inputs, nodes, outputs }, tensors) {
    this.nodes = nodes;
    this.outputs = outputs;
    this.values = inputs.map(() => null);
    const shapes = [...inputs];
    this.steps = nodes.map((node) => {
      const numbers = node.tensors || [], from = node.from.map((number) => shapes[number]);
      const shapeOfFirst = numbers.length ? tensors.entries[numbers[0]][2] : null;
      shapes.push(node.shape);
      this.values.push(new Float32Array(sizeOf(node.shape)));
      return OPERATIONS[node.op](node, from, numbers.map((number) => tensors.get(number)), shapeOfFirst);
    });
  }

  run(...inputs) {
    inputs.forEach((input, i) => { this.values[i] = input; });
    this.steps.forEach((step, i) => {
      step(this.values[inputs.length + i], this.nodes[i].from.map((number) => this.values[number]));
    });
    return this.outputs.map((number) => this.values[number]);
  }
}

/** The mean of a logistic cut to 0…255, as a share of 255. */
function meanOfCut(location, scale) {
  const offset = location - 127.5, far = 127.5 + Math.abs(offset), near = 127.5 - Math.abs(offset);
  const gap = scale * (softplus(near / scale) - softplus(-far / scale));
  return Math.min(1, Math.max(0, (127.5 + Math.sign(offset) * (127.5 - gap)) / 255));
}

/** The expected image of each likelihood: parameters of all pixels to values in [0, 1]. */
const MEANS = {
  bernoulli: (x) => x.map(sigmoid),
  continuous_bernoulli: (x) => x.map((logit) => {
    const square = logit * logit;
    const series = logit * (1 / 12 - square * (1 / 720 - square / 30240));
    return 0.5 + (Math.abs(logit) < 0.4 ? series : 0.5 / Math.tanh(logit / 2) - 1 / logit);
  }),
  gaussian(x, { per_value }, channels) {
    const pixels = x.length / (channels * per_value), out = new Float32Array(pixels * channels);
    for (let p = 0, to = 0; p < pixels; p++)
      for (let c = 0; c < channels; c++, to++)
        out[to] = Math.min(1, Math.max(0, x[p * channels * per_value + c]));
    return out;
  },
  discretized_logistic(x, { min_scale }, channels) {
    const pixels = x.length / (2 * channels), out = new Float32Array(pixels * channels);
    for (let p = 0, to = 0; p < pixels; p++)
      for (let c = 0; c < channels; c++, to++) {
        const raw = x[p * 2 * channels + channels + c];
        out[to] = meanOfCut(127.5 + 255 * x[p * 2 * channels + c], 255 * (softplus(raw - 1) + min_scale));
      }
    return out;
  },
  logistic_mixture(x, { min_scale, floor, components, coupled }, channels) {
    const part = components * channels, each = (coupled ? 4 : 3) * part, pixels = x.length / each;
    const out = new Float32Array(pixels * channels);
    const logits = new Float64Array(components);
    for (let p = 0; p < pixels; p++) {
      const at = p * each;
      let most = -Infinity, sum = 0;
      for (let k = 0; k < components; k++) {
        logits[k] = 0;
        for (let c = 0; c < channels; c++) logits[k] += x[at + 2 * part + k * channels + c];
        most = Math.max(most, logits[k]);
      }
      for (let k = 0; k < components; k++) sum += logits[k] = Math.exp(logits[k] - most);
      for (let k = 0; k < components; k++) {
        const spread = components > 1 ? (0.5 * (k - (components - 1) / 2)) / (components - 1) : 0;
        let before = 0, cut = 0, width = 0;
        for (let c = 0; c < channels; c++) {
          const i = at + k * channels + c, own = 127.5 + 255 * (x[i] + spread);
          let location = own, scale = Math.max(255 * (softplus(x[i + part] - 1) + min_scale), floor);
          if (coupled && c) {
            const coupling = x[i + 3 * part];
            location += coupling * (255 * cut - before);
            scale = Math.sqrt(scale * scale + (coupling * width) ** 2);
          }
          before = own;
          width = scale;
          cut = meanOfCut(location, scale);
          out[p * channels + c] += (logits[k] / sum) * cut;
        }
      }
    }
    return out;
  },
};

/** A model that decodes and encodes one image at a time. */
class Model {
  constructor(description, buffer) {
    Object.assign(this, description);
    this.tensors = new Tensors(description.tensors, buffer);
    this.compiled = new Map();
  }

  graph(name) {
    if (!this.compiled.has(name)) this.compiled.set(name, new Graph(this.graphs[name], this.tensors));
    return this.compiled.get(name);
  }

  get decodes() { return "decoder" in this.graphs; }
  get encodes() { return "encoder" in this.graphs || "bottom_up" in this.graphs; }
  get draws() { return this.prior.length > 0; }

  /** Values with the context behind them, where the graph takes one more than these. */
  told(name, values, context) {
    return this.graphs[name].inputs.length > values.length ? [...values, context] : values;
  }

  /** The expected image, values in [0, 1]. */
  decode(latents, context) {
    const [parameters] = this.graph("decoder").run(...this.told("decoder", [latents], context));
    return MEANS[this.likelihood.kind](parameters, this.likelihood, this.image_shape[2]);
  }

  /** Mean and log-variance of the posterior of an image of values in [0, 1]. */
  encode(image, context) {
    const seen = this.likelihood.threshold ? image.map((value) => (value >= 0.5 ? 1 : 0)) : image;
    if (!("encoder" in this.graphs)) return this.climb(seen, context);
    const outputs = this.graph("encoder").run(...this.told("encoder", [seen], context));
    return outputs.map((output) => output.slice());
  }

  /** The same of a ladder: each group's posterior at the means of those before it. */
  climb(seen, context) {
    const features = this.graph("bottom_up").run(...this.told("bottom_up", [seen], context));
    const found = [new Float32Array(this.latent_dim), new Float32Array(this.latent_dim)];
    let state = [], start = 0;
    this.groups.forEach((size, i) => {
      const posterior = this.graph(`posterior_${i + 1}`).run(...state, features[i]);
      posterior.forEach((values, which) => found[which].set(values, start));
      start += size;
      const stage = `stage_${i + 1}`;
      state = this.graph(stage).run(...this.told(stage, [...state, posterior[0]], context));
    });
    return found;
  }

  /** What standard normal noise becomes: latents of the prior. */
  fromNoise(noise, context) {
    const latents = noise.slice();
    let start = 0;
    for (const { size, couplings } of this.prior) {
      const block = latents.subarray(start, start + size);
      for (const name of [...couplings].reverse()) {
        const [logScale, shift] = this.graph(name).run(...this.told(name, [block], context));
        for (let i = 0; i < size; i++) block[i] = (block[i] - shift[i]) * Math.exp(-logScale[i]);
      }
      start += size;
    }
    return latents;
  }
}
