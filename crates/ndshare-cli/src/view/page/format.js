// Numbers as people read them.

/** A number in about so many digits, without needless zeros. */
export function plain(value, digits = 6) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return String(value);
  return String(Number(value.toPrecision(digits)));
}

/** A number for a field of a form. */
export function entry(value) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(6))) : "";
}

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
