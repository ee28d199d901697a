// The cloud of samples: which are shown, how they are coloured, which one lies under the pointer.
export type ColourBy = 'advantage' | 'reward' | 'prompt';

const WIDTH = 8;
const [REWARD, ADVANTAGE, PROMPT] = [2, 4, 7];

/** Row numbers of the points that are shown; `prompt` restricts them when colouring by prompt. */
export function shownRows(points: Float32Array, by: ColourBy, prompt: number | null): number[] {
  const out: number[] = [];
  for (let row = 0; row < points.length / WIDTH; row++) {
    if (by !== 'prompt' || prompt === null || points[row * WIDTH + PROMPT] === prompt) out.push(row);
  }
  return out;
}

/** The points as a view takes them: warm and cool are the sign of what they are coloured by, size its amount. */
export function coloured(points: Float32Array, rows: number[], by: ColourBy): Float32Array {
  const out = new Float32Array(rows.length * WIDTH);
  rows.forEach((row, place) => {
    out.set(points.subarray(row * WIDTH, (row + 1) * WIDTH), place * WIDTH);
    if (by !== 'advantage') out[place * WIDTH + ADVANTAGE] = points[row * WIDTH + REWARD]!;
  });
  return out;
}

/** Share of points that have an advantage. */
export function advantageKnown(points: Float32Array): number {
  let known = 0;
  for (let i = ADVANTAGE; i < points.length; i += WIDTH) if (Number.isFinite(points[i])) known++;
  return points.length ? known / (points.length / WIDTH) : 0;
}

/** The row of `rows` whose picture lies nearest to a pixel, within `reach` pixels. */
export function nearestRow(
  points: Float32Array,
  rows: number[],
  at: { x: number; y: number },
  project: (x: number, y: number) => { x: number; y: number },
  reach = 14,
): number | null {
  let best: number | null = null;
  let least = reach;
  for (const row of rows) {
    const pixel = project(points[row * WIDTH]!, points[row * WIDTH + 1]!);
    const distance = Math.hypot(pixel.x - at.x, pixel.y - at.y);
    if (distance < least) [best, least] = [row, distance];
  }
  return best;
}

export interface PointFacts {
  x: number;
  y: number;
  reward: number;
  gold: number;
  advantage: number;
  kl: number;
  length: number;
  prompt: number;
}

export function factsOf(points: Float32Array, row: number): PointFacts {
  const [x, y, reward, gold, advantage, kl, length, prompt] = points.subarray(row * WIDTH, (row + 1) * WIDTH);
  return { x: x!, y: y!, reward: reward!, gold: gold!, advantage: advantage!, kl: kl!, length: length!, prompt: prompt! };
}

/** The path that ends at a point, among paths given as offsets and rows of six; null when its path is not stored. */
export function pathTo(paths: { offsets: Int32Array; rows: Float32Array } | null, x: number, y: number): number | null {
  if (!paths) return null;
  for (let p = 0; p + 1 < paths.offsets.length; p++) {
    const last = (paths.offsets[p + 1]! - 1) * 6;
    if (Math.abs(paths.rows[last]! - x) < 1e-5 && Math.abs(paths.rows[last + 1]! - y) < 1e-5) return p;
  }
  return null;
}

/** Paths of unfinished texts fly level, for they have no reward yet, and land on the ground at their end. */
export function flown(
  paths: { offsets: Int32Array; rows: Float32Array },
  only: number | null,
  cruise: number,
  ground: (x: number, y: number) => number,
): { offsets: Int32Array; rows: Float32Array } {
  const [from, to] = only === null ? [0, paths.offsets.length - 1] : [only, only + 1];
  const base = paths.offsets[from]!;
  const rows = paths.rows.slice(base * 6, paths.offsets[to]! * 6);
  const offsets = paths.offsets.slice(from, to + 1).map((each) => each - base);
  for (let p = 0; p + 1 < offsets.length; p++) {
    for (let i = offsets[p]!; i < offsets[p + 1]!; i++) {
      const landed = i === offsets[p + 1]! - 1;
      rows[i * 6 + 2] = landed ? ground(rows[i * 6]!, rows[i * 6 + 1]!) : cruise;
    }
  }
  return { offsets, rows };
}
