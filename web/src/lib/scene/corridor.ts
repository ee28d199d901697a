// The safety corridor: the reference's own cloud, as wide as the KL budget allows.
//
// In the linear-Gaussian approximation the cheapest way to move the mean position at time t by d costs
// d' C_t^-1 d / 2 nats, C_t being the covariance of the reference's cloud at t; a budget of e nats therefore
// reaches to sqrt(2 e) standard deviations.
import { Field } from './field';
import type { Contours, Tube } from './view';

export function sigmas(budget: number): number {
  return Math.sqrt(2 * Math.max(0, budget));
}

/** '1 in e^KL': how rarely the reference itself would do this. */
export function oneIn(nats: number): string {
  if (!(nats > 0)) return '1 in 1';
  const odds = Math.exp(nats);
  if (odds < 10) return `1 in ${odds.toFixed(1)}`;
  if (odds < 1e6) return `1 in ${Math.round(odds).toLocaleString('en')}`;
  return `1 in 10${[...String(Math.round(nats / Math.LN10))].map((digit) => '⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(digit)]).join('')}`;
}

interface Ellipse {
  x: number;
  y: number;
  /** Inverse covariance. */
  a: number;
  b: number;
  c: number;
}

function ellipses(tube: Tube, between: number): Ellipse[] {
  const count = tube.mean.length / 2;
  const out: Ellipse[] = [];
  for (let t = 0; t < count; t++) {
    const last = t === count - 1;
    for (let k = 0; k < (last ? 1 : between); k++) {
      const f = k / between;
      const at = (block: Float32Array, width: number, i: number): number =>
        last ? block[t * width + i] : block[t * width + i] * (1 - f) + block[(t + 1) * width + i] * f;
      const cxx = at(tube.covariance, 4, 0) + 1e-5;
      const cxy = at(tube.covariance, 4, 1);
      const cyy = at(tube.covariance, 4, 3) + 1e-5;
      const det = cxx * cyy - cxy * cxy;
      out.push({ x: at(tube.mean, 2, 0), y: at(tube.mean, 2, 1), a: cyy / det, b: -cxy / det, c: cxx / det });
    }
  }
  return out;
}

/** Standard deviations from the reference's cloud at its nearest time, on a grid. */
export function distanceField(tube: Tube, n: number, x: [number, number], y: [number, number]): Field {
  const list = ellipses(tube, 3);
  const data = new Float32Array(n * n);
  for (let row = 0; row < n; row++) {
    const py = y[0] + ((y[1] - y[0]) * row) / (n - 1);
    for (let column = 0; column < n; column++) {
      const px = x[0] + ((x[1] - x[0]) * column) / (n - 1);
      let best = Infinity;
      for (const e of list) {
        const dx = px - e.x;
        const dy = py - e.y;
        const squared = e.a * dx * dx + 2 * e.b * dx * dy + e.c * dy * dy;
        if (squared < best) best = squared;
      }
      data[row * n + column] = Math.min(20, Math.sqrt(Math.max(0, best)));
    }
  }
  return new Field(data, n, x, y);
}

/** Half-width of the tube across its direction of travel at step t, in state units. */
export function halfWidth(tube: Tube, t: number, budget: number): number {
  const count = tube.mean.length / 2;
  const from = Math.max(0, t - 1);
  const to = Math.min(count - 1, t + 1);
  let dx = tube.mean[to * 2] - tube.mean[from * 2];
  let dy = tube.mean[to * 2 + 1] - tube.mean[from * 2 + 1];
  const length = Math.hypot(dx, dy) || 1;
  dx /= length;
  dy /= length;
  const c = tube.covariance;
  const variance = c[t * 4] * dy * dy - 2 * c[t * 4 + 1] * dx * dy + c[t * 4 + 3] * dx * dx;
  return sigmas(budget) * Math.sqrt(Math.max(0, variance));
}

/** Signed area test: is a point inside a closed polygon given as x, y pairs? */
export function insidePolygon(x: number, y: number, points: Float32Array, from: number, to: number): boolean {
  let inside = false;
  for (let i = from, j = to - 1; i < to; j = i++) {
    const yi = points[i * 2 + 1];
    const yj = points[j * 2 + 1];
    if (yi > y !== yj > y && x < ((points[j * 2] - points[i * 2]) * (y - yi)) / (yj - yi) + points[i * 2]) inside = !inside;
  }
  return inside;
}

/** Is a state outside every region of the widest contour level? (language-model maps) */
export function outsideContours(contours: Contours, x: number, y: number): boolean {
  const widest = Math.max(...contours.levels);
  let inside = false;
  for (let i = 0; i < contours.levels.length; i++) {
    if (contours.levels[i] !== widest) continue;
    if (insidePolygon(x, y, contours.points, contours.offsets[i], contours.offsets[i + 1])) inside = !inside;
  }
  return !inside;
}

/** Largest q with kl(q || p) <= nats: the most mass that may lie outside a region of reference mass 1 - p. */
export function massBound(p: number, nats: number): number {
  if (nats >= Math.log(1 / p)) return 1;
  const divergence = (q: number): number => q * Math.log(q / p) + (q < 1 ? (1 - q) * Math.log((1 - q) / (1 - p)) : 0);
  let low = p;
  let high = 1 - 1e-12;
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (divergence(middle) > nats) high = middle;
    else low = middle;
  }
  return low;
}
