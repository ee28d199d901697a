// Which contour lines to draw.

export interface Levels {
  step: number;
  /** Lines lie at offset + k * step: half a step off zero, so that no plateau at a round height speckles. */
  offset: number;
  values: number[];
}

/** A 'nice' step (1, 2, 2.5 or 5 times a power of ten) that gives about `target` lines over a range. */
export function niceStep(low: number, high: number, target = 14): number {
  const raw = Math.max(high - low, 1e-9) / target;
  const power = 10 ** Math.floor(Math.log10(raw));
  for (const factor of [1, 2, 2.5, 5]) if (factor * power >= raw * 0.999) return factor * power;
  return 10 * power;
}

export function contourLevels(low: number, high: number, target = 14): Levels {
  const step = niceStep(low, high, target);
  const offset = step / 2;
  const values: number[] = [];
  for (let k = Math.ceil((low - offset) / step); offset + k * step < high; k++) {
    values.push(Number((offset + k * step).toPrecision(12)));
  }
  return { step, offset, values };
}

/** Every fifth line is an index line: heavier and labelled. */
export function isIndex(value: number, levels: Levels): boolean {
  const k = Math.round((value - levels.offset) / levels.step);
  return ((k % 5) + 5) % 5 === 0;
}
