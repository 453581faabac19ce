// Numbers as people read them.

/** A number in about so many digits, without needless zeros. */
export function plain(value, digits = 6) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return String(value);
  const text = String(Number(value.toPrecision(digits)));
  return text.length > digits + 5 ? String(value.toExponential(digits - 1)).replace(/\.?0*e\+?/, "e") : text;
}

/** A number for a field of a form, of numbers that are so far apart: with as many digits as tell these apart. */
export function entry(value, span = 0) {
  if (!Number.isFinite(value)) return "";
  const digits = span > 0 ? Math.ceil(Math.log10(Math.max(Math.abs(value), span) / span)) + 4 : 6;
  const text = String(Number(value.toPrecision(Math.min(17, Math.max(1, digits)))));
  return text.length > 17 ? value.toExponential(Math.min(16, digits - 1)) : text;
}

export const seconds = (ms) => (ms < 1e5 ? `${(ms / 1000).toFixed(ms < 1e4 ? 1 : 0)} s` : `${(ms / 60_000).toFixed(0)} min`);

export function rate(perSecond) {
  return perSecond === null || perSecond === undefined ? "–" : perSecond.toFixed(perSecond < 100 ? 1 : 0);
}

export function gigabytes(bytesPerSecond) {
  return bytesPerSecond === null || bytesPerSecond === undefined ? "–" : (bytesPerSecond * 1e-9).toFixed(3);
}

/** Of a frame how old it is. */
export function age(ms) {
  if (ms < 1000) return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
  const s = ms / 1000;
  if (s < 100) return `${s.toFixed(1)} s`;
  return s < 6000 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}

export const shape = (lengths) => (lengths.length ? lengths.join(" × ") : "one number");
