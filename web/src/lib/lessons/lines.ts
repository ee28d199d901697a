// Geometry of the line charts of lessons 6 and 12: J along directions of the parameters.
import { niceStep } from '../scene/levels';
import type { Line } from './types';

export type Ruler = 'norm' | 'kl';

/** Places along the axis: the signed parameter norm, or the signed square root of the KL. */
export function places(line: Line, ruler: Ruler): number[] {
  return ruler === 'norm' ? line.norm : line.kl.map((kl, i) => Math.sign(line.norm[i]! || 1) * Math.sqrt(Math.max(0, kl)));
}

/** The part of the axis that is drawn: with the KL ruler no line may push the others into a corner. */
export function reach(lines: Line[], ruler: Ruler): [number, number] {
  const ends = lines.map((line) => places(line, ruler)).filter((each) => each.length);
  if (!ends.length) return [0, 1];
  const low = ends.map((each) => Math.min(...each));
  const high = ends.map((each) => Math.max(...each));
  if (ruler === 'norm') return [Math.min(...low), Math.max(...high)];
  const shared = (all: number[]): number => [...all].sort((a, b) => a - b)[Math.floor((all.length - 1) / 2)]!;
  return [-Math.min(6, shared(low.map((each) => -each))), Math.min(6, shared(high))];
}

/** Round numbers inside a range. */
export function ticks([low, high]: [number, number], target = 5): number[] {
  const step = niceStep(low, high, target);
  const out: number[] = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) out.push(Number((k * step).toPrecision(12)));
  return out;
}
