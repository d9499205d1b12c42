/** A history's terms as curves: one small chart for each, of training and of validation. */
function drawCurves(box, history) {
  const titles = { loss: "loss", reconstruction: "reconstruction", kl: "KL" };
  for (const [name, title] of Object.entries(titles)) {
    const lines = [[name, "training", PALETTE[0]], [`val_${name}`, "validation", PALETTE[1]]]
      .filter(([column]) => (history[column] || []).filter(Number.isFinite).length > 1);
    const drawing = lines.length ? chart(lines, history, title) : null;
    if (drawing) box.append(element("div", {}, heading(title), drawing));
  }
  return box.childElementCount > 0;
}

function heading(text) {
  return element("h3", {}, `${text}, nats per image`);
}

function drawn(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function chart(lines, history, title) {
  const svg = drawn("svg", { viewBox: "0 0 300 170", role: "img", "aria-label": `${title} by epoch` });
  const count = Math.max(...lines.map(([column]) => history[column].length));
  const late = lines.flatMap(([column]) => history[column].slice(count > 3 ? Math.max(1, Math.floor(count / 20)) : 0)).filter(Number.isFinite);
  if (!late.length) return null;
  const low = Math.min(...late), high = Math.max(...late), span = high - low || 1;
  const x = (i) => 40 + (i / Math.max(1, count - 1)) * 190, y = (value) => 10 + (1 - (value - low) / span) * 130;
  const digits = span < 10 ? 1 : 0;
  for (const value of [low, (low + high) / 2, high]) {
    svg.append(drawn("line", { class: "axis", x1: 40, x2: 230, y1: y(value), y2: y(value) }));
    svg.append(drawn("text", { x: 34, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(digits)));
  }
  svg.append(drawn("text", { x: 40, y: 160 }, "epoch 1"));
  svg.append(drawn("text", { x: 230, y: 160, "text-anchor": "end" }, String(count)));
  const ends = [], fits = (value) => Number.isFinite(value) && value <= high + span && value >= low - span;
  for (const [column, label, color] of lines) {
    const values = history[column];
    if (!values.some(fits)) continue;
    const path = values.map((value, i) => (fits(value) ? `${x(i).toFixed(1)},${y(value).toFixed(1)}` : null)).filter(Boolean).join(" ");
    svg.append(drawn("polyline", { points: path, fill: "none", stroke: color, "stroke-width": 2, "stroke-linejoin": "round" }));
    let at = y(values.filter(fits).pop()) + 4;
    if (ends.some((other) => Math.abs(other - at) < 13)) at = ends[0] + (at > ends[0] ? 13 : -13);
    ends.push(at);
    const name = drawn("text", { x: 236, y: at }, label);
    name.style.fill = color;
    svg.append(name);
  }
  return svg;
}

/** A card's names and values; all of it as text, since it may come from a stranger. */
function fillCard(list, card) {
  for (const [name, value] of Object.entries(card)) {
    if (value === null || value === undefined) continue;
    const shown = element("dd", { dir: "auto" });
    if (Array.isArray(value)) shown.textContent = value.map(String).join(", ");
    else if (typeof value === "object") {
      const inner = element("dl"), facts = Object.keys(value).length;
      fillCard(inner, value);
      if (inner.childElementCount)
        shown.append(element("details", {}, element("summary", {}, facts === 1 ? "1 fact" : `${facts} facts`), inner));
    } else shown.textContent = String(value);
    if (shown.textContent) list.append(element("dt", { dir: "auto" }, name.replaceAll("_", " ")), shown);
  }
}
