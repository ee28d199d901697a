// Size of a sample's mark.

/** A large |advantage| among samples (rows of eight): their 90th percentile. */
export function pointScale(rows: Float32Array): number {
  const sizes: number[] = [];
  for (let i = 4; i < rows.length; i += 8) if (Number.isFinite(rows[i])) sizes.push(Math.abs(rows[i]));
  sizes.sort((a, b) => a - b);
  return sizes[Math.floor(0.9 * (sizes.length - 1))] || 1;
}
