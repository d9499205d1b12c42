"use strict";

const PALETTE = [
  "#4a78d6", "#dd7a3b", "#39a06c", "#cc5577", "#8a66c8",
  "#b3982c", "#2ca3b4", "#96705a", "#6f9440", "#7c8794",
];

const by = (id) => document.getElementById(id);

/** A colour for each class: ten that differ well, then hues as far apart as can be. */
function colorOf(label) {
  if (label < 0) return PALETTE[9];
  return PALETTE[label] || `hsl(${(label * 137.5) % 360} 50% 55%)`;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Changes a text, unless it is that already. */
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** What a screen reader says. */
function say(text) {
  by("status").textContent = text;
}

/** Draws values in [0, 1], (height, width, channels), at their own size. */
function paint(canvas, values, [height, width, channels]) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  canvas.classList.toggle("crisp", Math.max(height, width) < 64);
  const context = canvas.getContext("2d"), data = context.createImageData(width, height);
  const green = channels > 2 ? 1 : 0, blue = channels > 2 ? 2 : 0;
  for (let i = 0, at = 0; i < data.data.length; i += 4, at += channels) {
    data.data[i] = 255 * values[at] + 0.5;
    data.data[i + 1] = 255 * values[at + green] + 0.5;
    data.data[i + 2] = 255 * values[at + blue] + 0.5;
    data.data[i + 3] = channels === 4 ? 255 * values[at + 3] + 0.5 : 255;
  }
  context.putImageData(data, 0, 0);
}

/** What a canvas of an image's size shows, as values in [0, 1]; of 1, 3 or 4 channels. */
function valuesOf(canvas, [height, width, channels]) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const values = new Float32Array(height * width * channels);
  for (let i = 0, to = 0; i < data.length; i += 4)
    if (channels === 1) values[to++] = Math.round(0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2]) / 255;
    else for (let c = 0; c < channels; c++) values[to++] = data[i + c] / 255;
  return values;
}

/** A picture of many images of one size, in rows. */
class Sheet {
  constructor(picture, [height, width], columns) {
    Object.assign(this, { picture, height, width, columns });
  }

  static async read(base64, shape, columns) {
    const picture = new Image();
    picture.src = `data:image/png;base64,${base64}`;
    await picture.decode();
    return new Sheet(picture, shape, columns);
  }

  draw(canvas, number) {
    canvas.width = this.width;
    canvas.height = this.height;
    canvas.classList.toggle("crisp", Math.max(this.height, this.width) < 64);
    const left = (number % this.columns) * this.width, top = Math.floor(number / this.columns) * this.height;
    canvas.getContext("2d").drawImage(this.picture, left, top, this.width, this.height, 0, 0, this.width, this.height);
  }
}

/** So many canvases of a strip, each within a button where it can be chosen. */
function cells(strip, count, label, chosen = false) {
  while (strip.childElementCount < count) {
    const name = `${label}, ${strip.childElementCount + 1} of ${count}`;
    const canvas = element("canvas", chosen ? { class: "cell" } : { class: "cell", role: "img", "aria-label": name });
    strip.append(chosen ? element("button", { type: "button", class: "choice", "aria-label": name }, canvas) : canvas);
  }
  return Array.from(strip.children);
}

/** Numbers that look random, the same for the same seed. */
function randomFrom(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function normalFrom(random, count) {
  return Float32Array.from({ length: count }, () =>
    Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()));
}
