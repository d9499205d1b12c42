const softplus = (x) => (x > 20 ? x : x < -40 ? 0 : x < -20 ? Math.exp(x) : Math.log1p(Math.exp(x)));
const sigmoid = (x) => 1 / (1 + Math.exp(-x));

const FUNCTIONS = {
  relu: (x) => (x > 0 ? x : 0),
  tanh: Math.tanh,
  sigmoid,
  softplus,
  exponential: Math.exp,
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
};

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
  affine: (node, shapes, [scale, offset]) => (out, [x]) => {
    for (let i = 0; i < out.length; i++) out[i] = x[i] * scale[i % scale.length] + offset[i % offset.length];
  },
  dense(node, [from], [kernel, bias], memory) {
    const depth = from[from.length - 1], columns = node.shape[node.shape.length - 1], count = sizeOf(from) / depth;
    if (count === 1) return (out, [x]) => multiplyRow(x, kernel, bias, out);
    const values = (count + ACROSS) * depth;
    const products = new Products(memory, kernel, bias, { lines: 1, length: depth, columns, values, most: count });
    return (out, [x]) => {
      products.values().set(x);
      products.run(0, depth, 0, count, 0);
      products.take(out);
    };
  },
  conv(node, [[height, width, channels]], [kernel, bias], memory) {
    const [rows, columns, filters] = node.shape, [high, wide] = node.size, [down, right] = node.strides;
    const [[top, bottom], [left, end]] = node.padding;
    const line = width * channels, jump = (left + width + end) * channels, step = right * channels;
    const products = new Products(memory, kernel, bias, {
      lines: high, length: wide * channels, columns: filters,
      values: (top + height + bottom) * jump + ACROSS * step, most: rows * columns,
    });
    return (out, [x]) => {
      const values = products.values(); // with zeros around the image
      for (let y = 0; y < height; y++) values.set(x.subarray(y * line, (y + 1) * line), (top + y) * jump + left * channels);
      for (let row = 0; row < rows; row++) products.run(row * down * jump, step, jump, columns, row * columns);
      products.take(out);
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
    if (node.function === "silu") return silu;
    const leaky = (x) => (x > 0 ? x : node.slope * x);
    const apply = node.function === "leaky_relu" ? leaky : FUNCTIONS[node.function];
    return (out, [x]) => { for (let i = 0; i < out.length; i++) out[i] = apply(x[i]); };
  },
  reshape: () => (out, [x]) => out.set(x),
  permute: moved,
  pad: moved,
  repeat: (node) => (out, [x]) => { for (let i = 0; i < node.count; i++) out.set(x, i * x.length); },
};

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

// By itself, since the networks of kvae spend their time here: a call for each value would double it.
function silu(out, [x]) {
  for (let i = 0; i < out.length; i++) out[i] = x[i] / (1 + Math.exp(-x[i]));
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

/** From which place of what it takes each value of a node comes; −1 is none, and 0. */
function placesOf(node, from) {
  const own = from.map((_, axis) => sizeOf(from.slice(axis + 1)));
  const strides = node.axes ? node.axes.map((axis) => own[axis]) : own;
  const lengths = node.axes ? node.shape : from, before = from.map((_, axis) => (node.amounts ? node.amounts[axis][0] : 0));
  const places = new Int32Array(sizeOf(node.shape)), index = node.shape.map(() => 0);
  for (let i = 0; i < places.length; i++) {
    let place = 0;
    for (let axis = 0; axis < index.length; axis++) {
      const at = index[axis] - before[axis];
      if (at < 0 || at >= lengths[axis]) { place = -1; break; }
      place += at * strides[axis];
    }
    places[i] = place;
    for (let axis = index.length - 1; axis >= 0 && ++index[axis] === node.shape[axis]; axis--) index[axis] = 0;
  }
  return places;
}

function moved(node, [from]) {
  const places = placesOf(node, from);
  return (out, [x]) => { for (let i = 0; i < out.length; i++) out[i] = places[i] < 0 ? 0 : x[places[i]]; };
}

/** A graph that can be run: see kvae/explorer/graph.py. What it gives is its own: copy to keep. */
class Graph {
  constructor({ inputs, nodes, outputs }, tensors, memory) {
    this.nodes = nodes;
    this.outputs = outputs;
    this.values = inputs.map(() => null);
    const shapes = [...inputs];
    this.steps = nodes.map((node) => {
      const weights = (node.tensors || []).map((number) => tensors.get(number));
      const from = node.from.map((number) => shapes[number]);
      shapes.push(node.shape);
      this.values.push(new Float32Array(sizeOf(node.shape)));
      return OPERATIONS[node.op](node, from, weights, memory);
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
