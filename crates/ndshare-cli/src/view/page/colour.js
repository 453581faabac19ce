// Colour maps: 256 colours each.

// Polynomials of sixth degree for red, green and blue (Matt Zucker, CC0); the constant term comes first.
const VIRIDIS = [
  [0.2777273272, 0.1050930431, -0.3308618287, -4.634230499, 6.2282699363, 4.7763849977, -5.4354558559],
  [0.0054073445, 1.4046135299, 0.2148475595, -5.7991009734, 14.1799333668, -13.7451453777, 4.6458526122],
  [0.3340998053, 1.3845901626, 0.095095163, -19.3324409563, 56.6905526007, -65.3530326334, 26.3124352496],
];
const INFERNO = [
  [0.0002189404, 0.1065134195, 11.6024930825, -41.7039961314, 77.1629356994, -71.319428245, 25.1311262248],
  [0.001651004631, 0.5639564368, -3.9728539657, 17.4363988821, -33.4023589421, 32.626064264, -12.2426689524],
  [-0.0194808984, 3.9327123889, -15.9423941063, 44.3541451987, -81.8073092574, 73.209519858, -23.0703250029],
];

const polynomial = (rows) => (t) => rows.map((row) => row.reduceRight((sum, term) => sum * t + term, 0));
const MAPS = {
  grey: (t) => [t, t, t],
  viridis: polynomial(VIRIDIS),
  inferno: polynomial(INFERNO),
  // Its ends are the same: phases go round.
  phase: (t) => [0, 1, 2].map((third) => 0.5 + 0.45 * Math.cos(2 * Math.PI * (t - third / 3))),
};

export const NAMES = Object.keys(MAPS);
/** Pixels that reach the limit, and those that are no number. */
export const OVER = [255, 45, 60];
export const NO_NUMBER = [70, 60, 120];

const tables = new Map();

/** Red, green, blue and 255 for each of 256 steps. */
export function table(name) {
  if (!tables.has(name)) {
    const bytes = new Uint8ClampedArray(256 * 4);
    for (let step = 0; step < 256; step += 1) {
      bytes.set([...MAPS[name](step / 255).map((part) => part * 255), 255], step * 4);
    }
    tables.set(name, new Uint8Array(bytes.buffer));
  }
  return tables.get(name);
}
