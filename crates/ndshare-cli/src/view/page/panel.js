// One source: its picture, its spectrum, and what is said of them.

import { colour, plot, prepared } from "./chart.js";
import { table } from "./colour.js";
import { age, gigabytes, rate, shape } from "./format.js";
import { percentiles } from "./histogram.js";
import { PlainPainter, painter } from "./painter.js";
import { listen } from "./pointer.js";
import { View } from "./view.js";

/** So many means of the rectangle are kept. */
const COURSE = 600;
/** Pixels have their values written in them from this size on, in pixels of the style sheet. */
const VALUES_FROM = 44;

/** The limits of types whose numbers all may come. */
export const RANGES = { bool: [0, 1], uint8: [0, 255], int8: [-128, 127], uint16: [0, 65535], int16: [-32768, 32767] };

const made = (name, className, parent) => {
  const element = Object.assign(document.createElement(name), { className });
  parent?.append(element);
  return element;
};

export class Panel {
  /** `page` has `say(type, source, more)`, `activate(panel)` and `changed(panel)`. */
  constructor(source, page) {
    Object.assign(this, { source, page, view: new View(), message: null, spectrumMessage: null, status: null, cursor: null });
    Object.assign(this, { tool: "pan", isPaused: false, course: [], frames: 0, told: {}, why: "" });
    // Messages that came and are not confirmed, and whether this part of the page is on the screen.
    Object.assign(this, { owed: 0, isInView: true, isLost: false });
    this.settings = {
      low: 0, high: 1, auto: true, percent: 0.1, log: false, map: "grey", over: false, limit: null,
      field: null, lead: [], part: "magnitude", colours: true, spectrum: false, line: null, rectangle: null,
    };
    this.build();
    this.watch();
  }

  build() {
    this.element = made("section", "panel", null);
    const head = made("div", "", this.element);
    this.name = made("strong", "", head);
    this.state = made("span", "badge", head);
    this.what = made("span", "what", head);
    const stages = made("div", "stages", this.element);
    this.stage = made("div", "stage", stages);
    this.canvas = made("canvas", "picture", this.stage);
    this.marks = made("canvas", "marks", this.stage);
    this.notice = made("p", "message", this.stage);
    this.notice.hidden = true;
    this.side = made("div", "stage", stages);
    this.side.hidden = true;
    this.spectrumCanvas = made("canvas", "spectrum", this.side);
    made("span", "title", this.side).textContent = "Spectrum, log power";
    const foot = made("p", "", this.element);
    this.value = made("span", "value", foot);
    this.figures = made("span", "figures", foot);
  }

  watch() {
    // Boxes end between pixels of the screen; a canvas of another size than its box has there would be blurred.
    this.exact = new Map();
    this.observer = new ResizeObserver((entries) => {
      for (const { target, devicePixelContentBoxSize: box } of entries) {
        if (box) this.exact.set(target, [box[0].inlineSize, box[0].blockSize]);
      }
      this.moved();
    });
    for (const canvas of [this.canvas, this.spectrumCanvas]) this.follow(canvas);
    this.painter = painter(this.canvas, () => this.lose("canvas", "painter"));
    listen(this.stage, this);
    const sight = new IntersectionObserver((entries) => {
      this.isInView = entries.at(-1).isIntersecting;
      this.confirm();
    });
    sight.observe(this.element);
    document.addEventListener("visibilitychange", () => this.confirm());
  }

  /** Hears from now on of the size of a canvas. */
  follow(canvas) {
    try {
      this.observer.observe(canvas, { box: "device-pixel-content-box" });
    } catch {
      this.observer.observe(canvas);
    }
  }

  /** A canvas that has lost its graphics is of no use any more: a new one, without them, takes its place. */
  lose(canvas, painting) {
    const [old, other] = [this[canvas], this[canvas].cloneNode()];
    this.observer.unobserve(old);
    old.replaceWith(other);
    [this[canvas], this[painting]] = [other, new PlainPainter(other)];
    this.follow(other);
    this.draw();
  }

  // ---- what the pointer asks for

  point({ clientX, clientY }) {
    const [box, ratio] = [this.stage.getBoundingClientRect(), devicePixelRatio || 1];
    return [(clientX - box.left) * ratio, (clientY - box.top) * ratio];
  }

  activate() {
    this.page.activate(this);
  }

  hover(point) {
    const at = point && this.view.toFrame(point).map(Math.floor);
    if (at && this.isPlot()) at[1] = 0;
    const isInside = at && at.every((place, axis) => place >= 0 && place < this.view.frame[axis]);
    this.cursor = isInside ? at : null;
    if (!isInside) this.value.textContent = "";
    this.ask();
  }

  mark([x0, y0], [x1, y1]) {
    if (this.tool === "line") this.settings.line = [x0, y0, x1, y1];
    else {
      const [width, height] = this.view.frame;
      const edge = (value, most) => Math.max(0, Math.min(most, value));
      const [left, right] = [x0, x1].sort((a, b) => a - b);
      const [top, bottom] = [y0, y1].sort((a, b) => a - b);
      this.settings.rectangle = [
        edge(Math.floor(left), width), edge(Math.floor(top), height), edge(Math.ceil(right), width), edge(Math.ceil(bottom), height),
      ];
      this.course = [];
    }
    this.ask();
    this.draw();
  }

  clear() {
    Object.assign(this.settings, { line: null, rectangle: null });
    this.course = [];
    Object.assign(this.told, { profile: null, rectangle: null });
    this.ask();
    this.draw();
  }

  /** It is looked at otherwise. */
  moved() {
    this.ask();
    this.draw();
    this.page.changed(this);
  }

  // ---- what the server is asked for

  /** Asks once before the next frame of the screen, however often it is called. */
  ask() {
    if (this.asking) return;
    this.asking = requestAnimationFrame(() => {
      this.asking = null;
      this.wish();
    });
  }

  wish() {
    const { field, lead, part, colours, over, limit, line, rectangle, spectrum } = this.settings;
    const { region, window } = this.size();
    const along = this.isPlot() ? [region[0] + 0.5, 0.5, region[2] - 0.5, 0.5] : null;
    const side = [this.side.clientHeight, this.side.clientWidth].map((length) => Math.max(1, Math.round(length * (devicePixelRatio || 1))));
    this.page.say("wish", this.source, {
      // Before the first frame its size is not known: all of it, as large as the canvas.
      window: this.message ? window : [this.canvas.height, this.canvas.width],
      region: this.message && this.view.mode !== "fit" ? region : null,
      field, lead, part, colours, rectangle,
      line: along ?? line,
      limit: over ? limit ?? this.most() : null,
      cursor: this.cursor,
      values: this.hasValues(),
      spectrum: spectrum ? side : null,
    });
  }

  /** Fits the canvases to their boxes; what is seen. */
  size() {
    const ratio = devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.spectrumCanvas]) {
      const about = [canvas.clientWidth, canvas.clientHeight].map((length) => Math.round(length * ratio));
      const [width, height] = (this.exact.get(canvas) ?? about).map((length) => Math.max(1, length));
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    }
    const { columns, rows } = this.told;
    this.view.resize(columns ? [columns, rows] : this.view.frame, [this.canvas.width, this.canvas.height]);
    return this.view.seen();
  }

  hasValues() {
    return this.view.zoom / (devicePixelRatio || 1) >= VALUES_FROM;
  }

  /** Frames of one row are drawn as a line: as a picture they would be as thin as one. */
  isPlot() {
    return this.told.rows === 1 && this.told.columns > 1 && this.view.turns % 2 === 0 && !this.hasValues();
  }

  most() {
    return RANGES[this.told.dtype]?.[1] ?? null;
  }

  // ---- what the server says

  hear(message) {
    this.owed += 1;
    if (message.kind === "spectrum") {
      this.spectrumMessage = message;
    } else {
      this.take(message);
    }
    this.draw();
    // The next one may come when this one is on the screen.
    requestAnimationFrame(() => this.confirm());
  }

  /** Asks for the next picture. What nobody sees asks for none, until it is seen. */
  confirm() {
    if (document.hidden || !this.isInView) return;
    for (; this.owed > 0; this.owed -= 1) this.page.say("next", this.source);
  }

  /** There is a connection, or another one, of which nothing has come yet. */
  connected() {
    [this.owed, this.isLost] = [0, false];
    this.wish();
  }

  /** There is none: what is seen is of before. */
  lost() {
    this.isLost = true;
    this.tell();
  }

  take(message) {
    const { told } = message;
    const isOther = ["dtype", "shape", "field"].some((name) => String(told[name]) !== String(this.told[name]));
    const kept = { histogram: told.histogram ?? this.told.histogram };
    [this.message, this.told, this.isPaused] = [message, { ...told, ...kept, at: performance.now() }, told.paused];
    this.frames += 1;
    this.why = "";
    if (isOther) this.settle();
    if (this.settings.auto && told.histogram) this.setAuto();
    if (told.rectangle) {
      this.course.push({ ...told.rectangle, at: performance.now() });
      this.course.splice(0, this.course.length - COURSE);
    }
    this.page.changed(this);
  }

  /** The frames have another shape or type. */
  settle() {
    const { settings, told } = this;
    const range = RANGES[told.dtype];
    this.what.textContent = [told.field, shape(told.shape), told.dtype].filter(Boolean).join(" ");
    [settings.lead, settings.limit, this.course] = [told.lead, null, []];
    const isOfColours = this.message.channels > 1 && Boolean(range);
    if (isOfColours) [settings.low, settings.high, settings.auto] = [...range, false];
    // Limits of colours are none of what comes after them.
    else if (this.isOfColours) settings.auto = true;
    this.isOfColours = isOfColours;
    this.size();
    this.ask();
  }

  setAuto() {
    const { settings } = this;
    if (settings.part === "phase" && this.told.complex) [settings.low, settings.high] = [-Math.PI, Math.PI];
    else [settings.low, settings.high] = percentiles(this.told.histogram, settings.percent);
  }

  setStatus(status) {
    this.status = status;
    this.name.textContent = status.name || "array";
    this.tell();
    this.page.changed(this);
  }

  /** Why the frames that come now cannot be shown. */
  setNote(why) {
    this.why = why;
    this.tell();
  }

  // ---- what is seen

  look(message, limits) {
    const codes = limits.map((limit) => (limit - message.offset) / message.scale);
    if (codes[0] === codes[1]) codes[1] += 1;
    return { view: this.view, limits: codes, table: table(this.settings.map), ground: this.ground() };
  }

  ground() {
    const [, ...parts] = /^#(..)(..)(..)/.exec(colour("stage")) ?? ["", "00", "00", "00"];
    return parts.map((part) => parseInt(part, 16));
  }

  draw() {
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = null;
      this.paint();
    });
  }

  paint() {
    this.size();
    const { message, settings } = this;
    this.canvas.style.visibility = message ? "" : "hidden"; // it would be black, and so look like a picture
    if (message) this.painter.draw(message, this.look(message, [settings.low, settings.high]));
    if (settings.spectrum && this.spectrumMessage) this.paintSpectrum();
    this.paintMarks();
    this.tell();
  }

  paintSpectrum() {
    this.spectrumPainter ??= painter(this.spectrumCanvas, () => this.lose("spectrumCanvas", "spectrumPainter"));
    const message = this.spectrumMessage;
    const view = new View();
    view.resize([message.region[2], message.region[3]], [this.spectrumCanvas.width, this.spectrumCanvas.height]);
    // From where nine of ten are above, to the strongest.
    const step = Math.ceil(message.codes.length / 4096);
    const some = message.codes.filter((_, index) => index % step === 0).sort();
    const limits = [some[Math.floor(some.length / 10)], 65533];
    this.spectrumPainter.draw(message, { ...this.look(message, [0, 1]), view, limits, table: table("inferno") });
  }

  paintMarks() {
    const { context, ratio } = prepared(this.marks);
    if (this.isPlot() && this.told.profile) {
      this.paintPlot();
      return;
    }
    const { line, rectangle } = this.settings;
    // Bright on dark: what is below may be either.
    const path = (points, isClosed) => {
      context.beginPath();
      for (const point of points) context.lineTo(...this.view.toCanvas(point));
      if (isClosed) context.closePath();
      for (const [width, style] of [[4, "#000a"], [1.75, "#ffc94d"]]) {
        [context.lineWidth, context.strokeStyle] = [width * ratio, style];
        context.stroke();
      }
    };
    if (line) path([line.slice(0, 2), line.slice(2)], false);
    if (rectangle) {
      const [left, top, right, bottom] = rectangle;
      path([[left, top], [right, top], [right, bottom], [left, bottom]], true);
    }
    if (this.hasValues() && this.told.values) this.paintValues(context, ratio);
  }

  /** A frame of one row, as a line in the place of its picture. */
  paintPlot() {
    const { values } = this.told.profile;
    const [left, , right] = this.view.seen().region;
    const step = (right - left - 1) / Math.max(1, values.length - 1);
    const at = values.map((_, index) => this.view.toCanvas([left + 0.5 + index * step, 0.5])[0]);
    plot(this.marks, { values, at, from: String(left), to: String(right - 1), ground: colour("stage") });
  }

  /** The values of pixels, in them. */
  paintValues(context, ratio) {
    const [left, top] = this.message.region;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3 * ratio;
    context.strokeStyle = "#000b";
    context.fillStyle = "#fff";
    this.told.values.forEach((row, y) => row.forEach((text, x) => {
      const lines = text.split(", ");
      const size = Math.min(15 * ratio, (this.view.zoom * 1.5) / Math.max(...lines.map((line) => line.length), 3));
      context.font = `${size}px system-ui, sans-serif`;
      const [px, py] = this.view.toCanvas([left + x + 0.5, top + y + 0.5]);
      lines.forEach((line, index) => {
        const at = py + (index - (lines.length - 1) / 2) * size * 1.15;
        context.strokeText(line, px, at);
        context.fillText(line, px, at);
      });
    }));
  }

  /** The lines of text around the picture. */
  tell() {
    const { status, told } = this;
    const state = this.isLost ? "lost" : this.isPaused ? "paused" : status?.state ?? "waiting";
    [this.state.textContent, this.state.dataset.state] = [state, state];
    const lost = this.isLost && "the viewer does not answer; the connection is made again as soon as it does";
    this.notice.textContent = lost || status?.text || this.why;
    this.notice.hidden = !this.notice.textContent;
    if (this.cursor && told.cursor) {
      const { x, y, text } = told.cursor;
      this.value.innerHTML = "";
      this.value.append(`x ${x}  y ${y}  `, Object.assign(document.createElement("b"), { textContent: text }));
    }
    const counts = status?.counts;
    const since = told.at ? told.age_ms + performance.now() - told.at : null;
    const parts = [
      counts && `${rate(counts.frames_per_s)} frames/s`,
      counts && `${gigabytes(counts.bytes_per_s)} GB/s`,
      counts && counts.missed > 0 && `${counts.missed} missed`,
      since !== null && `age ${age(since)}`,
    ];
    this.figures.textContent = parts.filter(Boolean).join("  ·  ");
  }
}

