// From containers (live scenes, recorded frames) to what a view takes.
import type { Container } from '../blocks';
import { Field } from './field';
import { emptyFrame, type Frame, type Paths, type Terrain, type TerrainLayer } from './view';

type Span = [number, number];

function block<T>(container: Container<unknown>, name: string, kind: new (...given: never[]) => T): T | null {
  const found = container.blocks[name];
  return found instanceof kind ? found : null;
}

function field(container: Container<unknown>, name: string, x: Span, y: Span): Field | null {
  const data = block(container, name, Float32Array);
  const n = container.shapes[name]?.[0];
  return data && n ? new Field(data, n, x, y) : null;
}

function paths(container: Container<unknown>, prefix: string): Paths | null {
  const offsets = block(container, `${prefix}path_offsets`, Int32Array);
  const rows = block(container, `${prefix}path_points`, Float32Array);
  return offsets && rows && offsets.length > 1 ? { offsets, rows: withAdvantage(offsets, rows) } : null;
}

/** Paths that no learner judged carry no advantage: theirs is r + V(s') - V(s), the altitude beyond what was expected. */
export function withAdvantage(offsets: Int32Array, rows: Float32Array): Float32Array {
  for (let i = 4; i < rows.length; i += 6) if (rows[i] !== 0 && !Number.isNaN(rows[i])) return rows;
  const out = rows.slice();
  for (let p = 0; p + 1 < offsets.length; p++) {
    for (let i = offsets[p] + 1; i < offsets[p + 1]; i++) out[i * 6 + 4] = rows[i * 6 + 2] + rows[i * 6 + 3] - rows[i * 6 - 3];
  }
  return out;
}

/** The layers of a container, or null when it carries none ("gold.mean", "gold.se", "gold.mask", ...). */
export function layersOf(container: Container<unknown>, x: Span, y: Span): Record<string, TerrainLayer> | null {
  const layers: Record<string, TerrainLayer> = {};
  for (const name of Object.keys(container.blocks)) {
    if (!name.endsWith('.mean')) continue;
    const layer = name.slice(0, -'.mean'.length);
    const mean = field(container, name, x, y);
    if (!mean) continue;
    layers[layer] = { mean, se: field(container, `${layer}.se`, x, y), mask: block(container, `${layer}.mask`, Uint8Array) };
  }
  return Object.keys(layers).length ? layers : null;
}

/** The parts of a frame that a container carries; the others keep what `before` has. */
export function frameOf(container: Container<unknown>, x: Span, y: Span, before: Frame = emptyFrame()): Frame {
  const next: Frame = { ...before };
  const has = (name: string): boolean => name in container.blocks;
  if (has('points')) next.points = block(container, 'points', Float32Array);
  if (has('path_points')) next.paths = paths(container, '');
  if (has('reference_path_points')) next.referencePaths = paths(container, 'reference_');
  const mean = block(container, 'corridor_mean', Float32Array);
  const covariance = block(container, 'corridor_cov', Float32Array);
  if (mean && covariance) next.corridor = { mean, covariance };
  const offsets = block(container, 'contour_offsets', Int32Array);
  const points = block(container, 'contour_points', Float32Array);
  const levels = block(container, 'contour_levels', Float32Array);
  if (offsets && points && levels) next.contours = { offsets, points, levels };
  if (has('value')) next.value = field(container, 'value', x, y);
  if (has('beams')) next.beams = block(container, 'beams', Float32Array);
  if (has('arrows')) next.arrows = block(container, 'arrows', Float32Array);
  if (has('reference_arrows')) next.referenceArrows = block(container, 'reference_arrows', Float32Array);
  if (has('occupancy')) next.occupancy = field(container, 'occupancy', x, y);
  return next;
}

export interface Manifest {
  version: number;
  kind: 'exact' | 'lm' | 'slice';
  title: string;
  axes: { method: string; x: { name: string; unit: string; range: Span }; y: { name: string; unit: string; range: Span } };
  altitude: { name: string; unit: string; layers: string[]; active: string; range: Span | null; r2: Record<string, number | null>; residual: Record<string, number | null> };
  value: { kind: string | null; note: string };
  kl: { estimator: string; unit: string };
  corridor: { kind: string | null; levels: number[]; note: string };
  scalars: string[];
  warnings: string[];
  frames: { step: number; file: string; honesty: string; scalars: Record<string, number | null> }[];
  details?: { start?: Span; route?: Span[]; goal?: [number, number, number] | null; horizon?: number; pin?: Span };
}

/** The terrain of a recorded landscape. */
export function recordedTerrain(container: Container<unknown>, manifest: Manifest): Terrain {
  const layers = layersOf(container, manifest.axes.x.range, manifest.axes.y.range);
  if (!layers) throw new Error('The recorded landscape has no terrain.');
  const goal = manifest.details?.goal;
  return {
    layers,
    active: manifest.altitude.active in layers ? manifest.altitude.active : Object.keys(layers)[0],
    // The exact ground is one and the same in every frame; its own range shows it best.
    range: manifest.kind === 'exact' ? null : manifest.altitude.range,
    goal: goal ? { x: goal[0], y: goal[1], radius: goal[2] } : null,
    axes: { x: axisName(manifest.axes.x), y: axisName(manifest.axes.y) },
  };
}

function axisName({ name, unit }: { name: string; unit: string }): string {
  return unit ? `${name} (${unit})` : name;
}

/** A frame of a recorded landscape; nothing is carried over from another frame. */
export function recordedFrame(container: Container<unknown>, manifest: Manifest): Frame {
  const frame = frameOf(container, manifest.axes.x.range, manifest.axes.y.range);
  return { ...frame, route: manifest.details?.route ?? null, airborne: manifest.kind === 'lm' };
}
