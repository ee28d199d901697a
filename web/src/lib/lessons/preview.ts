// A small map of a lesson's last recorded frame, drawn on a canvas.
import type { Container } from '../blocks';
import { reliefCanvas } from '../map2d/relief';
import { frameOf, layersOf } from '../scene/adapt';
import { Model } from '../scene/model';
import { isolines, pathStrokes, routeStroke, type Stroke } from '../scene/shapes';
import type { LessonScene } from './types';

/** The part of the plane that is shown: 4 wide, 3 high. */
const SPAN: [number, number] = [5.6, 4.2];

export function drawPreview(canvas: HTMLCanvasElement, scene: Container<LessonScene>, theme: 'light' | 'dark', ratio: number): boolean {
  const layers = layersOf(scene, [-3, 3], [-3, 3]);
  const context = canvas.getContext('2d');
  if (!layers || !context) return false;
  const width = canvas.clientWidth || 300;
  const height = (width * SPAN[1]) / SPAN[0];
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  context.scale(ratio, ratio);
  const layer = scene.meta.layer && scene.meta.layer in layers && !layers[scene.meta.layer]!.mask ? scene.meta.layer : Object.keys(layers)[0]!;
  const model = new Model();
  model.theme = theme;
  model.setTerrain({ layers, active: layer, range: null });
  model.setFrame({ ...frameOf(scene, [-3, 3], [-3, 3]), route: scene.meta.terrain?.route ?? null });
  const unit = width / SPAN[0];
  const px = (x: number): number => (x + SPAN[0] / 2) * unit;
  const py = (y: number): number => (SPAN[1] / 2 - y) * unit;
  context.imageSmoothingQuality = 'high';
  context.drawImage(reliefCanvas(model, layer, 161), px(-3), py(3), 6 * unit, 6 * unit);
  const pen = (points: number[], colour: string, wide: number, opacity: number, dash: number[] = []): void => {
    context.globalAlpha = opacity;
    context.strokeStyle = colour;
    context.lineWidth = wide;
    context.setLineDash(dash);
    context.lineCap = context.lineJoin = 'round';
    context.beginPath();
    for (let i = 0; i + 1 < points.length; i += 2) context.lineTo(px(points[i]!), py(points[i + 1]!));
    context.stroke();
  };
  const ground = model.fine(model.ground, 97);
  for (const [i, level] of model.levels.values.entries()) {
    if (i % 2 === 0) for (const line of isolines(ground, level)) pen(line, model.palette.ink, 0.7, 0.28);
  }
  const scale = 0.62;
  const draw = (each: Stroke): void => pen(each.points, each.colour, Math.max(0.7, each.width * scale), each.opacity, each.dashed ? [3, 3] : []);
  if (model.frame.route && model.frame.route.length > 1) draw(routeStroke(model.frame.route, model.palette));
  if (model.frame.paths) for (const each of pathStrokes(model.frame.paths, model.palette, () => false, false)) draw(each);
  const pin = scene.meta.pin;
  if (pin) {
    context.globalAlpha = 1;
    context.setLineDash([]);
    context.fillStyle = model.palette.pin;
    context.strokeStyle = model.palette.surface;
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(px(pin.x), py(pin.y), 4, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }
  return true;
}
