import { describe, expect, it } from 'vitest';
import type { Container } from '../src/lib/blocks';
import { linesOf, places, reach, rulers, ticks } from '../src/lib/lessons/lines';
import { inlines, markdown } from '../src/lib/lessons/markdown';
import { filled, parts, shownNumbers, written } from '../src/lib/lessons/numbers';
import { scaledLike } from '../src/lib/lessons/scaled';
import { bestOfN, marks } from '../src/lib/lessons/leash';
import { firstPaths } from '../src/lib/lessons/preview';
import { recordedScene } from '../src/lib/lessons/recorded';
import type { RecordedMeta } from '../src/lib/lessons/types';
import { watched } from '../src/lib/lessons/watch';

describe('markdown of lesson texts', () => {
  it('tells strong, emphasis, code and math apart, in order', () => {
    expect(inlines('Every **state** has $r(s)$, not *V*; press `A`.')).toEqual([
      { kind: 'text', text: 'Every ' },
      { kind: 'strong', text: 'state' },
      { kind: 'text', text: ' has ' },
      { kind: 'math', text: 'r(s)' },
      { kind: 'text', text: ', not ' },
      { kind: 'emphasis', text: 'V' },
      { kind: 'text', text: '; press ' },
      { kind: 'code', text: 'A' },
      { kind: 'text', text: '.' },
    ]);
  });

  it('leaves markup as text: nothing becomes HTML', () => {
    expect(markdown('<img src=x onerror=alert(1)> 2 * 3 * 4')).toEqual([
      { kind: 'paragraph', inlines: [{ kind: 'text', text: '<img src=x onerror=alert(1)> 2 * 3 * 4' }] },
    ]);
  });

  it('cuts paragraphs, lists and display math', () => {
    const kinds = markdown('One\nline.\n\n- a\n- b\n\n$$x^2$$').map((block) => block.kind);
    expect(kinds).toEqual(['paragraph', 'list', 'display']);
  });
});

describe('numbers in formulas', () => {
  // The same cases as landscape/lessons/lesson.py `written`.
  it.each([
    [3, '3'],
    [-0.5187, '-0.52'],
    [12.94, '12.9'],
    [208.6, '209'],
    [0.0004, '4.0\\cdot 10^{-4}'],
    [131_709, '1.3\\cdot 10^{5}'],
    [NaN, '\\text{--}'],
    [null, '\\text{--}'],
  ])('%s is written %s', (value, text) => {
    expect(written(value)).toBe(text);
  });

  it('prefers what the live world gave and marks it', () => {
    const template = 'a = «a», b = «b», c = «c_1»';
    expect(filled(template, { a: 1, b: 2 }, { b: 5 }, '#123456')).toBe('a = 1, b = {\\textcolor{#123456}{5}}, c = \\text{--}');
  });

  it('says of every number where it comes from', () => {
    const figures = { a: { label: 'A', unit: '', value: 1 }, b: { label: 'B', unit: 'nats', value: 2 } };
    expect(shownNumbers(figures, { b: 7 }).map(({ value, origin }) => [value, origin])).toEqual([
      [1, 'recorded'],
      [7, 'now'],
    ]);
    expect(shownNumbers(figures, { b: 7 }, true)[1]!.origin).toBe('before');
  });

  it('cuts a formula at wide spaces outside braces only', () => {
    expect(parts('a = \\frac{1}{2}, \\qquad \\text{x \\qquad y} = b')).toEqual(['a = \\frac{1}{2},', '\\text{x \\qquad y} = b']);
    expect(parts('3\\ (\\text{a}),\\ 4\\ (p,\\ q)')).toEqual(['3\\ (\\text{a}),', '4\\ (p,\\ q)']);
  });
});

describe('recordings', () => {
  const recording: Container<RecordedMeta> = {
    meta: {
      number: 1,
      steps: [
        { id: null, type: 'lesson', ok: true, iteration: 0, same: {} },
        { id: null, type: 'lesson', ok: true, iteration: 4, same: { 'gold.mean': '0/gold.mean' } },
      ],
    },
    blocks: { '0/gold.mean': Float32Array.of(1, 2, 3, 4), '0/value': Float32Array.of(0), '1/value': Float32Array.of(9) },
    shapes: { '0/gold.mean': [2, 2], '0/value': [1], '1/value': [1] },
  };

  it('takes unchanged blocks from the step that holds them', () => {
    const scene = recordedScene(recording, 1);
    expect(scene.meta.iteration).toBe(4);
    expect(scene.blocks['gold.mean']).toBe(recording.blocks['0/gold.mean']);
    expect(scene.shapes['gold.mean']).toEqual([2, 2]);
    expect(scene.blocks.value![0]).toBe(9);
  });

  it('shows the last step for one that is not there', () => {
    expect(recordedScene(recording, 7).meta.iteration).toBe(4);
    expect(recordedScene(recording, 7).blocks.value![0]).toBe(9);
  });
});

describe('lines along directions', () => {
  const scene = (rows: number[]): Container<unknown> => ({ meta: {}, blocks: { 'line.random': Float32Array.from(rows) }, shapes: {} });

  it('lesson 12: gain is J minus J where the step has no length, and the root of KL keeps the sign', () => {
    const [line] = linesOf(scene([-0.5, 3, 4, 0, 5, 0, 0.5, 9, 1]), 12);
    expect(line!.gain).toEqual([-2, 0, 4]);
    expect(places(line!, 'root')).toEqual([-2, 0, 1]);
    expect(rulers([line!])).toEqual(['norm', 'root']);
    expect(reach([line!], 'norm')).toEqual([-0.5, 0.5]);
  });

  it('lesson 6: KL, gain and promise, without a length', () => {
    const [line] = linesOf(scene([0, 0, 0, 4, 1, 3]), 6);
    expect([line!.kl, line!.gain, line!.promised, line!.norm]).toEqual([[0, 4], [0, 1], [0, 3], null]);
    expect(places(line!, 'root')).toEqual([0, 2]);
    expect(rulers([line!])).toEqual(['kl', 'root']);
  });

  it('ticks are round and inside', () => {
    const list = ticks([-0.5, 0.5], 5);
    expect(list).toContain(0);
    expect(Math.min(...list)).toBeGreaterThanOrEqual(-0.5);
    expect(Math.max(...list)).toBeLessThanOrEqual(0.5);
  });
});

it('watch names a part of the picture, a figure, or a number', () => {
  expect(watched('beam').element).toBe('value');
  expect(watched('history').figure).toBe('history');
  expect(watched('layers').overlays.swipe).toBe('proxy');
  expect(watched('dead_groups', ['success', 'dead_4']).numbers).toEqual(['dead_groups', 'dead_4']);
  expect(watched('ratio_max').numbers).toEqual(['ratio_max']);
});

it('a preview draws the first paths only', () => {
  const paths = { offsets: Int32Array.of(0, 2, 5, 6), rows: new Float32Array(36) };
  expect(firstPaths(paths, 2)!.rows.length).toBe(30);
  expect(firstPaths(paths, 9)!.rows.length).toBe(36);
  expect(firstPaths(paths, 0)).toBeNull();
});

it('the learned ground is shown at the scale of gold, measured where it is shown', () => {
  const gold = Float32Array.of(-1, 1, 9, -1, 1);
  const learned = Float32Array.of(-10, 10, 500, -10, 10);
  const mask = Uint8Array.of(1, 1, 0, 1, 1);
  const { data, factor } = scaledLike(learned, gold, mask);
  expect(factor).toBeCloseTo(0.1, 6);
  expect(data[1]).toBeCloseTo(1, 6);
  expect(scaledLike(new Float32Array(5), gold, mask).factor).toBe(1);
});

it('best-of-n marks lie at ln n - (n - 1) / n and inside the axis', () => {
  expect(bestOfN(1)).toBe(0);
  expect(bestOfN(4)).toBeCloseTo(0.6363, 4);
  expect(marks(3).map(({ n }) => n)).toEqual([2, 4, 16]);
});
