// What the reader may change in a lesson: sliders, switches and buttons, each a message of the live world.
import type { Overlays } from '../scene/view';

type Message = Record<string, unknown> & { type: string };

export type Try =
  | { kind: 'slider'; label: string; name: string; min: number; max: number; step: number; digits: number }
  | { kind: 'sea'; label: string; min: number; max: number; step: number }
  | { kind: 'budget'; label: string }
  | { kind: 'choice'; label: string; name: string; options: [string, string | number | boolean][] }
  | { kind: 'overlay'; label: string; overlay: keyof Overlays }
  | { kind: 'do'; label: string; messages: Message[] };

const roll = (count: number): Try => ({ kind: 'do', label: count === 1 ? 'Roll once' : `Roll ${count}`, messages: [{ type: 'roll', count }] });
const train = (iterations: number): Try => ({
  kind: 'do',
  label: iterations === 1 ? 'One iteration' : `${iterations} iterations`,
  messages: [{ type: 'train', iterations }],
});
/** With the cosine to the exact gradient, which is not measured otherwise. */
const measured: Try = { kind: 'do', label: 'One iteration', messages: [{ type: 'set', settings: { cosine: true } }, { type: 'train', iterations: 1 }] };
const RESET: Try = { kind: 'do', label: 'Back to the reference', messages: [{ type: 'reset', policy: 'reference' }] };
const beta: Try = { kind: 'slider', label: 'KL price β', name: 'beta', min: 0, max: 2, step: 0.05, digits: 2 };
const fresh = (sigma: number): Try => ({ kind: 'do', label: `New, σ ${sigma.toFixed(1)}`, messages: [{ type: 'reset', policy: 'new', sigma }] });

export const TRIES: Record<number, Try[]> = {
  1: [roll(1), roll(200)],
  2: [{ kind: 'overlay', label: 'Sheet of V', overlay: 'valueSheet' }, { kind: 'overlay', label: 'Contours of V', overlay: 'valueContours' }, train(20), RESET],
  3: [
    { kind: 'sea', label: 'Sea level', min: -2, max: 5, step: 0.5 },
    { kind: 'choice', label: 'Baseline', name: 'baseline', options: [['none', 'none'], ['time', 'time'], ['exact V', 'exact']] },
    measured,
    RESET,
  ],
  4: [
    { kind: 'slider', label: 'Trace λ', name: 'lam', min: 0, max: 1, step: 0.05, digits: 2 },
    { kind: 'choice', label: 'Critic', name: 'baseline', options: [['exact', 'exact'], ['learned', 'learned'], ['time', 'time']] },
    roll(8),
    measured,
    RESET,
  ],
  5: [
    { kind: 'slider', label: 'Epochs', name: 'epochs', min: 1, max: 20, step: 1, digits: 0 },
    { kind: 'slider', label: 'Clip ε', name: 'clip', min: 0.05, max: 1, step: 0.05, digits: 2 },
    train(1),
    RESET,
  ],
  6: [
    { kind: 'slider', label: 'Budget', name: 'budget', min: 0.01, max: 1, step: 0.01, digits: 2 },
    { kind: 'choice', label: 'Step', name: 'algorithm', options: [['natural', 'trpo'], ['plain', 'reinforce']] },
    train(1),
    RESET,
  ],
  7: [
    { kind: 'choice', label: 'Group', name: 'group', options: [['4', 4], ['8', 8], ['16', 16]] },
    { kind: 'choice', label: 'Divide by σ', name: 'normalise_std', options: [['yes', true], ['no', false]] },
    roll(8),
    train(1),
    train(20),
    RESET,
  ],
  8: [{ kind: 'budget', label: 'Corridor' }, beta, roll(60), train(20), RESET],
  9: [{ kind: 'overlay', label: 'Swipe gold and proxy', overlay: 'swipe' }, beta, train(20), RESET],
  10: [
    { kind: 'slider', label: 'Entropy bonus', name: 'entropy', min: 0, max: 0.1, step: 0.01, digits: 2 },
    fresh(0.4),
    fresh(1),
    train(20),
  ],
  11: [train(20), RESET],
  12: [train(20), RESET],
};
