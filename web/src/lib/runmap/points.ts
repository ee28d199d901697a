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
