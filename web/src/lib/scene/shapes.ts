// What is drawn over the terrain, as strokes in state coordinates: the 3-D scene drapes them, the 2-D map prints them.
import { contours as d3contours } from 'd3-contour';
import { distanceField, outsideContours, sigmas } from './corridor';
import type { Field } from './field';
import type { Palette } from './palette';
import { STEP, type Element, type Frame, type Overlays, type Paths, type Pin } from './view';

export interface Stroke {
  /** x, y pairs. */
  points: number[];
  /** Altitude of each point where the stroke leaves the ground. */
  altitude: number[] | null;
  colour: string;
  width: number;
  opacity: number;
  dashed: boolean;
  cased: boolean;
  arrow: boolean;
  closed: boolean;
  element: Element;
}

export function stroke(points: number[], colour: string, width: number, more: Partial<Stroke> = {}): Stroke {
  return {
    points,
    altitude: null,
    colour,
    width,
    opacity: 1,
    dashed: false,
    cased: false,
    arrow: false,
    closed: false,
    element: 'trajectory',
    ...more,
  };
}

export function ellipse(x: number, y: number, rx: number, ry: number, count = 40): number[] {
  const points: number[] = [];
  for (let i = 0; i <= count; i++) {
    const angle = (2 * Math.PI * i) / count;
    points.push(x + rx * Math.cos(angle), y + ry * Math.sin(angle));
  }
  return points;
}

/** The compass at the pin: unit rose, mean arrow with its ring, the reference's arrow with the ring of the KL budget. */
export function compassStrokes(pin: Pin, palette: Palette): Stroke[] {
  if (!pin.mean || !pin.sigma) return [];
  const { x, y } = pin;
  const out: Stroke[] = [];
  out.push(stroke(ellipse(x, y, STEP, STEP), palette.ink, 1, { opacity: 0.55, element: 'policy' }));
  for (let i = 0; i < 8; i++) {
    const angle = (i * Math.PI) / 4;
    const inner = STEP * (i % 2 ? 0.9 : 0.8);
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    const tick = [x + inner * c, y + inner * s, x + STEP * c, y + STEP * s];
    out.push(stroke(tick, palette.ink, 1, { opacity: 0.55, element: 'policy' }));
  }
  if (pin.referenceMean) {
    const rx = x + STEP * pin.referenceMean[0];
    const ry = y + STEP * pin.referenceMean[1];
    const mint = { element: 'corridor' as const, cased: true };
    if (pin.ring && Number.isFinite(pin.ring)) {
      out.push(stroke(ellipse(rx, ry, STEP * pin.ring, STEP * pin.ring), palette.mint, 2.6, { ...mint, dashed: true, cased: false }));
    }
    out.push(stroke([x, y, rx, ry], palette.mint, 3.6, { ...mint, arrow: true }));
  }
  const tx = x + STEP * pin.mean[0];
  const ty = y + STEP * pin.mean[1];
  const own = { element: 'policy' as const };
  out.push(stroke(ellipse(tx, ty, STEP * pin.sigma[0], STEP * pin.sigma[1]), palette.ink, 2, own));
  out.push(stroke(ellipse(tx, ty, 2 * STEP * pin.sigma[0], 2 * STEP * pin.sigma[1]), palette.ink, 1, { ...own, opacity: 0.45 }));
  out.push(stroke([x, y, tx, ty], palette.ink, 4.4, { ...own, arrow: true, cased: true }));
  return out;
}

/** Arrows of a policy on a lattice; the length is the mean step's own, at most that of a cell, so that arrows never cross. */
export function arrowStrokes(rows: Float32Array, colour: string, element: Element, width = 1.6, opacity = 0.75): Stroke[] {
  const out: Stroke[] = [];
  const cell = 6 / Math.sqrt(Math.max(1, rows.length / 6));
  for (let i = 0; i + 5 < rows.length; i += 6) {
    const [x, y, dx, dy] = [rows[i], rows[i + 1], rows[i + 2], rows[i + 3]];
    const length = STEP * Math.hypot(dx, dy);
    if (length < 0.006) continue;
    const shown = (STEP * Math.min(length, 0.86 * cell)) / length;
    out.push(stroke([x, y, x + shown * dx, y + shown * dy], colour, width, { arrow: true, opacity, element }));
  }
  return out;
}

/** A level of advantage that counts as large: the 90th percentile of |advantage|. */
export function advantageScale(paths: Paths): number {
  const sizes: number[] = [];
  for (let i = 4; i < paths.rows.length; i += 6) if (Number.isFinite(paths.rows[i])) sizes.push(Math.abs(paths.rows[i]));
  if (!sizes.length) return 1;
  sizes.sort((a, b) => a - b);
  return sizes[Math.floor(0.9 * (sizes.length - 1))] || 1;
}

export interface PathStyle {
  colour: string;
  width: number;
  opacity: number;
}

/** Style of one step of a path: colour by the sign of its advantage, width by its size; later steps are fainter. */
export function pathStyle(palette: Palette, advantage: number, scale: number, along: number, count: number): PathStyle {
  const crowd = count <= 4 ? 1 : count <= 80 ? 0.72 : 0.5;
  const opacity = crowd * (1 - 0.5 * along);
  const slim = count <= 4 ? 1.5 : count <= 80 ? 1 : 0.75;
  if (!Number.isFinite(advantage)) return { colour: palette.ink, width: 2.2 * slim, opacity };
  const size = Math.min(1, Math.abs(advantage) / scale);
  return { colour: advantage >= 0 ? palette.accent : palette.cool, width: slim * (1.2 + 2.8 * size), opacity };
}

/** True for every row (state) that lies outside the corridor at the chosen budget. */
export function outsideRows(frame: Frame, budget: number, distance: Field | null): (x: number, y: number) => boolean {
  const reach = sigmas(budget);
  if (distance) return (x, y) => distance.at(x, y) > reach;
  const contours = frame.contours;
  if (contours && contours.levels.length) return (x, y) => outsideContours(contours, x, y);
  return () => false;
}

/** Faint paths whose exit is marked: more crosses cover the ground. */
const MOST_CROSSES = 12;

/**
 * Steps of paths, one stroke per step, dashed where they are outside the corridor, with a cross where a path first leaves it.
 * A leading path is drawn last and in full, the others faintly; `size` is the ground's size, for the crosses.
 */
export function pathStrokes(
  paths: Paths,
  palette: Palette,
  outside: (x: number, y: number) => boolean,
  airborne: boolean,
  lead: number | null = null,
  size = 1,
): Stroke[] {
  const scale = advantageScale(paths);
  const count = paths.offsets.length - 1;
  const led = lead !== null && lead < count && count > 1;
  const order = Array.from({ length: count }, (_, p) => p).filter((p) => !led || p !== lead);
  if (led) order.push(lead);
  const out: Stroke[] = [];
  let crosses = MOST_CROSSES;
  for (const p of order) {
    const full = count <= 4 || (led && p === lead);
    const faint = led && p !== lead ? (count <= 16 ? 0.5 : 0.34) : 1;
    out.push(...onePath(paths, p, palette, outside, airborne, { scale, count: full ? 1 : count, faint, size, marked: full || crosses-- > 0 }));
  }
  return out;
}

/** How a path is drawn: the advantage that counts as large, how many are drawn like it, how faint, on what size of ground. */
interface PathLook {
  scale: number;
  count: number;
  faint: number;
  size: number;
  /** Whether its first exit gets a cross. */
  marked: boolean;
}

function onePath(paths: Paths, p: number, palette: Palette, outside: (x: number, y: number) => boolean, airborne: boolean, look: PathLook): Stroke[] {
  const [from, to] = [paths.offsets[p], paths.offsets[p + 1]];
  const full = look.count <= 4;
  const r = paths.rows;
  const out: Stroke[] = [];
  const marks: Stroke[] = [];
  for (let i = from + 1; i < to; i++) {
    const [a, b] = [(i - 1) * 6, i * 6];
    const away = outside(r[b], r[b + 1]);
    const style = pathStyle(palette, r[b + 4], look.scale, (i - from) / (to - from), look.count);
    out.push(
      stroke([r[a], r[a + 1], r[b], r[b + 1]], style.colour, style.width, {
        altitude: airborne ? [r[a + 2], r[b + 2]] : null,
        opacity: style.opacity * look.faint,
        dashed: away,
        cased: full,
        arrow: full,
      }),
    );
    if (away && look.marked && !marks.length) marks.push(...cross(r[b], r[b + 1], palette.pin, (full ? 0.06 : 0.028) * look.size));
  }
  return [...out, ...marks];
}

/** The mark of leaving the corridor. */
export function cross(x: number, y: number, colour: string, size: number): Stroke[] {
  const more = { element: 'corridor' as const, opacity: size > 0.05 ? 0.9 : 0.6 };
  return [
    stroke([x - size, y - size, x + size, y + size], colour, size > 0.05 ? 2 : 1.2, more),
    stroke([x - size, y + size, x + size, y - size], colour, size > 0.05 ? 2 : 1.2, more),
  ];
}

export function routeStroke(route: [number, number][], palette: Palette): Stroke {
  return stroke(route.flat(), palette.mint, 2.2, { dashed: true, cased: true, element: 'corridor', opacity: 0.95 });
}

export function referencePathStrokes(paths: Paths, palette: Palette): Stroke[] {
  const out: Stroke[] = [];
  for (let p = 0; p + 1 < paths.offsets.length; p++) {
    const points: number[] = [];
    for (let i = paths.offsets[p]; i < paths.offsets[p + 1]; i++) points.push(paths.rows[i * 6], paths.rows[i * 6 + 1]);
    out.push(stroke(points, palette.mint, 1.2, { opacity: 0.5, element: 'corridor' }));
  }
  return out;
}

/** Closed contour strokes of the reference cloud (language-model maps): 50, 90 and 99 % regions. */
export function regionStrokes(frame: Frame, palette: Palette): Stroke[] {
  const regions = frame.contours;
  if (!regions) return [];
  const out: Stroke[] = [];
  for (let i = 0; i < regions.levels.length; i++) {
    const points = Array.from(regions.points.subarray(regions.offsets[i] * 2, regions.offsets[i + 1] * 2));
    const level = regions.levels[i];
    out.push(stroke(points, palette.mint, level > 0.95 ? 2.4 : level > 0.8 ? 1.8 : 1.2, {
      element: 'corridor',
      closed: true,
      dashed: level < 0.8,
      opacity: 0.95,
    }));
  }
  return out;
}

/** Lines of equal value of a field, as lists of x, y pairs. */
export function isolines(field: Field, level: number): number[][] {
  const n = field.n;
  const generator = d3contours().size([n, n]).smooth(true);
  const shape = generator.contour(field.data as unknown as number[], level);
  const sx = (field.x[1] - field.x[0]) / (n - 1);
  const sy = (field.y[1] - field.y[0]) / (n - 1);
  const lines: number[][] = [];
  for (const polygon of shape.coordinates) {
    for (const ring of polygon) lines.push(...openRing(ring as [number, number][], n, field, sx, sy));
  }
  return lines;
}

/** d3 closes rings along the border of the grid; those border pieces are no contour and are cut away. */
function openRing(ring: [number, number][], n: number, field: Field, sx: number, sy: number): number[][] {
  const border = ([u, v]: [number, number]): boolean => u <= 0.5 || v <= 0.5 || u >= n - 0.5 || v >= n - 0.5;
  const pieces: number[][] = [];
  let current: number[] = [];
  for (const node of ring) {
    if (border(node)) {
      if (current.length >= 4) pieces.push(current);
      current = [];
      continue;
    }
    current.push(field.x[0] + (node[0] - 0.5) * sx, field.y[0] + (node[1] - 0.5) * sy);
  }
  if (current.length >= 4) pieces.push(current);
  const first = ring[0];
  // A ring that starts in the open was cut in two at its start; join the ends.
  if (pieces.length > 1 && first && !border(first)) {
    const last = pieces.pop()!;
    pieces[0] = last.concat(pieces[0]!.slice(2));
  }
  return pieces;
}

/** The tube's edge at a budget, as closed lines. */
export function corridorEdge(distance: Field, budget: number): number[][] {
  return isolines(distance, sigmas(budget));
}

export function corridorDistance(frame: Frame, n: number, x: [number, number], y: [number, number]): Field | null {
  return frame.corridor ? distanceField(frame.corridor, n, x, y) : null;
}

export interface Spot {
  x: number;
  y: number;
  altitude: number;
  kind: 'peak' | 'pit';
}

/** Spot heights: the summits and pits that stand out from their surroundings, where the mask (if any) shows the ground. */
export function spots(field: Field, most = 4, mask: Uint8Array | null = null): Spot[] {
  const { n, data } = field;
  const [low, high] = field.range();
  const window = Math.max(2, Math.round(n / 9));
  const found: Spot[] = [];
  for (let row = 1; row < n - 1; row++) {
    for (let column = 1; column < n - 1; column++) {
      const own = data[row * n + column];
      if (touchesHole(data, n, row, column) || (mask && !mask[row * n + column])) continue;
      let top = true;
      let bottom = true;
      for (let r = Math.max(0, row - window); r <= Math.min(n - 1, row + window) && (top || bottom); r++) {
        for (let c = Math.max(0, column - window); c <= Math.min(n - 1, column + window); c++) {
          const other = data[r * n + c];
          if (other > own) top = false;
          if (other < own) bottom = false;
        }
      }
      if (top === bottom || Math.abs(own - (low + high) / 2) < 0.16 * (high - low)) continue;
      found.push({
        x: field.x[0] + ((field.x[1] - field.x[0]) * column) / (n - 1),
        y: field.y[0] + ((field.y[1] - field.y[0]) * row) / (n - 1),
        altitude: own,
        kind: top ? 'peak' : 'pit',
      });
    }
  }
  found.sort((a, b) => Math.abs(b.altitude) - Math.abs(a.altitude));
  return found.slice(0, most);
}

/** Is a node, or one of its eight neighbours, without a value? */
function touchesHole(data: Float32Array, n: number, row: number, column: number): boolean {
  for (let r = row - 1; r <= row + 1; r++) for (let c = column - 1; c <= column + 1; c++) if (Number.isNaN(data[r * n + c])) return true;
  return false;
}

/** The pieces of a line that lie where the mask is at least one half: nothing is drawn where nothing was sampled. */
export function ashore(points: number[], mask: Field | null): number[][] {
  if (!mask) return [points];
  const pieces: number[][] = [];
  let current: number[] = [];
  for (let i = 0; i + 1 < points.length; i += 2) {
    if (mask.at(points[i], points[i + 1]) >= 0.5) current.push(points[i], points[i + 1]);
    else {
      if (current.length >= 4) pieces.push(current);
      current = [];
    }
  }
  if (current.length >= 4) pieces.push(current);
  return pieces;
}

/** The pieces of a stroke that lie on the ground from x[0] to x[1] and y[0] to y[1]. */
export function cutTo(whole: Stroke, x: [number, number], y: [number, number]): Stroke[] {
  const p = whole.closed ? [...whole.points, whole.points[0], whole.points[1]] : whole.points;
  const inside = (i: number): boolean => p[i] >= x[0] && p[i] <= x[1] && p[i + 1] >= y[0] && p[i + 1] <= y[1];
  let all = true;
  for (let i = 0; i + 1 < p.length; i += 2) all = all && inside(i);
  if (all) return [whole];
  const pieces: number[][] = [];
  let current: number[] = [];
  for (let i = 0; i + 3 < p.length; i += 2) {
    const cut = cutLeg([p[i], p[i + 1], p[i + 2], p[i + 3]], x, y);
    if (cut) {
      if (!current.length) current.push(cut[0], cut[1]);
      current.push(cut[2], cut[3]);
    }
    if (!cut || !inside(i + 2)) {
      if (current.length) pieces.push(current);
      current = [];
    }
  }
  if (current.length) pieces.push(current);
  return pieces.map((points) => ({ ...whole, points, closed: false, arrow: false }));
}

/** A straight leg between the sides of a box (Liang and Barsky), or null when it lies outside. */
function cutLeg([ax, ay, bx, by]: number[], x: [number, number], y: [number, number]): number[] | null {
  let [from, to] = [0, 1];
  const sides = [
    [ax - bx, ax - x[0]],
    [bx - ax, x[1] - ax],
    [ay - by, ay - y[0]],
    [by - ay, y[1] - ay],
  ];
  for (const [rate, room] of sides) {
    if (rate === 0 && room < 0) return null;
    if (rate < 0) from = Math.max(from, room / rate);
    else if (rate > 0) to = Math.min(to, room / rate);
  }
  if (from > to) return null;
  return [ax + from * (bx - ax), ay + from * (by - ay), ax + to * (bx - ax), ay + to * (by - ay)];
}

/** All strokes except paths, in drawing order. */
export function groundStrokes(frame: Frame, overlays: Overlays, palette: Palette): Stroke[] {
  const out: Stroke[] = [];
  if (overlays.arrows && frame.referenceArrows) out.push(...arrowStrokes(frame.referenceArrows, palette.mint, 'corridor', 1.6, 0.8));
  if (overlays.arrows && frame.arrows) out.push(...arrowStrokes(frame.arrows, palette.ink, 'policy', 1.8, 0.78));
  if (overlays.referencePaths && frame.referencePaths) out.push(...referencePathStrokes(frame.referencePaths, palette));
  if (overlays.route && frame.route && frame.route.length > 1) out.push(routeStroke(frame.route, palette));
  if (overlays.corridor) out.push(...regionStrokes(frame, palette));
  return out;
}

export function valueText(value: number | null | undefined, digits = 2): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  return (value < 0 ? '−' : '') + Math.abs(value).toFixed(digits);
}
