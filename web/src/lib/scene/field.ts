// A scalar field on a square grid: sampling, smooth refinement, rays against it.

export interface Span {
  n: number;
  x: [number, number];
  y: [number, number];
}

/** Row 0 is the lowest y, column 0 the lowest x; NaN means 'no value'. */
export class Field implements Span {
  readonly n: number;
  readonly x: [number, number];
  readonly y: [number, number];
  readonly data: Float32Array;

  constructor(data: Float32Array, n: number, x: [number, number] = [-3, 3], y: [number, number] = [-3, 3]) {
    if (data.length !== n * n) throw new Error(`a field of ${n} by ${n} needs ${n * n} numbers, not ${data.length}`);
    this.data = data;
    this.n = n;
    this.x = x;
    this.y = y;
  }

  /** Grid coordinates (column, row) of a state, clamped to the grid. */
  private cell(x: number, y: number): [number, number] {
    const last = this.n - 1;
    const u = ((x - this.x[0]) / (this.x[1] - this.x[0])) * last;
    const v = ((y - this.y[0]) / (this.y[1] - this.y[0])) * last;
    return [Math.min(last, Math.max(0, u)), Math.min(last, Math.max(0, v))];
  }

  /** Bilinear value at a state. */
  at(x: number, y: number): number {
    const [u, v] = this.cell(x, y);
    const column = Math.min(this.n - 2, Math.floor(u));
    const row = Math.min(this.n - 2, Math.floor(v));
    const fu = u - column;
    const fv = v - row;
    const base = row * this.n + column;
    const low = this.data[base] * (1 - fu) + this.data[base + 1] * fu;
    const high = this.data[base + this.n] * (1 - fu) + this.data[base + this.n + 1] * fu;
    return low * (1 - fv) + high * fv;
  }

  range(): [number, number] {
    let low = Infinity;
    let high = -Infinity;
    for (const value of this.data) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return low <= high ? [low, high] : [0, 1];
  }

  /** The same field on another grid, by Catmull-Rom: smooth, and exact at shared nodes. */
  resample(n: number): Field {
    if (n === this.n) return this;
    const filled = fillHoles(this.data, this.n);
    const weights = cubicWeights(this.n, n);
    const across = new Float32Array(this.n * n);
    for (let row = 0; row < this.n; row++) {
      for (let column = 0; column < n; column++) {
        let sum = 0;
        for (let k = 0; k < 4; k++) sum += weights.weight[column * 4 + k] * filled[row * this.n + weights.index[column * 4 + k]];
        across[row * n + column] = sum;
      }
    }
    const out = new Float32Array(n * n);
    for (let row = 0; row < n; row++) {
      for (let k = 0; k < 4; k++) {
        const weight = weights.weight[row * 4 + k];
        const from = weights.index[row * 4 + k] * n;
        for (let column = 0; column < n; column++) out[row * n + column] += weight * across[from + column];
      }
    }
    return new Field(out, n, this.x, this.y);
  }
}

interface Weights {
  index: Int32Array;
  weight: Float32Array;
}

const cache = new Map<string, Weights>();

function cubicWeights(from: number, to: number): Weights {
  const key = `${from}:${to}`;
  const known = cache.get(key);
  if (known) return known;
  const index = new Int32Array(to * 4);
  const weight = new Float32Array(to * 4);
  for (let i = 0; i < to; i++) {
    const place = (i * (from - 1)) / (to - 1);
    const base = Math.min(from - 2, Math.floor(place));
    const t = place - base;
    const w = [
      ((-t + 2) * t - 1) * t * 0.5,
      ((3 * t - 5) * t * t + 2) * 0.5,
      ((-3 * t + 4) * t + 1) * t * 0.5,
      (t - 1) * t * t * 0.5,
    ];
    for (let k = 0; k < 4; k++) {
      index[i * 4 + k] = Math.min(from - 1, Math.max(0, base - 1 + k));
      weight[i * 4 + k] = w[k];
    }
  }
  const made = { index, weight };
  cache.set(key, made);
  return made;
}

/** NaN cells take the mean of their known neighbours, ring by ring; the mask still hides them. */
export function fillHoles(data: Float32Array, n: number): Float32Array {
  if (!data.some(Number.isNaN)) return data;
  let current = Float32Array.from(data);
  for (let round = 0; round < n && current.some(Number.isNaN); round++) {
    const next = Float32Array.from(current);
    for (let row = 0; row < n; row++) {
      for (let column = 0; column < n; column++) {
        if (!Number.isNaN(current[row * n + column])) continue;
        let sum = 0;
        let count = 0;
        for (let dr = -1; dr <= 1; dr++) {
          for (let dc = -1; dc <= 1; dc++) {
            const r = row + dr;
            const c = column + dc;
            if (r < 0 || c < 0 || r >= n || c >= n) continue;
            const value = current[r * n + c];
            if (!Number.isNaN(value)) {
              sum += value;
              count++;
            }
          }
        }
        if (count) next[row * n + column] = sum / count;
      }
    }
    current = next;
  }
  return current.map((value) => (Number.isNaN(value) ? 0 : value));
}

/** First place where a ray meets the ground z = scale * field, or null. Coordinates are (x, y, z). */
export function intersect(
  field: Field,
  scale: number,
  origin: [number, number, number],
  direction: [number, number, number],
): [number, number] | null {
  const [enter, leave] = clip(field, origin, direction);
  if (enter > leave) return null;
  const steps = 160;
  const above = (t: number): number =>
    origin[2] + t * direction[2] - scale * field.at(origin[0] + t * direction[0], origin[1] + t * direction[1]);
  let before = enter;
  if (above(before) < 0) return null;
  for (let i = 1; i <= steps; i++) {
    const t = enter + ((leave - enter) * i) / steps;
    if (above(t) <= 0) {
      let low = before;
      let high = t;
      for (let k = 0; k < 24; k++) {
        const middle = (low + high) / 2;
        if (above(middle) > 0) low = middle;
        else high = middle;
      }
      return [origin[0] + high * direction[0], origin[1] + high * direction[1]];
    }
    before = t;
  }
  return null;
}

/** Ray parameters between which the ray is over the grid. */
function clip(field: Field, origin: number[], direction: number[]): [number, number] {
  let enter = 0;
  let leave = Infinity;
  const bounds = [field.x, field.y];
  for (let axis = 0; axis < 2; axis++) {
    if (Math.abs(direction[axis]) < 1e-9) {
      if (origin[axis] < bounds[axis][0] || origin[axis] > bounds[axis][1]) return [1, 0];
      continue;
    }
    const a = (bounds[axis][0] - origin[axis]) / direction[axis];
    const b = (bounds[axis][1] - origin[axis]) / direction[axis];
    enter = Math.max(enter, Math.min(a, b));
    leave = Math.min(leave, Math.max(a, b));
  }
  if (leave === Infinity) leave = enter + 100;
  return [enter, leave];
}
