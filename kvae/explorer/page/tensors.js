"use strict";

function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
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
    const Integers = dtype === "int16" ? Int16Array : Int8Array;
    const whole = new Integers(this.buffer, offset, count), factors = this.get(scales);
    return Float32Array.from(whole, (value, i) => value * factors[i % factors.length]);
  }
}
