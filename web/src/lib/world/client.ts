// The socket of the live world: one answer per message, and only the newest of a kind while one is under way.
import { decode, type Container } from '../blocks';

export interface PinNumbers {
  x: number;
  y: number;
  altitude: Record<string, number>;
  value: number;
  value_reference: number | null;
  mean: [number, number];
  sigma: [number, number];
  reference_mean: [number, number];
  reference_sigma: [number, number];
  kl_step: number;
  ring: number;
  advantage_of_mean: number | null;
}

export type Scalars = Record<string, number | null>;

export interface SceneMeta {
  id: number | null;
  type: string;
  ok: boolean;
  error?: string;
  terrain?: TerrainDict;
  settings?: Settings;
  resolution?: number;
  iteration?: number;
  layer?: string;
  scalars?: Scalars;
  history?: { iteration: number; scalars: Scalars }[];
  horizon?: number;
  route?: [number, number][];
  start?: [number, number];
  optimum?: { return: number; kl: number; objective: number } | null;
  seconds?: number;
  pin?: PinNumbers;
  returns?: { mean: number; se: number };
}

export interface TerrainDict {
  name: string;
  title: string;
  start: [number, number];
  horizon: number;
  goal?: [number, number, number] | null;
  sea_level?: number;
  route: [number, number][];
  layers: Record<string, { bumps?: [number, number, number, number][]; image?: number[][] | null }>;
  [other: string]: unknown;
}

export type Settings = Record<string, string | number | boolean | null>;
export type Answer = Container<SceneMeta>;

export interface Channel {
  send(text: string): void;
  close(): void;
}

interface Waiting {
  message: Record<string, unknown>;
  resolve: (answer: Answer | null) => void;
  reject: (error: Error) => void;
}

/** Kinds of which only the newest message matters. */
const NEWEST = new Set(['pin', 'set', 'edit', 'route']);

/** Pairs messages with answers over any channel that carries text out and buffers in. */
export class Exchange {
  private next = 1;
  private readonly open = new Map<number, Waiting>();
  private readonly held = new Map<string, Waiting>();
  private readonly busy = new Map<string, number>();

  constructor(
    private readonly channel: Channel,
    private readonly pushed: (answer: Answer) => void,
  ) {}

  /** The answer, or null when a newer message of its kind took its place. */
  ask(type: string, content: Record<string, unknown> = {}): Promise<Answer | null> {
    return new Promise((resolve, reject) => {
      const waiting = { message: { type, ...content }, resolve, reject };
      if (!NEWEST.has(type) || !this.busy.has(type)) return this.dispatch(type, waiting);
      this.held.get(type)?.resolve(null);
      this.held.set(type, waiting);
    });
  }

  private dispatch(type: string, waiting: Waiting): void {
    const id = this.next++;
    this.open.set(id, waiting);
    if (NEWEST.has(type)) this.busy.set(type, id);
    this.channel.send(JSON.stringify({ id, ...waiting.message }));
  }

  receive(buffer: ArrayBuffer): void {
    const answer = decode<SceneMeta>(buffer);
    const { id } = answer.meta;
    if (id === null || id === undefined) {
      this.pushed(answer);
      return;
    }
    const waiting = this.open.get(id);
    if (!waiting) return;
    this.open.delete(id);
    this.release(String(waiting.message.type), id);
    if (answer.meta.ok) waiting.resolve(answer);
    else waiting.reject(new Error(answer.meta.error ?? 'The world gave no answer.'));
  }

  private release(type: string, id: number): void {
    if (this.busy.get(type) !== id) return;
    this.busy.delete(type);
    const held = this.held.get(type);
    this.held.delete(type);
    if (held) this.dispatch(type, held);
  }

  /** The channel is gone: nobody will answer. */
  fail(sentence: string): void {
    for (const waiting of [...this.open.values(), ...this.held.values()]) waiting.reject(new Error(sentence));
    this.open.clear();
    this.held.clear();
    this.busy.clear();
  }
}

/** Opens the socket of the studio that served this page. */
export function connect(pushed: (answer: Answer) => void, closed: () => void): Promise<{ exchange: Exchange; close: () => void }> {
  const address = new URL('api/world', document.baseURI);
  address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(address);
    socket.binaryType = 'arraybuffer';
    const exchange = new Exchange(socket, pushed);
    let opened = false;
    socket.onopen = () => {
      opened = true;
      resolve({ exchange, close: () => socket.close() });
    };
    socket.onmessage = (event: MessageEvent<ArrayBuffer>) => exchange.receive(event.data);
    socket.onclose = () => {
      exchange.fail('The connection to the studio is gone.');
      if (opened) closed();
      else reject(new Error('The live world does not answer; is "ridgeline studio" still running?'));
    };
  });
}
