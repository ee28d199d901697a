// Numbers put into a formula, as landscape/lessons/lesson.py writes them, so that live and recorded read alike.
import type { Figure, LessonMeta } from './types';

const PLACEHOLDER = /«([a-z][a-z0-9_]*)»/g;

/** A number in TeX: whole, or with the two to three digits that matter; a dash for none. */
export function written(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '\\text{--}';
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 10_000) return String(value);
  if (size >= 10_000 || size < 0.005) {
    const [mantissa, exponent] = value.toExponential(1).split('e');
    return `${mantissa}\\cdot 10^{${Number(exponent)}}`;
  }
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/** The template with its «names» replaced; `colour` tints what the live world gave. */
export function filled(
  template: string,
  recorded: Record<string, number | null | undefined>,
  live: Record<string, number | null> = {},
  colour: string | null = null,
): string {
  return template.replace(PLACEHOLDER, (_, name: string) => {
    const own = live[name];
    if (own === null || own === undefined) return written(recorded[name]);
    return colour ? `{\\textcolor{${colour}}{${written(own)}}}` : written(own);
  });
}

export interface ShownNumber {
  name: string;
  label: string;
  unit: string;
  value: number | null;
  /** now: of the world on the screen. before: of the step as it was opened. recorded: of the package's seed 0. */
  origin: 'now' | 'before' | 'recorded';
}

/** The numbers of the formula: the live world's where it has them; `changed` when the reader has moved on from them. */
export function shownNumbers(figures: Record<string, Figure>, live: LessonMeta['numbers'], changed = false): ShownNumber[] {
  return Object.entries(figures).map(([name, figure]) => {
    const own = live[name];
    const known = own !== null && own !== undefined;
    const origin = !known ? 'recorded' : changed ? 'before' : 'now';
    return { name, label: figure.label, unit: figure.unit, value: known ? own : figure.value, origin };
  });
}

/**
 * A formula cut at its wide spaces and after listed items (",\\ "), outside braces and brackets, so that a narrow
 * column can put the parts on lines.
 */
export function parts(tex: string): string[] {
  const out: string[] = [''];
  let depth = 0;
  for (const piece of tex.split(/(\\qquad|\\quad|[,;]\\ |[{}()])/)) {
    if (piece === '{' || piece === '(') depth++;
    if (piece === '}' || piece === ')') depth--;
    const wide = piece === '\\qquad' || piece === '\\quad';
    const listed = piece === ',\\ ' || piece === ';\\ ';
    if (!wide || depth > 0) out[out.length - 1] += listed && depth === 0 ? piece[0] : piece;
    if ((wide || listed) && depth === 0) out.push('');
  }
  return out.map((each) => each.trim()).filter(Boolean);
}

/** A label as it is printed: true minus, Greek letters. */
export function printed(label: string): string {
  return label.replaceAll(' - ', ' − ').replace(/\bbeta\b/g, 'β').replace(/\blambda\b/g, 'λ').replace(/\bsigma\b/g, 'σ');
}
