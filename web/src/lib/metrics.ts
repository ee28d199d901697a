// What is known of the logged metrics: name, unit, how to read it, and the heading it stands under.

import { words } from './format';

export const GROUPS = ['Reward', 'Leash', 'Policy', 'Preference', 'Length', 'Critic', 'Optimiser', 'Speed', 'Other'] as const;
export type GroupName = (typeof GROUPS)[number];

export const GROUP_NOTES: Record<GroupName, string> = {
  Reward: 'What is being maximised, and what it is made of',
  Leash: 'How far the policy has walked from its reference',
  Policy: 'How sharply it chooses, and how far one update moves it',
  Preference: 'How well chosen and rejected answers are told apart',
  Length: 'Where a reward is often found by accident',
  Critic: 'How well the value of a prefix is foreseen',
  Optimiser: 'Losses and the steps taken on them',
  Speed: 'Where the seconds of a step go',
  Other: 'Logged, and not described here',
};

export interface Metric {
  title: string;
  unit: string;
  note: string;
  group: GroupName;
  share?: boolean;
}

const metric = (group: GroupName, title: string, unit: string, note: string, share = false): Metric => ({
  group,
  title,
  unit,
  note,
  share,
});

const KNOWN: Record<string, Metric> = {
  reward: metric('Reward', 'Reward', 'mean per completion', 'Should rise steadily; jumps deserve a look at the texts'),
  reward_spread: metric('Reward', 'Reward spread', 'sd within a group', 'What advantages are made of; 0 means no signal'),
  dead_groups: metric('Reward', 'Dead groups', 'share of prompts', 'All samples scored alike: nothing to learn', true),
  kl_k1: metric('Leash', 'KL to the reference', 'nats per completion, k1', 'Unbiased; noise may take it below 0'),
  kl_k3: metric('Leash', 'KL to the reference', 'nats per completion, k3', 'The same distance, never negative'),
  kl_k3_per_token: metric('Leash', 'KL per token', 'nats per token, k3', 'The same distance, never negative'),
  kl_coefficient: metric('Leash', 'KL coefficient', 'reward per nat', 'Moves only when it is adaptive'),
  'loss/kl': metric('Leash', 'KL penalty', 'in the loss', 'What the leash costs'),
  kl_mismatched: metric('Leash', 'KL, mismatched', 'nats per completion', "The point KTO compares each row with"),
  divergence: metric('Leash', 'Divergence from the teacher', 'nats per token', 'Should fall'),
  entropy: metric('Policy', 'Entropy', 'nats per token', 'A slow fall is learning; a sudden one is collapse'),
  clip_fraction: metric('Policy', 'Clip fraction', 'share of tokens', 'Clipped branch active; 0 when strictly on-policy', true),
  outside_fraction: metric('Policy', 'Outside the clip range', 'share of tokens', 'Ratio beyond the range, clipped or not', true),
  ratio: metric('Policy', 'Probability ratio', 'mean over tokens', '1 when the sampler is the learner'),
  ratio_max: metric('Policy', 'Largest ratio', 'over tokens', 'One token far from 1 can own a gradient'),
  sampler_gap: metric('Policy', 'Sampler gap', 'nats per token', 'Sampling and learning probabilities should agree'),
  importance_weight: metric('Policy', 'Importance weight', 'mean over tokens', 'Corrects for the sampler gap; near 1'),
  dropped_fraction: metric('Policy', 'Dropped tokens', 'share of tokens', 'Left out of the loss by their weight', true),
  advantage_std: metric('Policy', 'Advantage spread', 'sd', 'The size of the push'),
  success: metric('Reward', 'Success', 'share of paths', 'Paths that end at the goal', true),
  return_gold: metric('Reward', 'Return, gold', 'per path, exact', 'What is really wanted'),
  return_proxy: metric('Reward', 'Return, proxy', 'per path, exact', 'What is walked on'),
  kl: metric('Leash', 'KL to the reference', 'nats per path, exact', 'The distance walked'),
  gradient_cosine: metric('Optimiser', 'Gradient direction', 'cosine to the exact gradient', '1 is straight uphill'),
  length: metric('Length', 'Completion length', 'tokens', 'Growth without reward is a length hack'),
  stopped: metric('Length', 'Stopped by itself', 'share of completions', 'The rest was cut at the limit', true),
  accuracy: metric('Preference', 'Accuracy', 'share of pairs', 'Chosen above rejected', true),
  margin: metric('Preference', 'Margin', 'chosen minus rejected', 'Should rise'),
  ties: metric('Preference', 'Ties', 'share of pairs', 'No answer was better', true),
  top1: metric('Preference', 'Best found', 'share of groups', 'The best answer scored highest', true),
  'critic/value_error': metric('Critic', 'Value error', 'squared reward', 'Should fall, then level'),
  explained_variance: metric('Critic', 'Explained variance', 'of returns', '1 foresees all, 0 nothing'),
  'critic/explained_variance': metric('Critic', 'Explained variance', 'of returns', '1 foresees all, 0 nothing'),
  gradient_norm: metric('Optimiser', 'Gradient norm', 'before clipping', 'Spikes are a warning'),
  learning_rate: metric('Optimiser', 'Learning rate', '', 'The schedule as it was run'),
  skipped: metric('Optimiser', 'Skipped updates', 'share', 'Not finite, or nothing to learn from', true),
  nll: metric('Optimiser', 'Negative log-likelihood', 'nats per token', ''),
  teacher_nll: metric('Optimiser', "Teacher's log-likelihood", 'nats per token', ''),
};

const BY_PREFIX: [RegExp, (match: RegExpMatchArray) => Metric][] = [
  [/^(?:reward|control)\/loss\/(.+)$/, (m) => metric('Optimiser', `Loss, ${plain(m[1])}`, '', 'Should fall')],
  [/^(reward|control)\/(gradient_norm|learning_rate|accuracy|margin|top1|entropy|length)$/, (m) => prefixed(m[1], m[2])],
  [/^reward\/score\/(.+)$/, (m) => metric('Preference', `Score of ${plain(m[1])}`, 'reward', '')],
  [/^(selected|pool|control)\/(.+)$/, (m) => metric('Reward', `${capital(plain(m[2]))}, ${m[1]}`, 'mean', SELECTION[m[1]!] ?? '')],
  [/^reward\/(.+)$/, (m) => metric('Reward', capital(plain(m[1])), 'mean per completion', 'A part of the reward, or watched beside it')],
  [/^log_ratio\/(.+)$/, (m) => metric('Preference', `Log-ratio of ${plain(m[1])}`, 'nats, policy over reference', 'Both may fall: likelihood displacement')],
  [/^logp\/(.+)$/, (m) => metric('Preference', `Log-probability of ${plain(m[1])}`, 'nats', '')],
  [/^loss\/(.+)$/, (m) => metric('Optimiser', `Loss, ${plain(m[1])}`, '', m[1] === 'policy' ? 'Its level means little; watch the reward' : 'Should fall')],
  [/^critic\/(.+)$/, (m) => metric('Critic', `Critic, ${plain(m[1])}`, '', '')],
  [/^seconds\/(.+)$/, (m) => metric('Speed', capital(plain(m[1])), 'seconds per step', '')],
  [/^tokens_per_second$/, () => metric('Speed', 'Tokens per second', '', '')],
];

const SELECTION: Record<string, string> = {
  selected: 'Of the completions that were kept',
  pool: 'Of all that were sampled',
  control: 'Of the same number kept at random',
};

function plain(name: string | undefined): string {
  return words(name ?? '').replaceAll(' / ', ', ');
}

function capital(text: string): string {
  if (/\.py:\w+$/.test(text)) return text;
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function prefixed(owner: string | undefined, name: string | undefined): Metric {
  const known = KNOWN[name ?? '']!;
  return { ...known, title: `${known.title}, ${owner === 'reward' ? 'reward model' : 'control'}` };
}

/** What is known of a metric; an unknown one keeps its own name and stands under "Other". */
export function describe(name: string): Metric {
  const known = KNOWN[name];
  if (known) return known;
  for (const [pattern, make] of BY_PREFIX) {
    const match = name.match(pattern);
    if (match) return make(match);
  }
  return metric('Other', capital(plain(name)), '', '');
}

export interface ChartSpec {
  id: string;
  title: string;
  unit: string;
  note: string;
  group: GroupName;
  share: boolean;
  /** Metric names drawn together, with their labels. */
  lines: { name: string; label: string }[];
}

const TOGETHER: { id: string; match: RegExp; title: string; unit: string; note: string; group: GroupName }[] = [
  { id: 'seconds', match: /^seconds\//, title: 'Seconds per step', unit: 'seconds', note: 'Sampling usually takes the most', group: 'Speed' },
  { id: 'log_ratio', match: /^log_ratio\//, title: 'Log-ratio to the reference', unit: 'nats', note: 'Both may fall: likelihood displacement', group: 'Preference' },
  { id: 'logp', match: /^logp\//, title: 'Log-probability', unit: 'nats', note: 'Falling together is displacement', group: 'Preference' },
  { id: 'score', match: /^reward\/score\//, title: 'Scores', unit: 'reward', note: 'Should part', group: 'Preference' },
];

const SELECTED = /^(selected|pool|control)\/(?!entropy|gradient_norm|learning_rate)([a-z_ ]+)$/;

/** Charts for the metrics of a stage, in the order of the headings; metrics that belong together share a chart. */
export function charts(names: string[]): ChartSpec[] {
  const left = new Set(names.filter((name) => !name.startsWith('evaluation/')));
  const specs: ChartSpec[] = [];
  // "total" repeats the reward when there is one part only, and the reward itself otherwise.
  if (left.has('reward')) left.delete('reward/total');
  for (const { match, ...together } of TOGETHER) {
    const members = [...left].filter((name) => match.test(name));
    if (members.length < 2) continue;
    members.forEach((name) => left.delete(name));
    const lines = members.map((name) => ({ name, label: plain(name.replace(match, '')) }));
    specs.push({ ...together, share: false, lines });
  }
  for (const measure of new Set([...left].flatMap((name) => name.match(SELECTED)?.[2] ?? []))) {
    const members = [...left].filter((name) => name.match(SELECTED)?.[2] === measure);
    if (members.length < 2) continue;
    members.forEach((name) => left.delete(name));
    const group = measure === 'length' ? 'Length' : 'Reward';
    const lines = members.map((name) => ({ name, label: name.match(SELECTED)![1]! }));
    const note = 'Kept, against all that were sampled and as many at random';
    specs.push({ id: `selection/${measure}`, title: capital(plain(measure)), unit: 'mean', note, group, share: false, lines });
  }
  for (const name of left) {
    const known = describe(name);
    specs.push({ id: name, ...known, share: known.share ?? false, lines: [{ name, label: known.title }] });
  }
  const order = Object.keys(KNOWN);
  const rank = (spec: ChartSpec): number => {
    const place = order.indexOf(spec.id);
    return GROUPS.indexOf(spec.group) * 1000 + (place < 0 ? 500 : place);
  };
  return specs.sort((a, b) => rank(a) - rank(b));
}

/** What is written beside a metric to find it again (which rollout, how many samples): no curve of its own. */
export function bookkeeping(name: string): boolean {
  return /^(?:evaluation\/)?(?:rollout|round|samples|step)$/.test(name);
}
