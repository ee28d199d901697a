// The altitude strip: reward per step as bars, their running sum as a line that ends at the return.
import type { Paths } from '../scene/view';

export interface Strip {
  /** r(s_t) for t = 1 ... T of one path. */
  rewards: number[];
  /** Running sum, discounted. */
  sums: number[];
}

export function strip(paths: Paths, which: number, gamma = 1): Strip {
  const rewards: number[] = [];
  const sums: number[] = [];
  let sum = 0;
  for (let i = paths.offsets[which] + 1; i < paths.offsets[which + 1]; i++) {
    const reward = paths.rows[i * 6 + 2];
    sum += reward * gamma ** rewards.length;
    rewards.push(reward);
    sums.push(sum);
  }
  return { rewards, sums };
}

/** Linear scales, one per list of values, that share one zero line. */
export function zeroScales(lists: number[][], top: number, bottom: number): ((value: number) => number)[] {
  const ends = lists.map((values) => ({ low: Math.min(0, ...values), high: Math.max(0, ...values) }));
  const shares = ends.map(({ low, high }) => -low / (high - low || 1));
  const down = Math.max(...shares);
  const below = down / (down + Math.max(...shares.map((share) => 1 - share)));
  const zero = bottom - below * (bottom - top);
  return ends.map(({ low, high }) => {
    const span = Math.max(below < 1 ? high / (1 - below) : 0, below > 0 ? -low / below : 0) || 1;
    return (value) => zero - (value / span) * (bottom - top);
  });
}

/** Polyline through (x(i), y(value)); missing values break it. */
export function polyline(values: (number | null | undefined)[], x: (i: number) => number, y: (value: number) => number): string {
  let out = '';
  let pen = false;
  values.forEach((value, i) => {
    if (value === null || value === undefined || !Number.isFinite(value)) {
      pen = false;
      return;
    }
    out += `${pen ? 'L' : 'M'}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = true;
  });
  return out;
}
