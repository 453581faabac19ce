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

/** A message in full as a PNG, coloured as it is seen. */
export async function png(message, limits, table) {
  const canvas = new OffscreenCanvas(message.width, message.height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(message.width, message.height);
  const words = new Uint32Array(image.data.buffer);
  const colour = colouring(message, limits, table);
  for (let pixel = 0; pixel < words.length; pixel += 1) words[pixel] = colour(pixel);
  context.putImageData(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}
