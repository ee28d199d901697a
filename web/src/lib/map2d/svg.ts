// The printed map as SVG markup: what the 2-D view shows and what the export writes.
import { contours as d3contours } from 'd3-contour';
import { sigmas } from '../scene/corridor';
import type { Field } from '../scene/field';
import { place, textWidth } from '../scene/labels';
import { isIndex } from '../scene/levels';
import type { Model } from '../scene/model';
import type { Label } from '../scene/overlay';
import { rgb } from '../scene/palette';
import { pointScale } from '../scene/points';
import { maskField } from '../scene/relief';
import { ashore, compassStrokes, ellipse, groundStrokes, isolines, pathStrokes, stroke, valueText, type Stroke } from '../scene/shapes';
import { reliefCanvas } from './relief';

/** From state coordinates to pixels: px = left + (x - x0) * unit, py = top + (y1 - y) * unit. */
export interface Sheet {
  left: number;
  top: number;
  unit: number;
  x: [number, number];
  y: [number, number];
}

export type Group = 'contours' | 'second' | 'beside' | 'painted' | 'lines' | 'paths' | 'points' | 'pin' | 'frame';

export const GROUPS: Group[] = ['contours', 'second', 'beside', 'painted', 'lines', 'paths', 'points', 'pin', 'frame'];

const round = (value: number): string => String(Math.round(value * 10) / 10);

export function toSheet(sheet: Sheet, x: number, y: number): [number, number] {
  return [sheet.left + (x - sheet.x[0]) * sheet.unit, sheet.top + (sheet.y[1] - y) * sheet.unit];
}

export function fromSheet(sheet: Sheet, px: number, py: number): { x: number; y: number } | null {
  const x = sheet.x[0] + (px - sheet.left) / sheet.unit;
  const y = sheet.y[1] - (py - sheet.top) / sheet.unit;
  const inside = x >= sheet.x[0] && x <= sheet.x[1] && y >= sheet.y[0] && y <= sheet.y[1];
  return inside ? { x, y } : null;
}

function d(sheet: Sheet, points: number[], closed = false): string {
  let out = '';
  for (let i = 0; i + 1 < points.length; i += 2) {
    const [px, py] = toSheet(sheet, points[i], points[i + 1]);
    out += `${i ? 'L' : 'M'}${round(px)} ${round(py)}`;
  }
  return closed ? `${out}Z` : out;
}

function line(data: string, colour: string, width: number, more = ''): string {
  return `<path d="${data}" fill="none" stroke="${colour}" stroke-width="${round(width)}" stroke-linecap="round" stroke-linejoin="round" ${more}/>`;
}

/** Many strokes, those of one look in one element. */
export function strokesMarkup(sheet: Sheet, strokes: Stroke[], casing: string, fade: (each: Stroke) => number): string {
  const looks = new Map<string, { first: Stroke; opacity: number; width: number; data: string; heads: string }>();
  for (const each of strokes) {
    const width = Math.max(0.6, Math.round(each.width * 2) / 2);
    const opacity = Math.round(each.opacity * fade(each) * 20) / 20;
    const key = [each.colour, width, opacity, each.dashed, each.cased].join();
    let look = looks.get(key);
    if (!look) looks.set(key, (look = { first: each, opacity, width, data: '', heads: '' }));
    look.data += d(sheet, each.points, each.closed);
    if (each.arrow) look.heads += head(sheet, each, width);
  }
  let out = '';
  for (const { first, opacity, width, data, heads } of looks.values()) {
    const dash = first.dashed ? `stroke-dasharray="${round(2.2 + width)} ${round(2.6 + width)}"` : '';
    if (first.cased) out += line(data, casing, width + 2.2, `opacity="${(opacity * 0.8).toFixed(2)}"`);
    out += line(data, first.colour, width, `${dash} opacity="${opacity}"`);
    if (heads) out += `<path d="${heads}" fill="${first.colour}" opacity="${opacity}"/>`;
  }
  return out;
}

function head(sheet: Sheet, each: Stroke, width: number): string {
  const p = each.points;
  const n = p.length;
  const [ax, ay] = toSheet(sheet, p[n - 4], p[n - 3]);
  const [bx, by] = toSheet(sheet, p[n - 2], p[n - 1]);
  const length = Math.hypot(bx - ax, by - ay);
  if (length < 1) return '';
  const size = Math.min(3.5 + 1.7 * width, 0.7 * length + 2);
  const [ux, uy] = [(bx - ax) / length, (by - ay) / length];
  const [wx, wy] = [bx - ux * size, by - uy * size];
  const half = size * 0.48;
  return `M${round(bx + ux)} ${round(by + uy)}L${round(wx - uy * half)} ${round(wy + ux * half)}L${round(wx + uy * half)} ${round(wy - ux * half)}Z`;
}

export function contourMarkup(model: Model, sheet: Sheet, layer: string): string {
  if (!model.overlays.contours) return '';
  const own = model.terrain.layers[layer];
  const field = model.fine(own.mean, 97);
  const mask = maskField(own.mask, own.mean, 97);
  const ink = model.theme === 'dark' ? '#05080B' : '#2A2114';
  const strong = model.element === 'reward' ? 1.4 : 1;
  let minor = '';
  let major = '';
  for (const level of model.levels.values) {
    const data = isolines(field, level)
      .flatMap((points) => ashore(points, mask))
      .map((points) => d(sheet, points))
      .join('');
    if (isIndex(level, model.levels)) major += data;
    else minor += data;
  }
  return line(minor, ink, 0.8 * strong, 'opacity="0.34"') + line(major, ink, 1.4 * strong, 'opacity="0.55"');
}

/** Region where a field is below a level, as one filled path. */
export function regionBelow(sheet: Sheet, field: Field, level: number): string {
  const n = field.n;
  const shape = d3contours()
    .size([n, n])
    .contour(Array.from(field.data, (value) => -value), -level);
  const step = [(field.x[1] - field.x[0]) / (n - 1), (field.y[1] - field.y[0]) / (n - 1)];
  let out = '';
  for (const polygon of shape.coordinates) {
    for (const ring of polygon) {
      const points = ring.flatMap(([u, v]) => [
        Math.min(field.x[1], Math.max(field.x[0], field.x[0] + (u - 0.5) * step[0])),
        Math.min(field.y[1], Math.max(field.y[0], field.y[0] + (v - 0.5) * step[1])),
      ]);
      out += d(sheet, points, true);
    }
  }
  return out;
}

export function paintedMarkup(model: Model, sheet: Sheet): string {
  const { overlays, frame, palette } = model;
  let out = '';
  if (overlays.corridor && model.distance) {
    const data = regionBelow(sheet, model.distance, sigmas(overlays.budget));
    const fade = model.fade('corridor');
    out += `<path d="${data}" fill="${palette.mint}" fill-opacity="${(0.26 * fade).toFixed(2)}" fill-rule="evenodd"/>`;
    out += line(data, palette.mint, 2, `opacity="${fade}"`);
  }
  const valueLines = overlays.valueContours || overlays.valueSheet || model.element === 'value';
  if (valueLines && frame.value) {
    const field = frame.value.resample(97);
    const [low, high] = field.range();
    let data = '';
    for (let k = Math.ceil(low / model.valueStep - 0.5); (k + 0.5) * model.valueStep < high; k++) {
      data += isolines(field, (k + 0.5) * model.valueStep).map((points) => d(sheet, points)).join('');
    }
    out += line(data, palette.value, 1.4, `stroke-dasharray="7 3" opacity="${0.9 * model.fade('value')}"`);
  }
  if (model.element === 'state') out += graticule(model, sheet);
  return out;
}

function graticule(model: Model, sheet: Sheet): string {
  let data = '';
  for (let k = Math.ceil(sheet.x[0]); k <= sheet.x[1]; k++) data += d(sheet, [k, sheet.y[0], k, sheet.y[1]]);
  for (let k = Math.ceil(sheet.y[0]); k <= sheet.y[1]; k++) data += d(sheet, [sheet.x[0], k, sheet.x[1], k]);
  return line(data, model.palette.ink, 1, 'opacity="0.55"');
}

export function linesMarkup(model: Model, sheet: Sheet): string {
  const strokes = groundStrokes(model.frame, model.overlays, model.palette);
  const goal = model.terrain.goal;
  if (goal) strokes.push(stroke(ellipse(goal.x, goal.y, goal.radius, goal.radius), model.palette.ink, 2, { cased: true }));
  let out = strokesMarkup(sheet, strokes, model.palette.surface, (each) => model.fade(each.element));
  const beams = model.frame.beams;
  if (beams && model.overlays.beam) {
    for (let i = 0; i + 2 < beams.length; i += 3) out += bar(model, sheet, beams[i], beams[i + 1], beams[i + 2], 2.5);
  }
  return out;
}

/** V as a bar that stands on its place. */
function bar(model: Model, sheet: Sheet, x: number, y: number, value: number, width: number): string {
  const [px, py] = toSheet(sheet, x, y);
  const tall = Math.abs(value) * model.valueScale * sheet.unit;
  const dash = value < 0 ? 'stroke-dasharray="4 4"' : '';
  return line(`M${round(px)} ${round(py)}V${round(py - tall)}`, model.palette.value, width, `${dash} opacity="${model.fade('value')}"`);
}

export function pathsMarkup(model: Model, sheet: Sheet): string {
  const { paths } = model.frame;
  if (!paths || !model.overlays.paths) return '';
  const strokes = pathStrokes(paths, model.palette, model.outside(), false, model.overlays.lead, model.size);
  return strokesMarkup(sheet, strokes, model.palette.surface, (each) => model.fade(each.element));
}

export function pointsMarkup(model: Model, sheet: Sheet): string {
  const rows = model.frame.points;
  if (!rows || !model.overlays.points) return '';
  const outside = model.outside();
  const most = pointScale(rows);
  const fade = model.fade('trajectory');
  let out = '';
  for (let i = 0; i + 7 < rows.length; i += 8) {
    const [px, py] = toSheet(sheet, rows[i], rows[i + 1]);
    const advantage = rows[i + 4];
    const size = Math.min(1, Math.abs(advantage) / most) || 0;
    const colour = advantage < 0 ? model.palette.cool : model.palette.accent;
    const r = 3 + 2.2 * size;
    const opacity = round((0.55 + 0.4 * size) * fade);
    if (outside(rows[i], rows[i + 1])) {
      out += line(`M${round(px - r)} ${round(py - r)}l${round(2 * r)} ${round(2 * r)}m0 ${round(-2 * r)}l${round(-2 * r)} ${round(2 * r)}`, colour, 1.8, `opacity="${opacity}"`);
    } else {
      out += `<circle cx="${round(px)}" cy="${round(py)}" r="${round(r)}" fill="${colour}" stroke="${model.palette.surface}" opacity="${opacity}"/>`;
    }
  }
  return out;
}

export function pinMarkup(model: Model, sheet: Sheet): string {
  const { pin, palette, overlays } = model;
  if (!pin) return '';
  const [px, py] = toSheet(sheet, pin.x, pin.y);
  let out = '';
  const value = model.pinValue();
  if (overlays.beam && value !== null) {
    const [r, g, b] = rgb(palette.value).map((each) => Math.round(each * 255));
    const tall = Math.abs(value) * model.valueScale * sheet.unit;
    out += line(`M${round(px)} ${round(py)}V${round(py - tall)}`, `rgb(${r},${g},${b})`, 12, `opacity="${0.2 * model.fade('value')}"`);
    out += bar(model, sheet, pin.x, pin.y, value, 4);
  }
  if (overlays.compass) {
    out += strokesMarkup(sheet, compassStrokes(pin, palette), palette.surface, (each) => model.fade(each.element));
  }
  const fade = model.fade('pin');
  out += `<circle cx="${round(px)}" cy="${round(py)}" r="7" fill="${palette.pin}" stroke="${palette.surface}" stroke-width="2" opacity="${fade}"/>`;
  return out;
}

/** Neat line, ticks and scale bar. */
export function frameMarkup(model: Model, sheet: Sheet): string {
  const { palette } = model;
  const [x0, y0] = toSheet(sheet, sheet.x[0], sheet.y[1]);
  const [x1, y1] = toSheet(sheet, sheet.x[1], sheet.y[0]);
  const outline = `M${round(x0)} ${round(y0)}H${round(x1)}V${round(y1)}H${round(x0)}Z`;
  const gap = 5;
  const outer = `M${round(x0 - gap)} ${round(y0 - gap)}H${round(x1 + gap)}V${round(y1 + gap)}H${round(x0 - gap)}Z`;
  let ticks = '';
  for (const k of tickPlaces(sheet.x)) {
    const px = toSheet(sheet, k, 0)[0];
    ticks += `M${round(px)} ${round(y1)}v${gap}M${round(px)} ${round(y0)}v${-gap}`;
  }
  for (const k of tickPlaces(sheet.y)) {
    const py = toSheet(sheet, 0, k)[1];
    ticks += `M${round(x0)} ${round(py)}h${-gap}M${round(x1)} ${round(py)}h${gap}`;
  }
  return line(outline, palette.ink, 1, 'opacity="0.75"') + line(outer, palette.ink, 0.8, 'opacity="0.45"') + line(ticks, palette.ink, 1, 'opacity="0.6"');
}

export function tickPlaces([low, high]: [number, number]): number[] {
  const span = high - low;
  const step = span > 12 ? Math.ceil(span / 6) : span > 3 ? 1 : span / 6;
  const out: number[] = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9; k++) out.push(k * step);
  return out;
}

function within([low, high]: [number, number], value: number, margin: number): boolean {
  return value > low + margin && value < high - margin;
}

/** Labels of the map beside: its numbers, its summits, and the names of both layers. */
export function besideLabels(model: Model, sheet: Sheet, other: string, shift: [number, number]): Label[] {
  const name = (text: string): Label => ({
    text,
    x: sheet.x[0] + (textWidth(text, 13) / 2 + 6) / sheet.unit,
    y: sheet.y[1] + 20 / sheet.unit,
    lift: 0,
    absolute: true,
    tone: 'mark',
    priority: 80,
    gap: 0,
  });
  const labels = [...mapLabels(model, sheet, other), ...(model.overlays.labels ? model.spotLabels(other) : []), name(other)];
  const moved = labels.map((each) => ({ ...each, x: each.x + shift[0] / sheet.unit, y: each.y - shift[1] / sheet.unit }));
  return [name(model.terrain.active), ...moved];
}

/** Numbers along the neat line and on the index contours. */
export function mapLabels(model: Model, sheet: Sheet, layer = model.terrain.active): Label[] {
  const out: Label[] = [];
  const push = (text: string, x: number, y: number, tone: Label['tone'], priority: number): void => {
    out.push({ text, x, y, lift: 0, absolute: true, tone, priority, gap: 0 });
  };
  const far = 17 / sheet.unit;
  const digits = (span: [number, number]): number => (span[1] - span[0] > 3 ? 0 : 2);
  for (const k of tickPlaces(sheet.x)) push(valueText(k, digits(sheet.x)), k, sheet.y[0] - far, 'ghost', 12);
  for (const k of tickPlaces(sheet.y)) push(valueText(k, digits(sheet.y)), sheet.x[0] - far * 1.1, k, 'ghost', 12);
  const axes = model.terrain.axes;
  const nameX = axes?.x ?? 'x';
  push(nameX, (sheet.x[0] + sheet.x[1]) / 2 + (nameX.length > 2 ? 0 : 0.5), sheet.y[0] - (nameX.length > 2 ? 2.05 : 1) * far, 'axis', 11);
  if ((axes?.y ?? 'y').length < 3) push(axes?.y ?? 'y', sheet.x[0] - far * 1.1, (sheet.y[0] + sheet.y[1]) / 2 + 0.5, 'axis', 11);
  else push(axes!.y, sheet.x[0] + textWidth(axes!.y, 12) / 2 / sheet.unit, sheet.y[1] + far, 'axis', 11);
  if (!model.overlays.contours || !model.overlays.labels) return out;
  const own = model.terrain.layers[layer] ?? { mean: model.ground, mask: null };
  const field = model.fine(own.mean, 97);
  const mask = maskField(own.mask, own.mean, 97);
  for (const level of model.levels.values) {
    if (!isIndex(level, model.levels)) continue;
    const longest = isolines(field, level)
      .flatMap((points) => ashore(points, mask))
      .sort((a, b) => b.length - a.length)[0];
    if (!longest || longest.length < 40) continue;
    const inside = (i: number): boolean => within(sheet.x, longest[i], 20 / sheet.unit) && within(sheet.y, longest[i + 1], 12 / sheet.unit);
    let at = 2 * Math.floor(longest.length / 6);
    while (at + 3 < longest.length && !inside(at)) at += 2;
    if (inside(at)) push(valueText(level, model.levels.step < 0.1 ? 3 : 2), longest[at], longest[at + 1], 'line', 8);
  }
  return out;
}

/** The whole map as one SVG file, each sheet `size` pixels wide; two sheets when a layer is shown beside. */
export function mapSvg(model: Model, size: number): string {
  const { x, y } = model.ground;
  const margin = 44;
  const unit = (size - 2 * margin) / (x[1] - x[0]);
  const tall = Math.round((y[1] - y[0]) * unit + 2 * margin + 26);
  const sheet = { left: margin, top: margin, unit, x, y };
  const other = model.overlays.beside ? model.other() : null;
  const wide = other ? 2 * size : size;
  const labels = [...model.groundLabels(true), ...mapLabels(model, sheet)];
  if (other) labels.push(...besideLabels(model, sheet, other, [size, 0]));
  const parts = [
    `<defs><clipPath id="sheet"><rect x="${margin}" y="${margin}" width="${round((x[1] - x[0]) * unit)}" height="${round((y[1] - y[0]) * unit)}"/></clipPath></defs>`,
    `<rect width="${wide}" height="${tall}" fill="${model.palette.paper}"/>`,
    sheetMarkup(model, sheet, model.terrain.active),
    other ? `<g transform="translate(${size} 0)">${sheetMarkup(model, sheet, other)}</g>` : '',
    labelsMarkup(model, sheet, labels, wide, tall),
    caption(model, margin, tall - 14),
  ];
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${wide} ${tall}" width="${wide}" height="${tall}" ` +
    `font-family="Inter Variable, Inter, system-ui, sans-serif" role="img"><title>${escape(model.summary())}</title>${parts.join('\n')}</svg>\n`
  );
}

/** One sheet with everything that is drawn on it. */
function sheetMarkup(model: Model, sheet: Sheet, layer: string): string {
  const wide = round((sheet.x[1] - sheet.x[0]) * sheet.unit);
  const high = round((sheet.y[1] - sheet.y[0]) * sheet.unit);
  const picture = reliefCanvas(model, layer, 513).toDataURL('image/png');
  return [
    `<image href="${picture}" x="${round(sheet.left)}" y="${round(sheet.top)}" width="${wide}" height="${high}" preserveAspectRatio="none"/>`,
    '<g clip-path="url(#sheet)">',
    contourMarkup(model, sheet, layer),
    paintedMarkup(model, sheet),
    linesMarkup(model, sheet),
    pathsMarkup(model, sheet),
    pointsMarkup(model, sheet),
    '</g>',
    pinMarkup(model, sheet),
    frameMarkup(model, sheet),
  ].join('\n');
}

function caption(model: Model, left: number, top: number): string {
  const text = `Contours every ${model.levels.step}, ${model.named()}, from ${valueText(model.range[0])} to ${valueText(model.range[1])}`;
  return `<text x="${left}" y="${top}" font-size="12" fill="${model.palette.muted}">${escape(text)}</text>`;
}

function labelsMarkup(model: Model, sheet: Sheet, labels: Label[], width: number, height: number): string {
  const anchors = labels.map((label) => {
    const [px, py] = toSheet(sheet, label.x, label.y);
    const lift = label.absolute ? 0 : label.lift * sheet.unit;
    return { x: px, y: py - lift, width: textWidth(label.text, 12) + 4, height: 16, priority: label.priority, gap: label.gap };
  });
  const tones: Record<Label['tone'], string> = {
    spot: model.palette.ink,
    value: model.palette.value,
    axis: model.palette.muted,
    mark: model.palette.ink,
    mint: model.palette.mint,
    ghost: model.palette.muted,
    line: model.palette.ink,
  };
  return place(anchors, width, height)
    .map((box, i) => {
      if (!box) return '';
      const { text, tone } = labels[i];
      const weight = ['ghost', 'axis', 'line'].includes(tone) ? 400 : 600;
      return (
        `<text x="${round(box.left + anchors[i].width / 2)}" y="${round(box.top + 12)}" text-anchor="middle" font-size="12" font-weight="${weight}" ` +
        `fill="${tones[tone]}" stroke="${model.palette.paper}" stroke-width="3" stroke-opacity="0.75" paint-order="stroke">${escape(text)}</text>`
      );
    })
    .join('');
}

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (letter) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[letter]!);
}
