// A ground learned from comparisons has no scale of its own: beside gold it is drawn as high as gold is.

export interface Scaled {
  data: Float32Array;
  /** Learned altitude times this is what is drawn. */
  factor: number;
}

/** `learned` with the spread that `gold` has over the cells that are shown; a flat ground stays as it is. */
export function scaledLike(learned: Float32Array, gold: Float32Array, mask: Uint8Array | null): Scaled {
  const shown = [...learned.keys()].filter((i) => !mask || mask[i]);
  const spread = (values: Float32Array): number => {
    const mean = shown.reduce((sum, i) => sum + values[i]!, 0) / shown.length;
    return Math.sqrt(shown.reduce((sum, i) => sum + (values[i]! - mean) ** 2, 0) / shown.length);
  };
  const own = shown.length ? spread(learned) : 0;
  const factor = own > 1e-6 ? spread(gold) / own : 1;
  return { data: learned.map((value) => value * factor), factor };
}
