// The prompt groups of one step: fetched by pages when they come into view, dropped when the question changes.
import { api, ApiError, type PromptGroup, type StepKind } from './api';

const PAGE = 20;

export interface Question {
  run: string;
  stage: string;
  kind: StepKind;
  step: number;
  search: string;
  sort: string;
}

export class Groups {
  total = $state(0);
  /** By place in the sorted list; a place that is missing has not been fetched. */
  known = $state.raw<Map<number, PromptGroup>>(new Map());
  loaded = $state(false);
  problem = $state<string | null>(null);
  private asked = new Set<number>();
  private aborted = new AbortController();

  constructor(readonly question: Question) {}

  stop(): void {
    this.aborted.abort();
  }

  /** Makes sure that the groups `from` to `to` (inclusive) are known or on their way. */
  async need(from: number, to: number): Promise<void> {
    const pages: number[] = [];
    for (let page = Math.floor(Math.max(0, from) / PAGE); page * PAGE <= to; page++) {
      if (this.asked.has(page) || (this.loaded && page * PAGE >= this.total)) continue;
      this.asked.add(page);
      pages.push(page);
    }
    await Promise.all(pages.map((page) => this.fetch(page)));
  }

  private async fetch(page: number): Promise<void> {
    const { run, stage, ...query } = this.question;
    try {
      const answer = await api.groups(run, stage, { ...query, offset: page * PAGE, limit: PAGE }, this.aborted.signal);
      const next = new Map(this.known);
      answer.groups.forEach((group, index) => next.set(page * PAGE + index, group));
      this.known = next;
      this.total = answer.total;
      this.problem = null;
    } catch (error) {
      if (this.aborted.signal.aborted) return;
      this.asked.delete(page);
      this.problem = error instanceof ApiError ? error.message : 'These completions could not be read.';
    }
    this.loaded = true;
  }
}
