// The keyboard: one table, which is also what the help shows.

export const KEYS = [
  [" ", "Space", "Pause, go on", "pause"],
  ["ArrowLeft", "←", "One frame back", "back"],
  ["ArrowRight", "→", "One frame on", "forth"],
  ["f", "F", "Fit the window", "fit"],
  ["1", "1", "One pixel is one pixel", "one"],
  ["+", "+", "Zoom in", "in"],
  ["-", "-", "Zoom out", "out"],
  ["r", "R", "Rotate", "turn"],
  ["h", "H", "Flip left and right", "mirror"],
  ["v", "V", "Flip top and bottom", "upend"],
  ["a", "A", "Contrast by percentile", "auto"],
  ["l", "L", "Logarithmic histogram", "log"],
  ["c", "C", "Next colour map", "map"],
  ["s", "S", "Mark saturated pixels", "over"],
  ["u", "U", "Spectrum", "spectrum"],
  ["d", "D", "Draw a line", "line"],
  ["b", "B", "Draw a rectangle", "rectangle"],
  ["Escape", "Esc", "Move the picture", "pan"],
  ["p", "P", "Save as PNG", "png"],
  ["n", "N", "Next picture", "next"],
  ["t", "T", "Dark or light", "theme"],
  ["i", "I", "Show or hide the controls", "sidebar"],
  ["?", "?", "These keys", "help"],
];

let byKeys = false;

/** Whether what has the focus was reached by keys. */
export function isByKeys() {
  return byKeys;
}

/** Whether a key is for what has the focus: a field, a slider, a button that was reached by keys, or the dialog. */
function isTaken({ target, key }) {
  const isIn = (selector) => Boolean(target.closest?.(selector));
  if (isIn("dialog")) return key !== "?";
  if (isIn("input[type=range]")) return /^(Arrow|Home|End|Page)/.test(key);
  if (isIn("input, select")) return key !== "Escape";
  return byKeys && isIn("button") && (key === " " || key === "Enter");
}

/** Calls `act(name)` for each key of the table that is pressed and is for nobody else. */
export function listen(act) {
  addEventListener("pointerdown", () => (byKeys = false));
  addEventListener("keydown", (event) => {
    if (event.key === "Tab") byKeys = true;
    if (isTaken(event) || event.ctrlKey || event.metaKey || event.altKey) return;
    // Whoever leaves a field by Escape is not in it any more.
    if (event.key === "Escape") event.target.blur?.();
    const key = event.key === "=" ? "+" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const found = KEYS.find(([code]) => code === key);
    if (!found) return;
    event.preventDefault();
    act(found[3]);
  });
}

export function fill(list) {
  for (const [, shown, text] of KEYS) {
    const [term, key, what] = ["dt", "kbd", "dd"].map((name) => document.createElement(name));
    [key.textContent, what.textContent] = [shown, text];
    term.append(key);
    list.append(term, what);
  }
}
