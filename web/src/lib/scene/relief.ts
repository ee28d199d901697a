// Light on the relief: slopes, cast shadow of a low north-western sun, and the darkness of hollows.
import { Field } from './field';

/** Towards the key light: from the north-west, 40 degrees up, as on printed maps. */
export const SUN: [number, number, number] = normalise([-0.62, 0.56, 0.66]);

export interface Relief {
  /** Unit normals, three per node. */
  normals: Float32Array;
  /** 1 in the sun, 0 in shadow, soft in between. */
  sun: Float32Array;
  /** 1 on open ground, less in hollows. */
  sky: Float32Array;
}

function normalise(v: [number, number, number]): [number, number, number] {
  const length = Math.hypot(...v);
  return [v[0] / length, v[1] / length, v[2] / length];
}

/** Relief of z = scale * field. */
export function relief(field: Field, scale: number): Relief {
  const { n, data } = field;
  const cell = (field.x[1] - field.x[0]) / (n - 1);
  const normals = new Float32Array(n * n * 3);
  for (let row = 0; row < n; row++) {
    const up = Math.min(n - 1, row + 1);
    const down = Math.max(0, row - 1);
    for (let column = 0; column < n; column++) {
      const right = Math.min(n - 1, column + 1);
      const left = Math.max(0, column - 1);
      const gx = (scale * (data[row * n + right] - data[row * n + left])) / (cell * (right - left));
      const gy = (scale * (data[up * n + column] - data[down * n + column])) / (cell * (up - down));
      const length = Math.sqrt(gx * gx + gy * gy + 1);
      const at = (row * n + column) * 3;
      normals[at] = -gx / length;
      normals[at + 1] = -gy / length;
      normals[at + 2] = 1 / length;
    }
  }
  return { normals, sun: castShadow(field, scale), sky: skyView(field, scale) };
}

function castShadow(field: Field, scale: number): Float32Array {
  const { n, data } = field;
  const cell = (field.x[1] - field.x[0]) / (n - 1);
  const flat = Math.hypot(SUN[0], SUN[1]);
  const rise = (SUN[2] / flat) * cell;
  const ux = SUN[0] / flat;
  const uy = SUN[1] / flat;
  const out = new Float32Array(n * n).fill(1);
  const reach = Math.floor(n * 0.28);
  for (let row = 0; row < n; row++) {
    for (let column = 0; column < n; column++) {
      const own = scale * data[row * n + column];
      let worst = 0;
      for (let k = 2; k < reach; k += 2) {
        const c = column + ux * k;
        const r = row + uy * k;
        if (c < 0 || r < 0 || c > n - 1 || r > n - 1) break;
        const over = scale * data[Math.round(r) * n + Math.round(c)] - own - rise * k;
        // A far edge throws a softer shadow.
        const shade = over / (0.02 + 0.012 * k * cell * 8);
        if (shade > worst) worst = shade;
      }
      out[row * n + column] = 1 - Math.min(1, worst) * 0.75;
    }
  }
  return blur(out, n, Math.max(1, Math.round(n / 90)));
}

function skyView(field: Field, scale: number): Float32Array {
  const { n, data } = field;
  const wide = blur(blur(data, n, Math.round(n / 14)), n, Math.round(n / 14));
  const near = blur(data, n, Math.max(1, Math.round(n / 32)));
  const out = new Float32Array(n * n);
  for (let i = 0; i < out.length; i++) {
    const hollow = scale * (0.9 * (wide[i] - data[i]) + 1.6 * (near[i] - data[i]));
    out[i] = Math.min(1.12, Math.max(0.62, 1 - hollow * 1.1));
  }
  return out;
}

/** Box blur with clamped edges, running sums in both directions. */
export function blur(source: Float32Array, n: number, radius: number): Float32Array {
  const across = new Float32Array(n * n);
  const out = new Float32Array(n * n);
  const width = 2 * radius + 1;
  const clamp = (i: number): number => Math.min(n - 1, Math.max(0, i));
  for (let row = 0; row < n; row++) {
    let sum = 0;
    for (let k = -radius; k <= radius; k++) sum += source[row * n + clamp(k)];
    for (let column = 0; column < n; column++) {
      across[row * n + column] = sum / width;
      sum += source[row * n + clamp(column + radius + 1)] - source[row * n + clamp(column - radius)];
    }
  }
  for (let column = 0; column < n; column++) {
    let sum = 0;
    for (let k = -radius; k <= radius; k++) sum += across[clamp(k) * n + column];
    for (let row = 0; row < n; row++) {
      out[row * n + column] = sum / width;
      sum += across[clamp(row + radius + 1) * n + column] - across[clamp(row - radius) * n + column];
    }
  }
  return out;
}

/** Fog from the standard error: none below 4 % of the altitude range, full at 25 %. */
export function fogField(se: Field | null, range: [number, number], n: number): Field | null {
  if (!se) return null;
  const span = range[1] - range[0];
  const data = se.data.map((value) => (Number.isNaN(value) ? 1 : Math.min(1, Math.max(0, (value / span - 0.04) / 0.21))));
  return data.some((value) => value > 0) ? new Field(data, se.n, se.x, se.y).resample(n) : null;
}

/** Sweeps of the 1-2-1 kernel that turn the steps of the grid's cells into a line. */
const COAST_SWEEPS = 2;

/** The mask as a smooth field whose half level is the coast of what was sampled; null when nothing is missing. */
export function maskField(mask: Uint8Array | null, like: Field, n: number): Field | null {
  if (!mask || mask.every((each) => each === 1)) return null;
  let data: Float32Array = Float32Array.from(mask);
  for (let sweep = 0; sweep < COAST_SWEEPS; sweep++) data = binomial(data, like.n);
  return new Field(data, like.n, like.x, like.y).resample(n);
}

/** One sweep of the 1-2-1 kernel along rows and columns, the edge repeated. */
function binomial(source: Float32Array, n: number): Float32Array {
  const across = new Float32Array(n * n);
  const out = new Float32Array(n * n);
  const sweep = (from: Float32Array, into: Float32Array, i: number, place: number, stride: number): void => {
    const before = place ? from[i - stride] : from[i];
    const after = place < n - 1 ? from[i + stride] : from[i];
    into[i] = (before + 2 * from[i] + after) / 4;
  };
  for (let i = 0; i < n * n; i++) sweep(source, across, i, i % n, 1);
  for (let i = 0; i < n * n; i++) sweep(across, out, i, Math.floor(i / n), n);
  return out;
}
