// A lesson as the server tells it (contract, section 6).
import type { SceneMeta } from '../world/client';

export interface LessonSummary {
  number: number;
  slug: string;
  title: string;
  summary: string;
}

export interface LessonStep {
  title: string;
  text: string;
  do: Record<string, unknown>[];
  watch: string;
}

export interface Figure {
  label: string;
  unit: string;
  /** As recorded for the first seed. */
  value: number | null;
}

export interface Lesson extends LessonSummary {
  terrain: string;
  settings: Record<string, unknown>;
  steps: LessonStep[];
  question: { text: string; choices: string[]; answer: number; why: string };
  formula: { tex: string; template: string; filled: string; numbers: Record<string, Figure> };
  code: { path: string; line: number; text: string; function: string };
  claim: string;
  evidence: Record<string, number | null>[];
  caveat: string | null;
}

/** J along one direction of the parameters. */
export interface Line {
  name: string;
  label: string;
  /** Signed length of the step; null where only its KL is told. */
  norm: number[] | null;
  kl: number[];
  gain: number[];
  /** What the surrogate says that the gain would be. */
  promised: number[] | null;
}

export interface LessonMeta {
  number: number;
  step: number;
  numbers: Record<string, number | null>;
  filled?: string;
  pairs?: number;
  most_pairs?: number;
}

export interface LessonScene extends SceneMeta {
  lesson?: LessonMeta;
}

export interface RecordedMeta {
  number: number;
  steps: (LessonScene & { same: Record<string, string> })[];
}
