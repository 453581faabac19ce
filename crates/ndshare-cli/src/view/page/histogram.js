// The histogram of what is seen, with the two limits of the contrast, which are dragged.

import { colour, prepared } from "./chart.js";

/** The values that cut off this part at each end. Whole numbers end before the next one begins. */
export function percentiles({ low, high, bins, whole }, percent) {
  const total = bins.reduce((sum, count) => sum + count, 0);
  const width = (high - low) / bins.length;
  if (!(total > 0) || !(width > 0)) return [low, low + 1];
  const wanted = (total * percent) / 100;
  let [first, last, sum] = [0, bins.length - 1, bins[0]];
  while (first < last && sum <= wanted) sum += bins[(first += 1)];
  sum = bins[last];
  while (last > first && sum <= wanted) sum += bins[(last -= 1)];
  const top = low + (last + 1) * width - (whole ? 1 : 0);
  return first === last ? [low + first * width, low + (last + 1) * width] : [low + first * width, top];
}

export class Histogram {
  /** `onLimits(low, high)` hears of drags. */
  constructor(canvas, onLimits) {
    Object.assign(this, { canvas, onLimits, data: null, limits: [0, 1], isLog: false, held: null });
    canvas.addEventListener("pointerdown", (event) => this.grab(event));
    canvas.addEventListener("pointermove", (event) => this.held !== null && this.drag(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (this.held = null));
  }

  /** The values at the edges: all that there are and both limits. While a limit is held they stay. */
  range() {
    if (this.held !== null) return this.frozen;
    const [low, high] = this.limits;
    const { low: least, high: most } = this.data ?? { low, high };
    const [from, to] = [Math.min(least, low), Math.max(most, high)];
    const margin = (to - from || 1) * 0.04;
    return [from - margin, to + margin];
  }

  value(event) {
    const box = this.canvas.getBoundingClientRect();
    const [from, to] = this.range();
    return from + ((event.clientX - box.left) / box.width) * (to - from);
  }

  grab(event) {
    const value = this.value(event);
    const [low, high] = this.limits;
    this.frozen = this.range();
    this.held = Math.abs(value - low) < Math.abs(value - high) ? 0 : 1;
    this.canvas.setPointerCapture(event.pointerId);
    this.drag(event);
  }

  drag(event) {
    const [from, to] = this.range();
    const least = (to - from) / 1000;
    const limits = [...this.limits];
    limits[this.held] = this.value(event);
    if (this.held === 0) limits[0] = Math.min(limits[0], limits[1] - least);
    else limits[1] = Math.max(limits[1], limits[0] + least);
    this.onLimits(...limits);
  }

  draw(data, limits, isLog) {
    [this.data, this.limits, this.isLog] = [data, limits, isLog];
    const { context, width, height, ratio } = prepared(this.canvas);
    const [from, to] = this.range();
    const x = (value) => ((value - from) / (to - from)) * width;
    context.fillStyle = colour("raised");
    context.fillRect(x(limits[0]), 0, x(limits[1]) - x(limits[0]), height);
    if (data) this.bars(context, x, height);
    context.fillStyle = colour("accent");
    for (const limit of limits) context.fillRect(Math.round(x(limit) - ratio), 0, 2 * ratio, height);
  }

  bars(context, x, height) {
    const { low, high, bins } = this.data;
    const scaled = (count) => (this.isLog ? Math.log1p(count) : count);
    const most = scaled(Math.max(...bins)) || 1;
    const step = (high - low) / bins.length;
    context.fillStyle = colour("muted");
    bins.forEach((count, index) => {
      const tall = (scaled(count) / most) * height * 0.96;
      const left = x(low + index * step);
      context.fillRect(left, height - tall, Math.max(1, x(low + (index + 1) * step) - left + 0.5), tall);
    });
  }
}
