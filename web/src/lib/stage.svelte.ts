// The numbers of one stage: fetched once, then grown by the event stream.
import { untrack } from 'svelte';
import { api, ApiError, type Alert, type OverAnswer, type Series } from './api';
import { stream, type PointsMessage } from './sse';

const POINTS = 800;
/** Live points held before the server is asked for buckets again. */
const GROWTH = 800;

export class StageSeries {
  series = $state.raw<Record<string, Series>>({});
  total = $state(0);
  alerts = $state.raw<Alert[]>([]);
  over = $state.raw<OverAnswer | null>(null);
  problem = $state<string | null>(null);
  loaded = $state(false);

  private grown = 0;
  private waiting: PointsMessage[] = [];
  private aborted = new AbortController();
  private undo: (() => void)[] = [];
  private slow: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly run: string,
    readonly stage: string,
    readonly range: { from?: number; to?: number } = {},
  ) {}

  /** Starts listening first and fetches then, so that no point falls between the two. `runs`: all that the page
   * follows, where it follows several. */
  start(runs = [this.run]): () => void {
    untrack(() => {
      stream.watch(runs);
      this.undo.push(
        stream.on('points', (message) => this.take(message)),
        stream.on('reset', () => void this.fetch()),
      );
      void stream.opened().then(() => {
        if (!this.aborted.signal.aborted) void this.fetch();
      });
    });
    return () => this.stop();
  }

  private stop(): void {
    this.aborted.abort();
    clearTimeout(this.slow);
    this.undo.splice(0).forEach((undo) => undo());
  }

  private async fetch(): Promise<void> {
    this.loaded = false;
    this.waiting = [];
    try {
      const answer = await api.series(this.run, this.stage, { points: POINTS, ...this.range }, this.aborted.signal);
      this.series = answer.series;
      this.total = answer.steps_total;
      this.problem = null;
      this.grown = 0;
    } catch (error) {
      if (this.aborted.signal.aborted) return;
      this.problem = error instanceof ApiError ? error.message : 'The numbers of this stage could not be read.';
    }
    this.loaded = true;
    this.waiting.splice(0).forEach((message) => this.take(message));
    void this.reflect();
  }

  /** Alerts and the over-optimisation curve are worked out by the server from all points. */
  private async reflect(): Promise<void> {
    const signal = this.aborted.signal;
    const [alerts, over] = await Promise.all([
      api.alerts(this.run, this.stage, signal).catch(() => this.alerts),
      api.over(this.run, this.stage, signal).catch(() => this.over),
    ]);
    if (signal.aborted) return;
    this.alerts = alerts;
    this.over = over;
  }

  private take(message: PointsMessage): void {
    if (message.run !== this.run || message.stage !== this.stage) return;
    if (!this.loaded) {
      this.waiting.push(message);
      return;
    }
    this.series = grow(this.series, message.rows, this.range);
    for (const row of message.rows) if (trained(row)) this.total = Math.max(this.total, (row.step ?? -1) + 1);
    this.grown += message.rows.length;
    clearTimeout(this.slow);
    if (this.grown > GROWTH) void this.fetch();
    else this.slow = setTimeout(() => void this.reflect(), 1500);
  }
}

/** Whether a row tells of a step of training; seconds are written before it, evaluations after the last. */
function trained(row: Record<string, number>): boolean {
  return Object.keys(row).some((name) => name !== 'step' && !/^(seconds|evaluation)\//.test(name));
}

/** `series` with rows appended; rows at or before a curve's last step were already in the answer and are left out. */
export function grow(
  series: Record<string, Series>,
  rows: Record<string, number>[],
  range: { from?: number; to?: number } = {},
): Record<string, Series> {
  const next = { ...series };
  const copied = new Set<string>();
  for (const row of rows) {
    const at = row.step;
    if (at === undefined || (range.from !== undefined && at < range.from) || (range.to !== undefined && at > range.to)) continue;
    for (const [name, value] of Object.entries(row)) {
      if (name === 'step') continue;
      let curve = next[name];
      if (curve && at <= curve.step[curve.step.length - 1]!) continue;
      if (!copied.has(name)) {
        curve = curve
          ? { step: [...curve.step], mean: [...curve.mean], low: curve.low && [...curve.low], high: curve.high && [...curve.high] }
          : { step: [], mean: [], low: [], high: [] };
        next[name] = curve;
        copied.add(name);
      }
      curve!.step.push(at);
      curve!.mean.push(value);
      curve!.low?.push(value);
      curve!.high?.push(value);
    }
  }
  return next;
}
