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
