"use strict";

function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
}

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

const sizeOf = (shape) => shape.reduce((product, length) => product * length, 1);

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
    if (dtype === "float16") return fromHalf(new Uint16Array(this.buffer, offset, count));
    const whole = new Int8Array(this.buffer, offset, count), factors = this.get(scales);
    return Float32Array.from(whole, (value, i) => value * factors[i % factors.length]);
  }
}
