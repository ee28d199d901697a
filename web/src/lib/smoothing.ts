// Smoothing for charts: always drawn over the raw line, never instead of it.

/**
 * The bias-corrected exponential average: s_t = sum_k a^(t-k) x_k / sum_k a^(t-k), over the values there are.
 * `weight` is a in [0, 1); 0 gives the values back. A missing value stays missing and does not reset the average.
 */
export function smooth(values: (number | null)[], weight: number): (number | null)[] {
  if (weight <= 0) return values;
  let sum = 0;
  let mass = 0;
  return values.map((value) => {
    if (value === null || !Number.isFinite(value)) return null;
    sum = weight * sum + value;
    mass = weight * mass + 1;
    return sum / mass;
  });
}

/** The index of the step nearest to `step` in the ascending list `steps`; -1 when the list is empty. */
export function nearest(steps: ArrayLike<number>, step: number): number {
  let low = 0;
  let high = steps.length - 1;
  if (high < 0) return -1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle]! < step) low = middle + 1;
    else high = middle;
  }
  return low > 0 && step - steps[low - 1]! <= steps[low]! - step ? low - 1 : low;
}
