// Pictures drawn on a plain 2-D canvas, where there is no WebGL2: the same arithmetic, pixel by pixel.

import { NO_NUMBER, OVER } from "./colour.js";
import { GlPainter } from "./gl.js";

/** So many canvases of a page have WebGL2: browsers permit 16, and take it from the first ones for the next. */
const MOST_GL = 12;
let count = 0;

const word = ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red;

/** A colour, as a word, for the pixel of a message at an index. */
export function colouring(message, limits, table) {
  const { codes, channels } = message;
  const words = new Uint32Array(table.buffer, table.byteOffset, 256);
  const scale = 255 / (limits[1] - limits[0]);
  const step = (code) => Math.max(0, Math.min(255, Math.round((code - limits[0]) * scale)));
  const [over, noNumber] = [word(OVER), word(NO_NUMBER)];
  return (pixel) => {
    const code = codes[pixel * channels];
    if (message.hasOver && code === 65535) return over;
    if (message.hasNoNumbers && code === 65534) return noNumber;
    if (channels === 1) return words[step(code)];
    const at = pixel * channels;
    return word([step(code), step(codes[at + 1]), step(codes[at + 2])]);
  };
}

export class PlainPainter {
  constructor(canvas) {
    [this.canvas, this.context] = [canvas, canvas.getContext("2d", { alpha: false })];
  }

  draw(message, look) {
    const { width, height } = this.canvas;
    const image = this.context.createImageData(width, height);
    const words = new Uint32Array(image.data.buffer);
    const [a, b, c, d, e, f] = look.view.matrix();
    const [left, top, right, bottom] = message.region;
    const [across, down] = [message.width / (right - left), message.height / (bottom - top)];
    const colour = colouring(message, look.limits, look.table);
    const ground = word(look.ground);
    for (let y = 0, at = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1, at += 1) {
        const column = Math.floor((a * (x + 0.5) + b * (y + 0.5) + c - left) * across);
        const row = Math.floor((d * (x + 0.5) + e * (y + 0.5) + f - top) * down);
        const isInside = column >= 0 && row >= 0 && column < message.width && row < message.height;
        words[at] = isInside ? colour(row * message.width + column) : ground;
      }
    }
    this.context.putImageData(image, 0, 0);
  }
}

/** What draws on this canvas. `?plain` in the address asks for the 2-D canvas. `onLost` hears that another canvas is needed. */
export function painter(canvas, onLost) {
  if (count < MOST_GL && !new URLSearchParams(location.search).has("plain")) {
    try {
      const made = new GlPainter(canvas, onLost);
      count += 1;
      return made;
    } catch {
      // A canvas that was asked for WebGL2 in vain has no context yet.
    }
  }
  return new PlainPainter(canvas);
}
