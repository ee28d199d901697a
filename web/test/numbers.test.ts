import { describe, expect, it } from 'vitest';
import { diff } from '../src/lib/diff';
import { ago, controlPicture, duration, lastPart, number, percent, signed, snippet, visible, words } from '../src/lib/format';
import { airy, plotTable, spoken } from '../src/lib/plot';
import { layout, visibleRange } from '../src/lib/rows';
import { nearest, smooth } from '../src/lib/smoothing';

describe('smooth', () => {
  it('is unbiased from the first value on: a constant stays a constant', () => {
    expect(smooth([2, 2, 2, 2], 0.9).every((value) => Math.abs(value! - 2) < 1e-12)).toBe(true);
  });

  it('is the weighted mean of what has been', () => {
    const got = smooth([1, 3, 5], 0.5);
    expect(got[2]).toBeCloseTo((0.25 * 1 + 0.5 * 3 + 5) / 1.75, 12);
  });

  it('leaves holes and gives raw values back at weight 0', () => {
    expect(smooth([1, null, 3], 0.5)).toEqual([1, null, (0.5 + 3) / 1.5]);
    expect(smooth([1, null, 3], 0)).toEqual([1, null, 3]);
  });
});

describe('nearest', () => {
  it('finds the closest step', () => {
    const steps = [0, 10, 20, 40];
    expect([-5, 4, 6, 29, 31, 99].map((step) => steps[nearest(steps, step)])).toEqual([0, 0, 10, 20, 40, 40]);
    expect(nearest([], 3)).toBe(-1);
  });
});

describe('numbers in words', () => {
  it('keeps about three digits and a true minus', () => {
    expect([0, 1, 1234, 0.03141, -2.5, 12.345, 1e-5, 1.5e7, null, NaN, Infinity].map((value) => number(value))).toEqual([
      '0', '1', '1,234', '0.0314', '−2.50', '12.3', '1.00e−5', '1.50e7', 'n/a', 'n/a', '∞',
    ]);
    expect([signed(0.5), signed(-0.5), signed(0)]).toEqual(['+0.500', '−0.500', '0']);
    expect([percent(0.123), percent(0.034), percent(1)]).toEqual(['12 %', '3.4 %', '100 %']);
  });

  it('tells time', () => {
    expect([7, 185, 3600, 8040, 266400].map(duration)).toEqual(['7 s', '3 min 5 s', '1 h', '2 h 14 min', '3 d 2 h']);
    expect([ago(1000, 1010), ago(1000, 1300), ago(1000, 8200)]).toEqual(['just now', '5 min ago', '2 h ago']);
  });
});

describe('hostile text', () => {
  it('draws what would be invisible or act on the text around it', () => {
    expect(['\u0000', '\u001b', '\u202e', '\u200b', '\ufeff', '\u2028', '\u{e0041}', '\ud800'].map(controlPicture)).toEqual([
      '‹NUL›', '‹ESC›', '‹U+202E›', '‹U+200B›', '‹U+FEFF›', '‹U+2028›', '‹U+E0041›', '‹U+D800›',
    ]);
    expect(['a', 'é', '字', '😀', ' '].map(controlPicture)).toEqual([null, null, null, null, null]);
  });

  it('keeps every character, in order', () => {
    const pieces = visible('a\nb\u0007c');
    expect(pieces).toEqual([
      { text: 'a', control: false },
      { text: '↵', control: true },
      { text: '\nb', control: false },
      { text: '‹BEL›', control: true },
      { text: 'c', control: false },
    ]);
  });

  it('cuts by characters, never inside one', () => {
    expect(snippet('😀😀😀', 2)).toBe('😀😀…');
    expect(snippet('a\nb', 9)).toBe('a↵b');
  });
});

describe('diff', () => {
  const apply = (pieces: ReturnType<typeof diff>, drop: string): string =>
    pieces.filter((piece) => piece.kind !== drop).map((piece) => piece.text).join('');

  it('gives both texts back and finds the one changed word', () => {
    const [before, after] = ['the answer is 12.\n', 'the answer is 13.\n'];
    const pieces = diff(before, after);
    expect(apply(pieces, 'added')).toBe(before);
    expect(apply(pieces, 'removed')).toBe(after);
    expect(pieces.filter((piece) => piece.kind !== 'same').map((piece) => piece.text).sort()).toEqual(['12', '13']);
  });

  it('survives random edits and texts too long to align', () => {
    let seed = 7;
    const random = (): number => (seed = (seed * 16807) % 2147483647) / 2147483647;
    const text = (): string => Array.from({ length: 40 }, () => 'abc d\n'[Math.floor(random() * 6)]).join('');
    for (let trial = 0; trial < 50; trial++) {
      const [before, after] = [text(), text()];
      const pieces = diff(before, after);
      expect(apply(pieces, 'added')).toBe(before);
      expect(apply(pieces, 'removed')).toBe(after);
    }
    const [a, b] = ['x y '.repeat(3000), 'y z '.repeat(3000)];
    expect(apply(diff(a, b), 'added')).toBe(a);
    expect(apply(diff(a, b), 'removed')).toBe(b);
  });
});

describe('plotTable', () => {
  const series = (step: number[], mean: (number | null)[], low = mean, high = mean) => ({ step, mean, low, high });

  it('puts lines with steps of their own on one axis', () => {
    const table = plotTable(
      [
        { name: 'a', label: 'a', series: series([0, 2], [1, 3]) },
        { name: 'b', label: 'b', series: series([1, 2], [5, NaN]) },
      ],
      0,
    );
    expect(table.steps).toEqual([0, 1, 2]);
    expect(table.lines.map((line) => line.mean)).toEqual([
      [1, null, 3],
      [null, 5, null],
    ]);
    expect(table.lines[0]!.low).toBeNull();
  });

  it('keeps the extremes of buckets and says what is seen', () => {
    const table = plotTable([{ name: 'a', label: 'a', series: series([0, 8], [1, 2], [0, 2], [3, 2]) }], 0);
    expect(table.lines[0]!.high).toEqual([3, 2]);
    expect(spoken('Reward', 'mean', table)).toBe('Reward, mean: first 1, last 2, between 1 and 2 over steps 0 to 8.');
  });

  it('gives a range that holds the line', () => {
    expect(airy(0, 1, true)).toEqual([0, 1.08]);
    const [low, high] = airy(3, 3, false);
    expect(low).toBeLessThan(3);
    expect(high).toBeGreaterThan(3);
    expect(airy(null, null, false)).toEqual([0, 1]);
  });
});

describe('layout of a long list', () => {
  it('finds the groups in the window', () => {
    const plan = layout(12_500, (place) => (place === 1 ? 4 : null));
    const total = plan.tops[plan.tops.length - 1]!;
    expect(visibleRange(plan, 0, 100)[0]).toBe(0);
    expect(visibleRange(plan, total - 10, 400)).toEqual([12_499, 12_499]);
    const [first, last] = visibleRange(plan, 5000, 600);
    expect(plan.tops[first]!).toBeLessThanOrEqual(5000);
    expect(plan.tops[first + 1]!).toBeGreaterThan(5000);
    expect(plan.tops[last + 1]!).toBeGreaterThanOrEqual(5600);
    expect(visibleRange(layout(0, () => null), 0, 100)).toEqual([0, -1]);
  });
});

describe('words', () => {
  it('makes words of names, and shows a function of a file by its last part', () => {
    expect(words('reward/random_coin')).toBe('reward / random coin');
    expect(words('reward//tmp/some_data/gold.py:my_gold')).toBe('gold.py:my_gold');
    expect(lastPart('rewards/gold.py:gold')).toBe('gold.py:gold');
    expect(lastPart('reward/judge')).toBe('reward/judge');
  });

  it('writes every minus as one', () => {
    expect(number(-8.9e-5)).toBe('−8.90e−5');
  });
});
