// The line charts of lessons 6 and 12: J along directions of the parameters, from the blocks of their scenes.
import type { Container } from '../blocks';
import { niceStep } from '../scene/levels';
import type { Line } from './types';

export type Ruler = 'norm' | 'kl' | 'root';

const LABELS: Record<string, string> = {
  natural: 'natural step',
  plain: 'plain step',
  random: 'random',
  training: 'of training',
  spread: 'log σ only',
};

/**
 * Lines of a scene. Blocks "line.NAME" have rows of three: in lesson 6 KL of the step, gain of J, gain of the
 * surrogate; in lesson 12 signed length, J, KL.
 */
export function linesOf(scene: Container<unknown>, lesson: number): Line[] {
  const out: Line[] = [];
  for (const [block, rows] of Object.entries(scene.blocks)) {
    if (!block.startsWith('line.') || !(rows instanceof Float32Array)) continue;
    const name = block.slice('line.'.length);
    const column = (k: number): number[] => Array.from({ length: rows.length / 3 }, (_, i) => rows[i * 3 + k]!);
    const label = LABELS[name] ?? name;
    if (lesson === 6) {
      out.push({ name, label, norm: null, kl: column(0), gain: column(1), promised: column(2) });
      continue;
    }
    const norm = column(0);
    const nearest = norm.reduce((best, each, i) => (Math.abs(each) < Math.abs(norm[best]!) ? i : best), 0);
    const returns = column(1);
    out.push({ name, label, norm, kl: column(2), gain: returns.map((each) => each - returns[nearest]!), promised: null });
  }
  return out;
}

/** The rulers that a set of lines can be read with. */
export function rulers(lines: Line[]): Ruler[] {
  return lines.every((line) => line.norm) ? ['norm', 'root'] : ['kl', 'root'];
}

/** Places along the axis: the signed parameter norm, the KL, or its square root with the sign of the step. */
export function places(line: Line, ruler: Ruler): number[] {
  if (ruler === 'norm') return line.norm ?? [];
  return line.kl.map((kl, i) => {
    const size = ruler === 'root' ? Math.sqrt(Math.max(0, kl)) : kl;
    return (line.norm?.[i] ?? 1) < 0 ? -size : size;
  });
}

/** The part of the axis that is drawn: all that some line reaches. */
export function reach(lines: Line[], ruler: Ruler): [number, number] {
  const all = lines.flatMap((line) => places(line, ruler));
  return all.length ? [Math.min(...all), Math.max(...all)] : [0, 1];
}

/** Round numbers inside a range. */
export function ticks([low, high]: [number, number], target = 5): number[] {
  const step = niceStep(low, high, target);
  const out: number[] = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) out.push(Number((k * step).toPrecision(12)));
  return out;
}
