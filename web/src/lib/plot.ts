// Pure parts of a chart: the table of numbers that is drawn, spoken, shown and saved.
import type { Series } from './api';
import { number } from './format';
import { smooth } from './smoothing';

export interface Line {
  name: string;
  label: string;
  series: Series;
}

export interface PlotLine {
  label: string;
  mean: (number | null)[];
  smooth: (number | null)[];
  /** Lowest and highest value of a bucket; null where a point is a single value. */
  low: (number | null)[] | null;
  high: (number | null)[] | null;
}

export interface PlotTable {
  steps: number[];
  lines: PlotLine[];
}

/** Lines with step lists of their own as columns over the union of the steps. */
export function plotTable(lines: Line[], weight: number): PlotTable {
  const steps = [...new Set(lines.flatMap((line) => line.series.step))].sort((a, b) => a - b);
  const place = new Map(steps.map((step, index) => [step, index]));
  return {
    steps,
    lines: lines.map(({ label, series }) => {
      const spread = (values: (number | null)[] | null): (number | null)[] | null => {
        if (!values) return null;
        const column: (number | null)[] = new Array(steps.length).fill(null);
        series.step.forEach((step, index) => {
          const value = values[index];
          column[place.get(step)!] = typeof value === 'number' && Number.isFinite(value) ? value : null;
        });
        return column;
      };
      const mean = spread(series.mean)!;
      const low = spread(series.low);
      const high = spread(series.high);
      const bucketed = low !== null && high !== null && low.some((value, i) => value !== high[i]);
      return {
        label,
        mean,
        smooth: smooth(mean, weight),
        low: bucketed ? low : null,
        high: bucketed ? high : null,
      };
    }),
  };
}

/** One sentence about a line for those who do not see it. */
export function spoken(title: string, unit: string, table: PlotTable): string {
  const parts = table.lines.map((line) => {
    const values = line.mean.filter((value): value is number => value !== null);
    if (!values.length) return `${line.label}: no values`;
    const low = values.reduce((a, b) => Math.min(a, b));
    const high = values.reduce((a, b) => Math.max(a, b));
    const name = table.lines.length > 1 ? `${line.label}: ` : '';
    return `${name}first ${number(values[0]!)}, last ${number(values[values.length - 1]!)}, between ${number(low)} and ${number(high)}`;
  });
  const steps = table.steps.length ? ` over steps ${table.steps[0]} to ${table.steps[table.steps.length - 1]}` : '';
  return `${title}${unit ? `, ${unit}` : ''}: ${parts.join('; ')}${steps}.`;
}

/** A range that gives lines air: 8 % above and below; shares start at 0; a flat line stands in the middle. */
export function airy(low: number | null, high: number | null, share: boolean): [number, number] {
  if (low === null || high === null) return [0, 1];
  const from = share ? Math.min(0, low) : low;
  if (high - from < 1e-12 * Math.max(1, Math.abs(high))) {
    const room = Math.abs(high) * 0.5 || 1;
    return share && high === 0 ? [0, 1] : [from - room, high + room];
  }
  const air = (high - from) * 0.08;
  return [share && from === 0 ? 0 : from - air, high + air];
}
