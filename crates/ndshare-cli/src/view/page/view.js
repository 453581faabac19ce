// Where a frame is on a canvas: plain arithmetic. Lengths on the canvas are in pixels of the screen.

const MOST_ZOOM = 128;

/** How a frame is looked at: `zoom` pixels of the screen for one of the frame, which has `x`, `y` in the middle. */
export class View {
  constructor() {
    Object.assign(this, { mode: "fit", zoom: 1, x: 0, y: 0, turns: 0, mirrored: false, upended: false });
    this.frame = [1, 1];
    this.canvas = [1, 1];
  }

  /** Width and height of the frame and of the canvas. */
  resize(frame, canvas) {
    const isOther = frame[0] !== this.frame[0] || frame[1] !== this.frame[1];
    if (isOther) {
      this.x = (this.x / this.frame[0]) * frame[0];
      this.y = (this.y / this.frame[1]) * frame[1];
    }
    [this.frame, this.canvas] = [frame, canvas];
    if (this.mode === "fit") this.fit();
    this.clamp();
    return isOther;
  }

  fit() {
    const [width, height] = this.turns % 2 ? [this.frame[1], this.frame[0]] : this.frame;
    this.mode = "fit";
    this.zoom = Math.min(this.canvas[0] / width, this.canvas[1] / height);
    [this.x, this.y] = [this.frame[0] / 2, this.frame[1] / 2];
  }

  one() {
    [this.mode, this.zoom] = ["free", 1];
    this.clamp();
  }

  /** Zooms by a factor; what is at a point of the canvas stays there. */
  zoomAt(factor, point = [this.canvas[0] / 2, this.canvas[1] / 2]) {
    const before = this.toFrame(point);
    const least = 0.5 * Math.min(this.canvas[0] / this.frame[0], this.canvas[1] / this.frame[1], 1);
    this.zoom = Math.min(MOST_ZOOM, Math.max(least, this.zoom * factor));
    const after = this.toFrame(point);
    this.mode = "free";
    this.x += before[0] - after[0];
    this.y += before[1] - after[1];
    this.clamp();
  }

  /** Moves the picture by so many pixels of the screen. */
  pan(dx, dy) {
    const [right, down] = this.unturned(dx, dy);
    this.mode = "free";
    this.x -= right / this.zoom;
    this.y -= down / this.zoom;
    this.clamp();
  }

  clamp() {
    this.x = Math.min(this.frame[0], Math.max(0, this.x));
    this.y = Math.min(this.frame[1], Math.max(0, this.y));
  }

  turn() {
    this.turns = (this.turns + 1) % 4;
    if (this.mode === "fit") this.fit();
  }

  /** A direction on the canvas as one of the frame. */
  unturned(dx, dy) {
    let [x, y] = [dx, dy];
    for (let turn = 0; turn < this.turns; turn += 1) [x, y] = [y, -x];
    return [this.mirrored ? -x : x, this.upended ? -y : y];
  }

  turned(dx, dy) {
    let [x, y] = [this.mirrored ? -dx : dx, this.upended ? -dy : dy];
    for (let turn = 0; turn < this.turns; turn += 1) [x, y] = [-y, x];
    return [x, y];
  }

  toFrame([px, py]) {
    const [dx, dy] = this.unturned(px - this.canvas[0] / 2, py - this.canvas[1] / 2);
    return [this.x + dx / this.zoom, this.y + dy / this.zoom];
  }

  toCanvas([x, y]) {
    const [dx, dy] = this.turned((x - this.x) * this.zoom, (y - this.y) * this.zoom);
    return [this.canvas[0] / 2 + dx, this.canvas[1] / 2 + dy];
  }

  /** From canvas to frame as a matrix: x = a px + b py + c, y = d px + e py + f. */
  matrix() {
    const [c, f] = this.toFrame([0, 0]);
    const [x1, y1] = this.toFrame([1, 0]);
    const [x2, y2] = this.toFrame([0, 1]);
    return [x1 - c, x2 - c, c, y1 - f, y2 - f, f];
  }

  /** Left, top, right and bottom of what is seen, in whole pixels of the frame; and the rows and columns it has on the screen. */
  seen() {
    const corners = [[0, 0], this.canvas].map((point) => this.toFrame(point));
    const edge = (axis) => {
      const [low, high] = [corners[0][axis], corners[1][axis]].sort((a, b) => a - b);
      return [Math.max(0, Math.floor(low + 1e-6)), Math.min(this.frame[axis], Math.ceil(high - 1e-6))];
    };
    const [[left, right], [top, bottom]] = [edge(0), edge(1)];
    const window = [(bottom - top) * this.zoom, (right - left) * this.zoom].map((n) => Math.max(1, Math.round(n)));
    return { region: [left, top, Math.max(right, left), Math.max(bottom, top)], window };
  }
}
