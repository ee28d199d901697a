// A small map of a recorded frame, drawn on a canvas.
import type { Container } from '../blocks';
import { reliefCanvas } from '../map2d/relief';
import { frameOf, layersOf } from '../scene/adapt';
import { Model } from '../scene/model';
import { compassStrokes, corridorEdge, ellipse, isolines, pathStrokes, routeStroke, stroke, type Stroke } from '../scene/shapes';
import type { Paths } from '../scene/view';
import type { Motif } from './motifs';
import type { LessonScene } from './types';

/** Gentler light than in the large map: at this size strong shading hides the contours. */
const RISE = 0.55;

export function firstPaths(paths: Paths | null, count: number): Paths | null {
  if (!paths || count === 0) return null;
  const offsets = paths.offsets.slice(0, count + 1);
  return { offsets, rows: paths.rows.subarray(0, offsets.at(-1)! * 6) };
}

function pairOf(scene: Container<LessonScene>): Paths | null {
  const { pair_offsets: offsets, pair_points: rows } = scene.blocks;
  if (!(offsets instanceof Int32Array) || !(rows instanceof Float32Array)) return null;
  const tinted = rows.slice();
  for (let row = 0; row < rows.length / 6; row++) tinted[row * 6 + 4] = row < offsets[1]! ? 1 : -1;
  return { offsets, rows: tinted };
}

export function drawPreview(canvas: HTMLCanvasElement, scene: Container<LessonScene>, motif: Motif, theme: 'light' | 'dark', ratio: number): boolean {
  const layers = layersOf(scene, [-3, 3], [-3, 3]);
  const context = canvas.getContext('2d');
  if (!layers || !context) return false;
  const width = canvas.clientWidth || 300;
  const height = width * 0.75;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  context.scale(ratio, ratio);
  const model = new Model();
  model.theme = theme;
  const active = motif.layer in layers ? motif.layer : Object.keys(layers)[0]!;
  const goal = scene.meta.terrain?.goal;
  model.setTerrain({ layers, active, range: null });
  model.setFrame({ ...frameOf(scene, [-3, 3], [-3, 3]), route: scene.meta.terrain?.route ?? null });
  model.scale = RISE;
  const unit = width / motif.width;
  const px = (x: number): number => (x - motif.x) * unit + width / 2;
  const py = (y: number): number => height / 2 - (y - motif.y) * unit;
  const { palette, frame } = model;
  context.fillStyle = palette.paper;
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(reliefCanvas(model, active, 193), px(-3), py(3), 6 * unit, 6 * unit);

  const trace = (points: number[]): void => {
    context.beginPath();
    for (let i = 0; i + 1 < points.length; i += 2) context.lineTo(px(points[i]!), py(points[i + 1]!));
  };
  const pen = (points: number[], colour: string, wide: number, opacity: number, dash: number[] = []): void => {
    context.globalAlpha = opacity;
    context.strokeStyle = colour;
    context.lineWidth = wide;
    context.setLineDash(dash);
    context.lineCap = context.lineJoin = 'round';
    trace(points);
    context.stroke();
  };
  const draw = (each: Stroke, slim = 0.7): void => {
    const wide = Math.max(0.8, each.width * slim);
    if (each.cased) pen(each.points, palette.surface, wide + 1.6, each.opacity * 0.7);
    pen(each.points, each.colour, wide, each.opacity, each.dashed ? [3, 3] : []);
  };
  const ground = model.fine(model.ground, 97);
  const own = layers[active]!.mask;
  if (!own) for (const level of model.levels.values) for (const line of isolines(ground, level)) pen(line, palette.ink, 0.6, 0.24);
  if (motif.corridor && model.distance) {
    for (const edge of corridorEdge(model.distance, 2)) {
      context.globalAlpha = 0.3;
      context.fillStyle = palette.mint;
      trace(edge);
      context.fill();
      pen(edge, palette.mint, 1.8, 1);
    }
  }
  if (motif.value && frame.value) {
    const field = frame.value.resample(97);
    const [low, high] = field.range();
    for (let k = 1; k < 12; k++) for (const line of isolines(field, low + ((high - low) * k) / 12)) pen(line, palette.value, 1.5, 0.9, [5, 3]);
  }
  if (!motif.pair && !motif.value && frame.route && frame.route.length > 1) draw(routeStroke(frame.route, palette));
  if (goal) draw(stroke(ellipse(goal[0], goal[1], goal[2], goal[2]), palette.ink, 2.4, { cased: true }));
  const paths = motif.pair ? pairOf(scene) : firstPaths(frame.paths, motif.paths);
  if (paths) for (const each of pathStrokes(paths, palette, () => false, false)) draw({ ...each, opacity: each.opacity * (paths.offsets.length > 6 ? 0.75 : 1) }, motif.paths > 4 ? 0.5 : 0.65);
  const pin = scene.meta.pin;
  if (pin && !motif.pair) {
    if (motif.compass) {
      const full = { ...pin, referenceMean: undefined };
      for (const each of compassStrokes(full, palette)) draw(each, 0.8);
    }
    context.globalAlpha = 1;
    context.setLineDash([]);
    context.fillStyle = palette.pin;
    context.strokeStyle = palette.surface;
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(px(pin.x), py(pin.y), motif.compass ? 5.5 : 4.5, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }
  return true;
}
