// The coast of a sampled ground, the crosses of paths, and what is never dimmed.
import { expect, test } from 'vitest';
import { layerWords, type MapManifest } from '../src/lib/runmap/manifest';
import { Field } from '../src/lib/scene/field';
import { Model } from '../src/lib/scene/model';
import { PALETTES } from '../src/lib/scene/palette';
import { maskField } from '../src/lib/scene/relief';
import { pathStrokes } from '../src/lib/scene/shapes';

/** Columns where the half level is crossed, row by row, in nodes. */
function coast(field: Field): number[] {
  const out: number[] = [];
  for (let row = 0; row < field.n; row++) {
    for (let column = 0; column + 1 < field.n; column++) {
      const [a, b] = [field.data[row * field.n + column], field.data[row * field.n + column + 1]];
      if (a >= 0.5 && b < 0.5) out.push(column + (a - 0.5) / (a - b));
    }
  }
  return out;
}

test('the coast of a mask cut in steps is a line, and stays where the cells end', () => {
  const n = 17;
  const like = new Field(new Float32Array(n * n), n);
  // A coast at 45 degrees: cell (row, column) is land where column <= row.
  const mask = Uint8Array.from({ length: n * n }, (_, i) => (i % n <= Math.floor(i / n) ? 1 : 0));
  const fine = maskField(mask, like, 129)!;
  const offsets = coast(fine)
    .map((column, k) => ({ column, k }))
    .slice(32, 96)
    .map(({ column, k }) => column - k);
  const wave = Math.max(...offsets) - Math.min(...offsets);
  // Eight nodes are one cell; unswept, the coast waves by more than one.
  expect(wave).toBeLessThan(1);
  const straight = Uint8Array.from({ length: n * n }, (_, i) => (i % n <= 8 ? 1 : 0));
  for (const column of coast(maskField(straight, like, 129)!)) expect(column).toBeCloseTo(8.5 * 8, 0);
  expect(maskField(new Uint8Array(n * n).fill(1), like, 129)).toBeNull();
});

test('of many faint paths that leave, twelve and the leading one are marked', () => {
  const count = 40;
  const offsets = Int32Array.from({ length: count + 1 }, (_, p) => 2 * p);
  const rows = new Float32Array(2 * count * 6);
  for (let p = 0; p < count; p++) rows[(2 * p + 1) * 6] = 1;
  const marks = pathStrokes({ offsets, rows }, PALETTES.light, () => true, false, 0).filter((each) => each.element === 'corridor');
  expect(marks.length).toBe(2 * 13);
});

test('the pin keeps its strength whatever is highlighted', () => {
  const model = new Model();
  model.element = 'value';
  expect(model.fade('pin')).toBe(1);
  expect(model.fade('trajectory')).toBeLessThan(0.5);
});

test('a reward given as a file goes by its file, with the role of its layer', () => {
  const told = { details: { layers: { proxy: '/tmp/b/gold_old.py:gold' } } } as unknown as MapManifest;
  expect(layerWords(told, 'proxy')).toBe('proxy: gold_old.py');
});
