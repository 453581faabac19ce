// Canvases of the size of their boxes, and lines on them.

import { plain } from "./format.js";

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

/** Draws values as a line: `at` says where each one is, evenly apart without; `deviations` become a band around it. The least and
    the most stand at the edge, and what is at both ends, `from` and `to`, below. `ground` covers what is beneath. */
export function plot(canvas, { values, deviations = null, at = null, from = "", to = "", ground = null }) {
  const { context, width, height, ratio } = prepared(canvas);
  if (ground) {
    context.fillStyle = ground;
    context.fillRect(0, 0, width, height);
  }
  const isThere = (value) => value !== null && Number.isFinite(value);
  const spread = values.map((_, index) => deviations?.[index] ?? 0);
  const [low, high] = bounds(values, spread, isThere);
  if (low === null) return;
  const size = 11 * ratio;
  const [above, below] = [1.4 * size, from || to ? 2.5 * size : 1.4 * size];
  const x = (index) => at?.[index] ?? (values.length < 2 ? width / 2 : (index / (values.length - 1)) * width);
  const y = (value) => height - below - ((value - low) / (high - low)) * (height - above - below);
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
    if (isThere(value)) context[isDrawn ? "lineTo" : "moveTo"](x(index), y(value));
    isDrawn = isThere(value);
  });
  context.stroke();
  label(context, { width, height, size }, [plain(high, 4), plain(low, 4), from, to], height - below);
}

/** The least and the most that is drawn; none where there is nothing. */
function bounds(values, spread, isThere) {
  let [low, high] = [Infinity, -Infinity];
  values.forEach((value, index) => {
    if (isThere(value)) [low, high] = [Math.min(low, value - spread[index]), Math.max(high, value + spread[index])];
  });
  if (low > high) return [null, null];
  return low === high ? [low - 1, high + 1] : [low, high];
}

/** The most above, the least at the foot of the line, and what is at both ends below. */
function label(context, { width, height, size }, [most, least, from, to], foot) {
  const edge = size / 4;
  context.font = `${size}px system-ui, "DejaVu Sans", sans-serif`;
  context.fillStyle = colour("muted");
  const write = (text, x, y, align, baseline) => {
    [context.textAlign, context.textBaseline] = [align, baseline];
    context.fillText(text, x, y);
  };
  write(most, edge, edge, "left", "top");
  write(least, edge, foot + 1, "left", "top");
  write(from, edge, height - edge, "left", "bottom");
  write(to, width - edge, height - edge, "right", "bottom");
}
