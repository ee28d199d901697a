// The one event stream of a tab. The browser reconnects by itself and sends Last-Event-ID; a cursor that the
// server no longer knows comes back as "reset", after which everything is fetched anew.
import { apiUrl, type RunEvent, type RunSummary } from './api';

export interface PointsMessage {
  run: string;
  stage: string;
  rows: Record<string, number>[];
}

export interface EventsMessage {
  run: string;
  events: RunEvent[];
}

export interface StreamMessages {
  runs: RunSummary[];
  points: PointsMessage;
  events: EventsMessage;
  reset: null;
}

export type Connection = 'connecting' | 'live' | 'lost';
type Listener<T> = (message: T) => void;
type Kind = keyof StreamMessages;

export class Stream {
  private source: EventSource | null = null;
  private listeners: { [K in Kind]: Set<Listener<StreamMessages[K]>> } = {
    runs: new Set(),
    points: new Set(),
    events: new Set(),
    reset: new Set(),
  };
  private watched: string[] = [];
  /** Told about every change of the connection. */
  onConnection: (state: Connection) => void = () => {};

  /** Opens the stream; `runs` restricts which runs send points (none: no run's points are wanted). */
  watch(runs: string[]): void {
    const wanted = [...new Set(runs)].sort();
    if (this.source && wanted.join() === this.watched.join()) return;
    this.watched = wanted;
    this.open();
  }

  on<K extends Kind>(kind: K, listener: Listener<StreamMessages[K]>): () => void {
    this.listeners[kind].add(listener);
    return () => this.listeners[kind].delete(listener);
  }

  /** Waits until the server sends what is new from now on, but not for ever: a page without it is still a page. */
  async opened(limit = 1000): Promise<void> {
    const open = (): boolean => this.source?.readyState === EventSource.OPEN;
    for (const begin = performance.now(); !open() && performance.now() - begin < limit; ) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  close(): void {
    this.source?.close();
    this.source = null;
  }

  private open(): void {
    this.source?.close();
    this.onConnection('connecting');
    const source = new EventSource(apiUrl('/stream', { runs: this.watched.join(',') || '-' }));
    this.source = source;
    source.onopen = () => this.onConnection('live');
    source.onerror = () => {
      this.onConnection('lost');
      // A closed source never tries again by itself (for example after an answer that is not a stream).
      if (source.readyState === EventSource.CLOSED && this.source === source) {
        setTimeout(() => this.source === source && this.open(), 3000);
      }
    };
    for (const kind of Object.keys(this.listeners) as Kind[]) {
      source.addEventListener(kind, (event) => this.tell(kind, (event as MessageEvent<string>).data));
    }
  }

  private tell<K extends Kind>(kind: K, data: string): void {
    let message: StreamMessages[K];
    try {
      message = (kind === 'reset' ? null : JSON.parse(data)) as StreamMessages[K];
    } catch {
      return;
    }
    this.listeners[kind].forEach((listener) => listener(message));
  }
}

export const stream = new Stream();
