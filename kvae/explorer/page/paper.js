/** Paper to draw on, and a place to drop a file. */
class Paper {
  constructor(canvas, section, { shape, background, fit, onChange, onRefusal }) {
    const [height, width] = shape;
    Object.assign(this, { canvas, shape, background, fit, onChange, onRefusal });
    canvas.width = Math.max(1, 280 * Math.min(1, width / height));
    canvas.height = Math.max(1, (canvas.width * height) / width);
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.small = element("canvas", { width, height });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.last = this.at(event);
      this.line(this.last);
    });
    canvas.addEventListener("pointermove", (event) => { if (this.last) this.line(this.at(event)); });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { this.last = null; });
    section.addEventListener("dragover", (event) => { event.preventDefault(); section.classList.add("over"); });
    section.addEventListener("dragleave", () => section.classList.remove("over"));
    section.addEventListener("drop", (event) => {
      event.preventDefault();
      section.classList.remove("over");
      this.open(event.dataTransfer.files[0]);
    });
    this.clear();
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * this.canvas.width,
      ((event.clientY - box.top) / box.height) * this.canvas.height,
    ];
  }

  line(to) {
    const from = this.last;
    this.context.strokeStyle = by("ink").value;
    this.context.lineWidth = this.canvas.width / 13;
    this.context.lineCap = "round";
    this.context.beginPath();
    this.context.moveTo(...from);
    this.context.lineTo(to[0] + 0.01, to[1]);
    this.context.stroke();
    this.last = to;
    this.onChange();
  }

  clear() {
    this.context.fillStyle = this.background;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** A picture, fitted as those were that the model was trained on. */
  async open(file) {
    if (!file) return;
    let picture;
    try {
      picture = await createImageBitmap(file);
    } catch {
      this.onRefusal();
      return;
    }
    const across = this.canvas.width / picture.width, down = this.canvas.height / picture.height;
    const scale = { crop: Math.max(across, down), pad: Math.min(across, down) }[this.fit];
    const width = picture.width * (scale || across), height = picture.height * (scale || down);
    this.clear();
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(picture, (this.canvas.width - width) / 2, (this.canvas.height - height) / 2, width, height);
    this.onChange();
  }

  /** What is on the paper, at the size of the model's images. */
  values() {
    const context = this.small.getContext("2d", { willReadFrequently: true });
    let from = this.canvas;
    while (from.width > 2 * this.small.width) from = halved(from);
    context.imageSmoothingQuality = "high";
    context.drawImage(from, 0, 0, this.small.width, this.small.height);
    return valuesOf(this.small, this.shape);
  }
}

function halved(canvas) {
  const small = element("canvas", { width: canvas.width >> 1, height: Math.max(1, canvas.height >> 1) });
  small.getContext("2d").drawImage(canvas, 0, 0, small.width, small.height);
  return small;
}
