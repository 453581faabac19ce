// Canvases of the size of their boxes, and lines on them.

/** Makes a canvas as fine as the screen; its context, width and height, and how wide a thin line is, which grows with letters. */
export function prepared(canvas) {
  const fine = devicePixelRatio || 1;
  const ratio = (fine * parseFloat(getComputedStyle(document.documentElement).fontSize)) / 14;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((length) => Math.max(1, Math.round(length * fine)));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  return { context, width, height, ratio };
}

/** The colours of the page, by their names in the style sheet. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Draws values as a line, with their least and most at the edge; a band of one deviation around it, if there is one. */
export function chart(canvas, values, deviations = null) {
  const { context, width, height, ratio } = prepared(canvas);
  const spread = values.map((value, index) => (value === null ? null : deviations?.[index] ?? 0));
  const finite = values.map((value, index) => [value, spread[index]]).filter(([value]) => value !== null && Number.isFinite(value));
  if (finite.length === 0) return;
  let low = Math.min(...finite.map(([value, by]) => value - by));
  let high = Math.max(...finite.map(([value, by]) => value + by));
  if (high === low) [low, high] = [low - 1, high + 1];
  const margin = 6 * ratio;
  const x = (index) => (values.length < 2 ? width / 2 : (index / (values.length - 1)) * width);
  const y = (value) => height - margin - ((value - low) / (high - low)) * (height - 2 * margin);
  if (deviations) {
    context.fillStyle = colour("raised");
    context.beginPath();
    values.forEach((value, index) => context.lineTo(x(index), y(value + spread[index])));
    for (let index = values.length - 1; index >= 0; index -= 1) context.lineTo(x(index), y(values[index] - spread[index]));
    context.fill();
  }
  context.strokeStyle = colour("accent");
  context.lineWidth = 1.25 * ratio;
  context.beginPath();
  let isDrawn = false;
  values.forEach((value, index) => {
    if (value === null) isDrawn = false;
    else {
      context[isDrawn ? "lineTo" : "moveTo"](x(index), y(value));
      isDrawn = true;
    }
  });
  context.stroke();
}
