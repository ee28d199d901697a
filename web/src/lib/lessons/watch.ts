// What a step asks the reader to look at: the part of the picture, the figure below it, or a number.
import type { Element, Overlays } from '../scene/view';

export interface Watch {
  /** As it is called in the sentence "Watch ...". */
  words: string;
  element: Element | null;
  /** The figure under the picture. */
  figure: 'strip' | 'history' | 'lines' | 'leash' | null;
  /** Scalars or figures whose row is marked. */
  numbers: string[];
  overlays: Partial<Overlays>;
}

const NOTHING: Omit<Watch, 'words'> = { element: null, figure: null, numbers: [], overlays: {} };

const KNOWN: Record<string, Partial<Watch> & { words: string }> = {
  altitude: { words: 'the height of the ground', element: 'reward' },
  compass: { words: 'the compass at the pin', element: 'policy', overlays: { compass: true } },
  strip: { words: 'the altitude strip under the picture', element: 'trajectory', figure: 'strip', overlays: { paths: true } },
  scalars: { words: 'mean return and exact J', figure: 'strip', numbers: ['return_gold', 'mean', 'exact'] },
  beam: { words: 'the violet beam at the pin', element: 'value', overlays: { beam: true } },
  sheet: { words: 'the violet sheet of V', element: 'value', overlays: { valueSheet: true, beam: true } },
  paths: { words: 'the colour of the paths', element: 'trajectory', overlays: { paths: true } },
  ring: { words: 'the dashed ring on the compass', element: 'corridor', overlays: { compass: true } },
  corridor: { words: 'the green corridor', element: 'corridor', overlays: { corridor: true, paths: true } },
  layers: { words: 'the two grounds: pull the divider', overlays: { swipe: 'proxy' } },
  pair: { words: 'walks A and B', element: 'trajectory', overlays: { paths: true, corridor: false } },
  history: { words: 'the curves under the picture', figure: 'history', numbers: ['return_gold', 'return_proxy'] },
  optimum: { words: 'the exact optimum, the green mark', figure: 'leash', numbers: ['optimum', 'objective'] },
  line: { words: 'the lines under the picture', figure: 'lines', numbers: ['gain_natural', 'gain_plain', 'promised', 'kept'] },
  lines: { words: 'the lines under the picture', figure: 'lines', numbers: ['kl_random', 'kl_training', 'kl_spread'] },
  variance: { words: 'the two shares of variance', figure: 'lines', numbers: ['variance_training', 'variance_walk'] },
};

const SCALARS: Record<string, string> = {
  gradient_cosine: 'the cosine to the exact gradient',
  clip_fraction: 'the share of clipped actions',
  kl: 'the exact KL',
  ratio_max: 'the largest ratio',
  kl_step: 'the KL of the step',
  dead_groups: 'the share of dead groups',
  advantage_std: 'the spread of the advantages',
  success: 'the share of walks that end in the goal',
  entropy: 'the entropy',
};

/** Figures of formulas that stand for a scalar. */
const FIGURES: Record<string, RegExp> = {
  gradient_cosine: /^cosine/,
  clip_fraction: /^(clip|outside)_/,
  kl: /^kl/,
  dead_groups: /^dead_/,
  entropy: /^entropy/,
};

/** What `watch` of a step means; the name of any scalar marks its row, and those of the `figures` that stand for it. */
export function watched(name: string, figures: string[] = []): Watch {
  const known = KNOWN[name];
  if (known) return { ...NOTHING, ...known };
  const also = figures.filter((figure) => FIGURES[name]?.test(figure));
  return { ...NOTHING, words: SCALARS[name] ?? name.replaceAll('_', ' '), numbers: [name, ...also] };
}
