// The state that every page shares: the studio's facts, the list of runs, the connection, the spoken summary.
import { untrack } from 'svelte';
import { api, ApiError, type RunSummary, type StudioState } from './api';
import { stream, type Connection } from './sse';

class Live {
  connection = $state<Connection>('connecting');
  state = $state.raw<StudioState | null>(null);
  runs = $state.raw<RunSummary[] | null>(null);
  problem = $state<string | null>(null);
  /** Read out by screen readers; pages set one sentence when what they show changes. */
  announcement = $state('');

  /** Loads the list and follows it over the stream. */
  start(): void {
    stream.onConnection = (state) => {
      // Told from inside effects that begin to watch a run; those must not run again with every connection.
      const back = untrack(() => this.connection) === 'lost' && state === 'live';
      this.connection = state;
      if (back) void this.reload();
    };
    stream.on('runs', (changed) => this.merge(changed));
    stream.on('reset', () => void this.reload());
    stream.watch([]);
    void this.reload();
  }

  async reload(): Promise<void> {
    try {
      const [state, runs] = await Promise.all([api.state(), api.runs()]);
      this.state = state;
      this.runs = runs;
      this.problem = null;
    } catch (error) {
      this.problem = error instanceof ApiError ? error.message : String(error);
    }
  }

  find(run: string | null): RunSummary | null {
    return this.runs?.find((each) => each.id === run) ?? null;
  }

  announce(sentence: string): void {
    this.announcement = sentence;
  }

  private merge(changed: RunSummary[]): void {
    const byId = new Map((this.runs ?? []).map((run) => [run.id, run]));
    for (const run of changed) byId.set(run.id, run);
    this.runs = [...byId.values()];
  }
}

export const live = new Live();
