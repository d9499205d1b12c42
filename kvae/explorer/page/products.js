/** Sums of products, blocked: four outputs by eight columns at a time, in WebAssembly or JavaScript.
 *
 *  An output is a row of `columns` sums over `lines` runs of `length` neighbouring floats: of a
 *  convolution, with channels last, the lines of its window; of a dense layer its one row. Weights
 *  lie in the order in which they are taken, eight columns together. Neither loop looks for ends:
 *  buffers have room behind them, and what lies there is overwritten or never read. */
const ACROSS = 4, TOGETHER = 8;

/** Memory of WebAssembly, and the code that works on it; without it plain arrays. */
class Memory {
  constructor(plain = false) {
    this.used = 0;
    if (plain) return;
    try {
      const memory = new WebAssembly.Memory({ initial: 1 });
      this.tile = new WebAssembly.Instance(new WebAssembly.Module(TILE), { page: { memory } }).exports.tile;
      this.memory = memory;
    } catch {
      // a browser without it, or without its SIMD
    }
  }

  /** So many zeros, as a function: memory that grows makes older views useless. */
  floats(count) {
    if (!this.memory) {
      const own = new Float32Array(count);
      return Object.assign(() => own, { at: 0 });
    }
    const at = this.used, missing = (this.used += 16 * Math.ceil(count / 4)) - this.memory.buffer.byteLength;
    if (missing > 0) this.memory.grow(Math.ceil(missing / 65536));
    let own = null;
    const view = () => (own && own.length ? own : (own = new Float32Array(this.memory.buffer, at, count)));
    return Object.assign(view, { at });
  }
}

/** Weights, (lines · length, columns), with what they are multiplied by and what they make. */
class Products {
  constructor(memory, kernel, bias, { lines, length, columns, values, most }) {
    Object.assign(this, { memory, lines, length, columns });
    this.wide = TOGETHER * Math.ceil(columns / TOGETHER);
    const depth = lines * length;
    this.weights = memory.floats(depth * this.wide);
    this.bias = memory.floats(this.wide);
    this.values = memory.floats(values);
    this.sums = memory.floats((most + ACROSS) * this.wide);
    const weights = this.weights();
    for (let j = 0; j < columns; j++)
      for (let i = 0, to = (j - (j % TOGETHER)) * depth + (j % TOGETHER); i < depth; i++, to += TOGETHER)
        weights[to] = kernel[i * columns + j];
    if (bias) this.bias().set(bias);
  }

  /** `count` outputs, the first at the float `from` and the others `step` behind each other. */
  run(from, step, jump, count, to) {
    const { memory, wide, lines, length, weights, bias, values, sums } = this, depth = lines * length;
    for (let row = 0; row < count; row += ACROSS)
      for (let column = 0; column < wide; column += TOGETHER) {
        const x = from + row * step, w = column * depth, out = (to + row) * wide + column;
        if (memory.tile)
          memory.tile(values.at + 4 * x, 4 * step, lines, 4 * length, 4 * jump, weights.at + 4 * w, bias.at + 4 * column, sums.at + 4 * out, 4 * wide);
        else
          for (const half of [0, 4])
            tile(values(), x, step, lines, length, jump, weights(), w + half, bias(), column + half, sums(), out + half, wide);
      }
  }

  /** The outputs one behind the other. */
  take(out) {
    const sums = this.sums(), { columns, wide } = this;
    if (columns === wide) out.set(sums.subarray(0, out.length));
    else
      for (let from = 0, to = 0; to < out.length; from += wide, to += columns)
        for (let column = 0; column < columns; column++) out[to + column] = sums[from + column];
  }
}

/** Four outputs by four columns. */
function tile(x, a, step, lines, length, jump, weights, w, bias, column, out, to, wide) {
  const p = bias[column], q = bias[column + 1], r = bias[column + 2], s = bias[column + 3];
  let a0 = p, a1 = q, a2 = r, a3 = s, b0 = p, b1 = q, b2 = r, b3 = s;
  let c0 = p, c1 = q, c2 = r, c3 = s, d0 = p, d1 = q, d2 = r, d3 = s;
  let b = a + step, c = b + step, d = c + step;
  for (let line = 0; line < lines; line++, a += jump, b += jump, c += jump, d += jump)
    for (let i = 0; i < length; i++, w += TOGETHER) {
      const w0 = weights[w], w1 = weights[w + 1], w2 = weights[w + 2], w3 = weights[w + 3];
      const xa = x[a + i], xb = x[b + i], xc = x[c + i], xd = x[d + i];
      a0 += xa * w0; a1 += xa * w1; a2 += xa * w2; a3 += xa * w3;
      b0 += xb * w0; b1 += xb * w1; b2 += xb * w2; b3 += xb * w3;
      c0 += xc * w0; c1 += xc * w1; c2 += xc * w2; c3 += xc * w3;
      d0 += xd * w0; d1 += xd * w1; d2 += xd * w2; d3 += xd * w3;
    }
  out[to] = a0; out[to + 1] = a1; out[to + 2] = a2; out[to + 3] = a3;
  to += wide;
  out[to] = b0; out[to + 1] = b1; out[to + 2] = b2; out[to + 3] = b3;
  to += wide;
  out[to] = c0; out[to + 1] = c1; out[to + 2] = c2; out[to + 3] = c3;
  to += wide;
  out[to] = d0; out[to + 1] = d1; out[to + 2] = d2; out[to + 3] = d3;
}

/** The same of eight columns as a WebAssembly module, four columns a register; all lengths in bytes:
 *  tile(x, step, lines, length, jump, weights, bias, out, wide). */
const TILE = (() => {
  const [X, STEP, LINES, LENGTH, JUMP, WEIGHTS, BIAS, OUT, WIDE, I] = Array(10).keys();
  const rows = [X, 10, 11, 12], sums = rows.map((_, row) => [13 + 2 * row, 14 + 2 * row]), left = 21, right = 22, value = 23;
  const I32 = 0x7f, V128 = 0x7b, ADD = 0x6a, get = (n) => [0x20, n], set = (n) => [0x21, n];
  const sized = (bytes) => [...(bytes.length < 128 ? [bytes.length] : [(bytes.length & 127) | 128, bytes.length >> 7]), ...bytes];
  const text = (letters) => sized(Array.from(letters, (letter) => letter.charCodeAt(0)));
  const section = (id, ...bytes) => [id, ...sized(bytes)];
  const add = (n, ...other) => [...get(n), ...other, ADD, ...set(n)];
  const load = (from, offset) => [...get(from), 0xfd, 0x00, 2, offset];
  const multiplyAdd = (sum, weight) =>
    [...get(sum), ...get(value), ...get(weight), 0xfd, 0xe6, 0x01, 0xfd, 0xe4, 0x01, ...set(sum)];
  const code = [
    2, 4, I32, 11, V128, // locals
    ...rows.slice(1).flatMap((row, n) => [...get(rows[n]), ...get(STEP), ADD, ...set(row)]),
    ...sums.flatMap((pair) => pair.flatMap((sum, half) => [...load(BIAS, 16 * half), ...set(sum)])),
    0x03, 0x40, // loop over lines
    0x41, 0, ...set(I),
    0x03, 0x40, // loop over a line
    ...load(WEIGHTS, 0), ...set(left), ...load(WEIGHTS, 16), ...set(right),
    ...rows.flatMap((row, n) => [
      ...get(row), ...get(I), ADD, 0xfd, 0x09, 2, 0, ...set(value), // a float in all four places
      ...multiplyAdd(sums[n][0], left), ...multiplyAdd(sums[n][1], right),
    ]),
    ...add(WEIGHTS, 0x41, 32), ...add(I, 0x41, 4),
    ...get(I), ...get(LENGTH), 0x49, 0x0d, 0, 0x0b, // again while I < LENGTH
    ...rows.flatMap((row) => add(row, ...get(JUMP))),
    ...add(LINES, 0x41, 0x7f), ...get(LINES), 0x0d, 0, 0x0b, // again while lines are left
    ...sums.flatMap((pair) => [
      ...pair.flatMap((sum, half) => [...get(OUT), ...get(sum), 0xfd, 0x0b, 2, 16 * half]),
      ...add(OUT, ...get(WIDE)),
    ]),
    0x0b,
  ];
  return Uint8Array.from([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, 1, 0x60, 9, ...Array(9).fill(I32), 0), // the type of the function
    ...section(2, 1, ...text("page"), ...text("memory"), 2, 0, 1),
    ...section(3, 1, 0),
    ...section(7, 1, ...text("tile"), 0, 0),
    ...section(10, 1, ...sized(code)),
  ]);
})();
