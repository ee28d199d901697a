// The layers of the token heat map: what is shown, how it is coloured, and its formula with numbers filled in.
import type { Token, TokensAnswer } from './api';
import { number } from './format';

export type LayerName = 'logp' | 'kl' | 'advantage' | 'ratio' | 'value';

export interface Layer {
  name: LayerName;
  label: string;
  unit: string;
  /** Diverging layers have a middle (0, or 1 for a ratio) and two colours; the others run from pale to strong. */
  middle: number | null;
  low: string;
  high: string;
  reading: string;
}

export const LAYERS: Layer[] = [
  { name: 'logp', label: 'Log-prob', unit: 'nats', middle: null, low: 'value', high: 'value', reading: 'Strong: the policy found the token unlikely' },
  { name: 'kl', label: 'KL', unit: 'nats', middle: 0, low: 'cool', high: 'accent', reading: 'Policy over reference: above 0 it says this more often than the reference' },
  { name: 'advantage', label: 'Advantage', unit: 'reward', middle: 0, low: 'cool', high: 'accent', reading: 'Above 0 the token is pushed up, below 0 down' },
  { name: 'ratio', label: 'Ratio', unit: '', middle: 1, low: 'cool', high: 'accent', reading: 'Learner over sampler; clipped tokens are struck' },
  { name: 'value', label: 'Value', unit: 'reward', middle: null, low: 'mint', high: 'mint', reading: 'The reward that the critic still expects' },
];

export interface Scale {
  low: number;
  high: number;
}

/** The range of a layer over the generated tokens; for a diverging layer symmetric about its middle. */
export function scaleOf(layer: Layer, tokens: Token[]): Scale | null {
  const values = tokens
    .filter((token) => token.generated)
    .map((token) => token[layer.name])
    .filter((value): value is number => value !== null && Number.isFinite(value));
  if (!values.length) return null;
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  if (layer.middle === null) return { low, high };
  const reach = Math.max(Math.abs(low - layer.middle), Math.abs(high - layer.middle)) || 1;
  return { low: layer.middle - reach, high: layer.middle + reach };
}

/** How a token is painted: the colour's token and a strength in [0, 1]; null where there is no value. */
export function paint(layer: Layer, scale: Scale | null, value: number | null): { tone: string; strength: number } | null {
  if (value === null || !Number.isFinite(value) || !scale) return null;
  if (layer.middle !== null) {
    const reach = scale.high - layer.middle;
    return { tone: value < layer.middle ? layer.low : layer.high, strength: Math.min(1, Math.abs(value - layer.middle) / reach) };
  }
  const width = scale.high - scale.low || 1;
  const share = (value - scale.low) / width;
  return { tone: layer.high, strength: layer.name === 'logp' ? 1 - share : share };
}

export interface Filled {
  title: string;
  formula: string;
  /** The same with this token's numbers; null where a number is missing. */
  numbers: string | null;
  why: string | null;
}

function tex(value: number | null | undefined): string | null {
  if (value === null || value === undefined || !Number.isFinite(value)) return null;
  const text = number(value, 3).replaceAll('−', '-').replaceAll(',', '');
  const [mantissa, exponent] = text.split('e');
  return exponent ? `${mantissa} \\times 10^{${exponent.replaceAll('−', '-')}}` : text;
}

function minus(a: string, b: string): string {
  return `${a} - ${b.startsWith('-') ? `(${b})` : b}`;
}

/** At the start of an update the new policy is the old one: the ratio is 1 and no clip is active. */
function loss(formula: string, token: Token, learner: number | null): string | null {
  const advantage = tex(token.advantage);
  const logp = tex(learner);
  if (!advantage) return null;
  if (!formula.includes('\\log')) return `\\rho_t = 1:\\; L_t = -(1)(${advantage}) = ${tex(-token.advantage! || 0)}`;
  return logp && `L_t = -(${advantage})(${logp}) = ${tex(-token.advantage! * learner! || 0)}`;
}

const TITLES: Record<string, string> = {
  logp: 'Probability when it was sampled',
  kl: 'Distance from the reference',
  advantage: 'Advantage',
  ratio: 'Ratio of learner and sampler',
  loss: 'Loss of this token, at the start of the update',
  value: 'Value of the prefix',
};

/** The formulas of the objective with the numbers of one token. */
export function filled(answer: TokensAnswer, token: Token): Filled[] {
  const formulas = answer.objective?.formulas ?? {};
  const learner = token.old_logp ?? token.logp;
  const [logp, ref, old, kl, advantage, ratio, value] = [token.logp, token.ref_logp, learner, token.kl, token.advantage, token.ratio, token.value].map(tex);
  const numbers: Record<string, string | null> = {
    logp: logp && `${logp} \\;\\Rightarrow\\; p = ${tex(Math.exp(token.logp!))}`,
    kl: old && ref && kl && `${minus(old, ref)} = ${kl}`,
    advantage: advantage && `A_t = ${advantage}`,
    ratio: ratio && old && logp && `e^{\\,${minus(old, logp)}} = ${token.ratio!.toFixed(3)}`,
    loss: loss(formulas.loss ?? '', token, learner),
    value: value && `V = ${value}`,
  };
  return ['logp', 'kl', 'ratio', 'advantage', 'loss', 'value']
    .filter((name) => formulas[name])
    .map((name) => ({
      title: TITLES[name]!,
      formula: formulas[name]!,
      numbers: numbers[name] ?? null,
      why: numbers[name] ? null : answer.missing[name] ?? answer.missing[name === 'loss' ? 'advantage' : name] ?? null,
    }));
}
