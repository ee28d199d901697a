// Return against KL: what the price of a nat buys, in lesson 8.

/** KL of the best of n samples to the sampler: ln n - (n - 1) / n nats (exact for a continuous return). */
export function bestOfN(n: number): number {
  return Math.log(n) - (n - 1) / n;
}

/** The n whose marks fit on an axis that ends at `reach` nats. */
export function marks(reach: number): { n: number; kl: number }[] {
  return [2, 4, 16, 64, 1024, 65536, 2 ** 24].map((n) => ({ n, kl: bestOfN(n) })).filter(({ kl }) => kl <= reach);
}

/** n as a mark: 65,536 is written 65 k. */
export function shortCount(n: number): string {
  return n < 1000 ? String(n) : n < 1e6 ? `${Math.round(n / 1024)} k` : `${Math.round(n / 2 ** 20)} M`;
}
