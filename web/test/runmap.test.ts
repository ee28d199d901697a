import { describe, expect, it } from 'vitest';
import { axisNames, charted, layerWords, outside, scalarName, typeset, verdict, type MapManifest } from '../src/lib/runmap/manifest';
import { advantageKnown, coloured, factsOf, flown, nearestRow, pathTo, shownRows } from '../src/lib/runmap/points';

function manifest(change: Partial<MapManifest> = {}): MapManifest {
  const axis = { name: 'direction of reward', unit: 'σ', range: [-3, 3] as [number, number] };
  return {
    version: 1,
    kind: 'lm',
    title: 'r / policy',
    axes: { method: 'reward_axis', x: axis, y: axis, fitted_on: null, samples: null },
    altitude: { name: 'judge', unit: 'reward', layers: ['proxy'], active: 'proxy', range: null, r2: { proxy: 0.4 }, residual: { proxy: 0.7 } },
    value: { kind: null, note: '' },
    kl: { estimator: 'k1', unit: 'nats per completion' },
    corridor: { kind: 'contours', levels: [0.5, 0.9, 0.99], note: '' },
    scalars: ['kl', 'shown', 'altitude_proxy', 'length'],
    warnings: [],
    frames: [{ step: 0, file: 'frames/000000.bin', honesty: '', scalars: { kl: 0.1, shown: null, altitude_proxy: 1 } }],
    ...change,
  };
}

describe('the verdict on a map', () => {
  it('a good map has none', () => {
    expect(verdict(manifest(), { shown: 0.2 }).kind).toBe('fair');
  });

  it('warnings of the record ask for care', () => {
    const judged = verdict(manifest({ warnings: ['Reference: 40 samples draw its cloud.'] }), { shown: 0.2 });
    expect(judged.kind).toBe('care');
    expect(judged.sentences).toHaveLength(1);
  });

  it('a map without altitude or drift says little, and why', () => {
    const altitude = { ...manifest().altitude, r2: { proxy: 0.03 } };
    const flat = verdict(manifest({ altitude }), { shown: 0.2 });
    expect([flat.kind, flat.sentences[0]]).toEqual(['little', 'Altitude: places explain almost nothing of the reward (held-out R² 0.03).']);
    const blind = verdict(manifest(), { shown: 0.012 });
    expect([blind.kind, blind.sentences[0]]).toEqual(['little', "Drift: this step's picture shows 1 % of it."]);
  });

  it('does not judge the exact world', () => {
    expect(verdict(manifest({ kind: 'exact', altitude: { ...manifest().altitude, r2: { proxy: null } } }), {}).kind).toBe('fair');
  });
});

it('mass outside is told with its bound, and a bound of everything is vacuous', () => {
  const [ninety, last] = outside({ outside_90: 0.3, allowed_90: 1, outside_99: 0.12, outside_99_low: 0.06, outside_99_high: 0.2, allowed_99: 0.6 });
  expect([ninety!.level, ninety!.vacuous]).toEqual([90, true]);
  expect([last!.level, last!.vacuous, last!.allowed, last!.low]).toEqual([99, false, 0.6, 0.06]);
  expect(outside({ outside_99: null })).toEqual([]);
});

it('charts what has a value somewhere, under readable names', () => {
  const made = manifest({ details: { layers: { proxy: 'judge_few' } } });
  expect(charted(made)).toEqual(['altitude_proxy', 'kl']);
  expect(scalarName(made, 'altitude_proxy')).toBe('mean judge few');
  expect(axisNames(made)!.x).toBe('reward axis, σ');
  expect(axisNames(manifest({ kind: 'exact' }))).toBeUndefined();
});

describe('points', () => {
  // x, y, reward, gold, advantage, kl, length, prompt
  const points = Float32Array.from([0, 0, 2, 1, -1, 0.5, 7, 0, 1, 1, -3, NaN, NaN, 0.1, 9, 4]);

  it('are coloured by reward through the column that views colour by, the rest kept', () => {
    const rows = shownRows(points, 'reward', null);
    const tinted = coloured(points, rows, 'reward');
    expect([tinted[4], tinted[12]]).toEqual([2, -3]);
    expect([tinted[0], tinted[6], tinted[14]]).toEqual([0, 7, 9]);
    expect(coloured(points, rows, 'advantage')[4]).toBe(-1);
    expect(points[4]).toBe(-1);
  });

  it('of one prompt are that prompt only', () => {
    expect(shownRows(points, 'prompt', 4)).toEqual([1]);
    expect(shownRows(points, 'advantage', 4)).toEqual([0, 1]);
  });

  it('are found under the pointer within reach', () => {
    const project = (x: number, y: number): { x: number; y: number } => ({ x: 100 * x, y: 100 * y });
    expect(nearestRow(points, [0, 1], { x: 95, y: 104 }, project)).toBe(1);
    expect(nearestRow(points, [0], { x: 95, y: 104 }, project)).toBeNull();
  });

  it('tell their facts and how many have an advantage', () => {
    expect(factsOf(points, 1).prompt).toBe(4);
    expect(advantageKnown(points)).toBe(0.5);
  });
});

it('paths fly level and land on the ground', () => {
  const rows = Float32Array.from([0, 0, NaN, 0, 0, 0, 1, 0, 5, 0, 0, 0, 2, 2, NaN, 0, 0, 0, 3, 4, 5, 0, 0, 0]);
  const paths = { offsets: Int32Array.of(0, 2, 4), rows };
  expect(pathTo(paths, 3, 4)).toBe(1);
  expect(pathTo(paths, 2, 2)).toBeNull();
  const one = flown(paths, 1, 9, (x, y) => x * y);
  expect([...one.offsets]).toEqual([0, 2]);
  expect([one.rows[2], one.rows[8]]).toEqual([9, 12]);
  expect(flown(paths, null, 9, () => 0).rows.length).toBe(24);
});

it('prints R², ± and minus, and leaves names with hyphens alone', () => {
  expect(typeset('LM run "qs/pairs-few" | altitude = judge-few - reference mean, R2 -0.02, residual +-0.62')).toBe(
    'LM run "qs/pairs-few" | altitude = judge-few − reference mean, R² −0.02, residual ±0.62',
  );
  expect(layerWords(manifest({ details: { layers: { proxy: 'judge_few', gold: 'gold' } } }), 'proxy')).toBe('proxy: judge few');
  expect(layerWords(manifest({ details: { layers: { gold: 'gold' } } }), 'gold')).toBe('gold');
});
