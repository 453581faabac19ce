// Files for the user.

import { colouring } from "./painter.js";

/** Has the browser save bytes under a name. */
export function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A message in full as a PNG: coloured, turned and flipped as it is seen. */
export async function png(message, { view, limits, table }) {
  const { width: columns, height: rows } = message;
  const [width, height] = view.turns % 2 ? [rows, columns] : [columns, rows];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  const colour = colouring(message, limits, table);
  // One pixel on, across and down, is so many columns and rows on in the message; its middle stays the middle.
  const [[a, d], [b, e]] = [view.unturned(1, 0), view.unturned(0, 1)];
  const [left, top] = [(columns - 1 - a * (width - 1) - b * (height - 1)) / 2, (rows - 1 - d * (width - 1) - e * (height - 1)) / 2];
  for (let y = 0, at = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, at += 1) words[at] = colour((top + d * x + e * y) * columns + left + a * x + b * y);
  }
  context.putImageData(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}
