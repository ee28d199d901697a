// The seven elements of the mental model, each with its symbol and one sentence carrying the number of the moment.
import { oneIn } from '../scene/corridor';
import { valueText } from '../scene/shapes';
import type { Element } from '../scene/view';
import type { PinNumbers, Scalars } from './client';

export interface Live {
  pin: PinNumbers | null;
  scalars: Scalars;
  horizon: number;
  layer: string;
  budget: number;
  /** Sum and length of the path on show. */
  walked: { sum: number; steps: number } | null;
}

export interface ElementText {
  element: Element;
  symbol: string;
  name: string;
  role: string;
  formula: string;
  explain: (live: Live) => string;
}

const text = valueText;

export const ELEMENTS: ElementText[] = [
  {
    element: 'state',
    symbol: '𝒮',
    name: 'State space',
    role: 'the ground plane',
    formula: 's = (x, y) ∈ [−3, 3]²',
    explain: ({ pin }) => `Every point of the plane is a state; the pin stands at (${text(pin?.x)}, ${text(pin?.y)}).`,
  },
  {
    element: 'reward',
    symbol: 'r(s′)',
    name: 'Reward',
    role: 'altitude',
    formula: 'rₜ = altitude(sₜ₊₁)',
    explain: ({ pin, layer }) => `The height of the point stepped on is the immediate reward; here it is ${text(pin?.altitude[layer])}.`,
  },
  {
    element: 'pin',
    symbol: 'sₜ',
    name: 'Current state',
    role: 'the pin',
    formula: 'sₜ₊₁ = clip(sₜ + 0.30 aₜ)',
    explain: ({ pin }) => `The walker is at x ${text(pin?.x)}, y ${text(pin?.y)}; drag the pin, or focus it and use the arrow keys.`,
  },
  {
    element: 'policy',
    symbol: 'π(a|s)',
    name: 'Policy and action',
    role: 'compass and steering',
    formula: 'aₜ ~ N(μ(sₜ), diag σ²)',
    explain: ({ pin }) =>
      `From here the policy steers by (${text(pin?.mean[0])}, ${text(pin?.mean[1])}), give or take σ = ${text(pin?.sigma[0])}, ${text(pin?.sigma[1])}.`,
  },
  {
    element: 'trajectory',
    symbol: 'τ',
    name: 'Trajectory',
    role: 'the walked line',
    formula: 'R(τ) = Σₜ γᵗ rₜ',
    explain: ({ walked, scalars }) =>
      walked
        ? `The path on show collects ${text(walked.sum)} in ${walked.steps} steps; the policy's mean return is ${text(scalars.return_gold)}.`
        : `No path has been walked yet; the policy's mean return is ${text(scalars.return_gold)}.`,
  },
  {
    element: 'value',
    symbol: 'V(s)',
    name: 'Value',
    role: 'summit potential',
    formula: 'V(s) = E[Σₜ γᵗ rₜ | s₀ = s]',
    explain: ({ pin, layer }) =>
      `Not the altitude here (${text(pin?.altitude[layer])}) but all the altitude still to come: ${text(pin?.value)}, and ${text(pin?.value_reference)} under the reference.`,
  },
  {
    element: 'corridor',
    symbol: 'KL',
    name: 'KL constraint',
    role: 'safety corridor',
    formula: 'KL(π‖π_ref) ≤ ε → √(2ε) σ',
    explain: ({ scalars, budget }) =>
      `The policy is ${text(scalars.kl)} nats per path from the reference${(scalars.kl ?? 0) < 0.05 ? '' : `, which would walk so ${oneIn(scalars.kl ?? 0)}`}; the corridor allows ${text(budget, 1)}.`,
  },
];
