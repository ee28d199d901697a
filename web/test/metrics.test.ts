import { describe as suite, expect, it } from 'vitest';
import type { Token, TokensAnswer } from '../src/lib/api';
import { csv, fileName } from '../src/lib/export';
import { charts, describe } from '../src/lib/metrics';
import { grow } from '../src/lib/stage.svelte';
import { filled, LAYERS, paint, scaleOf } from '../src/lib/token_layers';

suite('metrics', () => {
  it('puts every metric into exactly one chart, under its heading', () => {
    const names = ['learning_rate', 'reward', 'reward/total', 'reward/judge', 'kl_k1', 'entropy', 'length', 'seconds/collect',
      'seconds/learn', 'loss/policy', 'evaluation/reward/judge', 'log_ratio/chosen', 'log_ratio/rejected', 'brand_new',
      'selected/total', 'pool/total', 'control/entropy', 'reward/loss/penalty/member-1'];
    const specs = charts(names);
    const drawn = specs.flatMap((spec) => spec.lines.map((line) => line.name));
    expect(drawn.slice().sort()).toEqual(names.filter((name) => !['reward/total', 'evaluation/reward/judge'].includes(name)).sort());
    expect(specs[0]!.id).toBe('reward');
    expect(specs.find((spec) => spec.id === 'seconds')!.lines.map((line) => line.label)).toEqual(['collect', 'learn']);
    expect(specs.at(-1)!.group).toBe('Other');
    expect(describe('reward/gradient_norm').group).toBe('Optimiser');
    expect(describe('control/entropy').title).toBe('Entropy, control');
  });

  it('titles a reward of a file by its last part', () => {
    expect(describe('reward//tmp/my_data/gold.py:gold').title).toBe('gold.py:gold');
  });

  it('keeps the total where there is no reward beside it', () => {
    expect(charts(['reward/total']).map((spec) => spec.id)).toEqual(['reward/total']);
  });
});

suite('grow', () => {
  const start = { reward: { step: [0, 1], mean: [1, 2], low: [1, 2], high: [1, 2] } };

  it('appends, drops what is known already, and begins new curves', () => {
    const next = grow(start, [{ step: 1, reward: 9 }, { step: 2, reward: 3, kl: 5 }]);
    expect(next.reward!.mean).toEqual([1, 2, 3]);
    expect(next.kl!.step).toEqual([2]);
    expect(start.reward.mean).toEqual([1, 2]);
  });

  it('stays inside the range that is looked at', () => {
    expect(grow(start, [{ step: 7, reward: 3 }], { to: 5 }).reward!.step).toEqual([0, 1]);
  });
});

suite('token layers', () => {
  const token = (values: Partial<Token>): Token => ({
    piece: 'a', id: 1, generated: true, logp: -1, ref_logp: -2, old_logp: null, kl: 1, advantage: 0.5, ratio: null, value: null,
    clipped: null, ...values,
  });
  const layer = (name: string) => LAYERS.find((each) => each.name === name)!;

  it('centres diverging layers and leaves tokens that were given out', () => {
    const tokens = [token({ kl: 3 }), token({ kl: -1 }), token({ kl: 99, generated: false })];
    expect(scaleOf(layer('kl'), tokens)).toEqual({ low: -3, high: 3 });
    expect(scaleOf(layer('ratio'), tokens)).toBeNull();
    expect(paint(layer('kl'), { low: -3, high: 3 }, -1.5)).toEqual({ tone: 'cool', strength: 0.5 });
    expect(paint(layer('logp'), { low: -4, high: 0 }, -4)!.strength).toBe(1);
    expect(paint(layer('kl'), { low: -3, high: 3 }, null)).toBeNull();
  });

  it('fills formulas with the numbers of the token, or says why it cannot', () => {
    const answer: TokensAnswer = {
      tokens: [], text: '', missing: { ratio: 'One update.' },
      objective: { name: 'grpo', formulas: { logp: 'l', kl: 'k', ratio: 'w', advantage: 'A', loss: '-\\min(\\rho A)' } },
    };
    const rows = Object.fromEntries(filled(answer, token({})).map((row) => [row.formula, row]));
    expect(rows.k!.numbers).toBe('-1 - (-2) = 1');
    expect(rows.w).toMatchObject({ numbers: null, why: 'One update.' });
    expect(rows['-\\min(\\rho A)']!.numbers).toContain('= -0.500');
    answer.objective!.formulas.loss = '-A \\log \\pi';
    expect(filled(answer, token({})).at(-1)!.numbers).toBe('L_t = -(0.500)(-1) = 0.500');
  });
});

suite('export', () => {
  it('quotes, keeps numbers, and defuses formulas of spreadsheets', () => {
    expect(csv(['a', 'b'], [['x,"y"\n', 1.5], ['=cmd()', null]])).toBe('a,b\r\n"x,""y""\n",1.5\r\n\'=cmd(),\r\n');
    expect(fileName('../../a b/c~d.csv')).toBe('a-b-c-d.csv');
  });
});
