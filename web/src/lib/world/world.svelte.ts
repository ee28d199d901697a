// The live world as the page sees it: what the server last told, and what is predicted until it answers.
import { frameOf, layersOf } from '../scene/adapt';
import { Field } from '../scene/field';
import { emptyFrame, type Frame, type Pin, type Terrain, type TerrainLayer } from '../scene/view';
import { connect, type Answer, type Exchange, type PinNumbers, type Scalars, type SceneMeta, type Settings, type TerrainDict } from './client';

type Bump = [number, number, number, number];

export interface Moment {
  iteration: number;
  frame: Frame;
  scalars: Scalars;
}

/** Frames kept for the scrubber. */
const KEPT = 240;
const BRUSH = 0.32;
/** Paths walked for the first picture: as many as the eye can follow. */
const AT_FIRST = 12;

export class World {
  status = $state<'connecting' | 'open' | 'closed'>('connecting');
  /** True once the ground, the pin and the first walks are there. */
  settled = $state(false);
  problem = $state<string | null>(null);
  dict = $state.raw<TerrainDict | null>(null);
  settings = $state.raw<Settings>({});
  scalars = $state.raw<Scalars>({});
  history = $state.raw<{ iteration: number; scalars: Scalars }[]>([]);
  optimum = $state.raw<{ return: number; kl: number; objective: number } | null>(null);
  pin = $state.raw<PinNumbers | null>(null);
  place = $state.raw<{ x: number; y: number }>({ x: -2, y: -1.6 });
  terrain = $state.raw<Terrain | null>(null);
  frame = $state.raw<Frame>(emptyFrame());
  iteration = $state(0);
  horizon = $state(24);
  returns = $state.raw<{ mean: number; se: number } | null>(null);
  seconds = $state<number | null>(null);
  playing = $state(false);
  every = $state(1);
  past = $state.raw<Moment[]>([]);
  /** Index into `past` that is looked at, or null for the present. */
  looking = $state<number | null>(null);
  private exchange: Exchange | null = null;
  private hangUp: (() => void) | null = null;
  private resting = 0;
  /** Numbers of the policy before it learned: where the history begins. */
  private first: Scalars | null = null;

  layer = $derived(String(this.settings.layer ?? 'gold'));
  shownFrame = $derived(this.looking === null ? this.frame : (this.past[this.looking]?.frame ?? this.frame));
  shownScalars = $derived(this.looking === null ? this.scalars : (this.past[this.looking]?.scalars ?? this.scalars));

  /** The pin for the views; numbers of an older place are dropped. */
  viewPin = $derived.by((): Pin => {
    const { pin, place } = this;
    if (!pin) return { ...place };
    return {
      ...place,
      value: near(pin, place) ? pin.value : (this.frame.value?.at(place.x, place.y) ?? null),
      mean: pin.mean,
      sigma: pin.sigma,
      referenceMean: pin.reference_mean,
      ring: pin.ring,
    };
  });

  async start(terrain: string | TerrainDict, settings: Settings, place: { x: number; y: number } | null): Promise<void> {
    try {
      const link = await connect(
        (answer) => this.absorb(answer, true),
        () => {
          this.status = 'closed';
          this.playing = false;
        },
      );
      this.exchange = link.exchange;
      this.hangUp = link.close;
      this.status = 'open';
      await this.open(terrain, settings, place);
      this.settled = true;
    } catch (error) {
      this.status = 'closed';
      this.problem = (error as Error).message;
    }
  }

  stop(): void {
    clearTimeout(this.resting);
    this.hangUp?.();
  }

  async open(terrain: string | TerrainDict, settings: Settings, place: { x: number; y: number } | null = null): Promise<void> {
    this.past = [];
    this.looking = null;
    this.playing = false;
    const answer = await this.ask('open', { terrain, settings });
    if (!answer) return;
    this.place = place ?? toPlace(this.dict?.start) ?? this.place;
    await this.movePin(this.place.x, this.place.y);
    await this.roll(AT_FIRST);
  }

  private async ask(type: string, content: Record<string, unknown> = {}): Promise<Answer | null> {
    if (!this.exchange) return null;
    try {
      const answer = await this.exchange.ask(type, content);
      if (answer) {
        this.problem = null;
        this.absorb(answer, false);
      }
      return answer;
    } catch (error) {
      this.problem = (error as Error).message;
      return null;
    }
  }

  private absorb(answer: Answer, pushed: boolean): void {
    const { meta } = answer;
    if (pushed && !meta.ok) {
      this.problem = meta.error ?? 'The world stopped.';
      this.playing = false;
      return;
    }
    this.absorbMeta(meta);
    if (meta.returns || 'path_points' in answer.blocks) this.returns = meta.returns ?? null;
    const layers = layersOf(answer, [-3, 3], [-3, 3]);
    if (layers) this.setLayers(layers);
    if (Object.keys(answer.blocks).length) this.frame = { ...frameOf(answer, [-3, 3], [-3, 3], this.frame), route: this.dict?.route ?? null };
    if (pushed || meta.type === 'train') this.remember();
    if (pushed) void this.movePin(this.place.x, this.place.y);
  }

  private absorbMeta(meta: SceneMeta): void {
    if (meta.terrain) this.dict = meta.terrain;
    if (meta.settings) this.settings = meta.settings;
    if (meta.scalars) this.scalars = { ...this.scalars, ...meta.scalars };
    if (meta.scalars && meta.iteration === 0) this.first = meta.scalars;
    if (meta.history) this.history = this.first && meta.history[0]?.iteration > 0 ? [{ iteration: 0, scalars: this.first }, ...meta.history] : meta.history;
    if (meta.iteration !== undefined) this.iteration = meta.iteration;
    if (meta.horizon !== undefined) this.horizon = meta.horizon;
    if (meta.optimum !== undefined) this.optimum = meta.optimum;
    if (meta.seconds !== undefined) this.seconds = meta.seconds;
    if (meta.pin) this.pin = meta.pin;
    if (meta.settings?.layer && this.terrain && this.terrain.active !== meta.settings.layer) this.setLayers(this.terrain.layers);
  }

  private setLayers(layers: Record<string, TerrainLayer>): void {
    const wanted = this.layer in layers ? this.layer : Object.keys(layers)[0];
    const goal = this.dict?.goal;
    this.terrain = { layers, active: wanted, range: null, goal: goal ? { x: goal[0], y: goal[1], radius: goal[2] } : null };
  }

  private remember(): void {
    this.past = [...this.past.slice(1 - KEPT), { iteration: this.iteration, frame: this.frame, scalars: this.scalars }];
    this.looking = null;
  }

  /** The pin at once where the hand is; its numbers when they come. */
  async movePin(x: number, y: number): Promise<void> {
    this.place = { x, y };
    await this.ask('pin', { x, y });
  }

  async set(settings: Settings): Promise<void> {
    this.settings = { ...this.settings, ...settings };
    await this.ask('set', { settings });
    await this.movePin(this.place.x, this.place.y);
  }

  async roll(count: number): Promise<void> {
    this.looking = null;
    await this.ask('roll', { count });
  }

  async step(): Promise<void> {
    await this.ask('train', { iterations: this.every });
    await this.movePin(this.place.x, this.place.y);
  }

  async toggle(): Promise<void> {
    const playing = !this.playing;
    this.playing = playing;
    const answer = await this.ask(playing ? 'play' : 'pause', playing ? { every: this.every } : {});
    if (!answer) this.playing = false;
  }

  async pace(every: number): Promise<void> {
    this.every = every;
    if (this.playing) await this.ask('play', { every });
  }

  async reset(): Promise<void> {
    this.playing = false;
    this.past = [];
    this.looking = null;
    await this.ask('reset', { policy: 'reference' });
    await this.roll(AT_FIRST);
    await this.movePin(this.place.x, this.place.y);
  }

  bumps(): Bump[] {
    return this.dict?.layers[this.layer]?.bumps ?? [];
  }

  /** Moves a bump: drawn at once by exchanging its old shape for the new, then told to the server. */
  moveBump(index: number, x: number, y: number, done: boolean): void {
    const { dict, layer } = this;
    const before = this.bumps()[index];
    if (!dict || !before) return;
    const after: Bump = [x, y, before[2], before[3]];
    const bumps = this.bumps().map((each, i) => (i === index ? after : each));
    this.dict = { ...dict, layers: { ...dict.layers, [layer]: { ...dict.layers[layer], bumps } } };
    this.predict((px, py) => bumpAt(after, px, py) - bumpAt(before, px, py));
    void this.ask('edit', { bumps: { [layer]: bumps } });
    if (done) this.rest();
  }

  /** Raises or lowers the ground under the brush. */
  paint(x: number, y: number, by: number, done: boolean): void {
    const { dict, layer } = this;
    if (!dict) return;
    const n = 65;
    const image = resampled(dict.layers[layer]?.image ?? null, n);
    const brush: Bump = [x, y, BRUSH, by];
    if (Number.isFinite(x)) {
      for (let row = 0; row < n; row++) {
        for (let column = 0; column < n; column++) {
          const raised = image[row][column] + bumpAt(brush, -3 + (6 * column) / (n - 1), -3 + (6 * row) / (n - 1));
          image[row][column] = Math.round(raised * 1e4) / 1e4;
        }
      }
      this.dict = { ...dict, layers: { ...dict.layers, [layer]: { ...dict.layers[layer], image } } };
      this.predict((px, py) => bumpAt(brush, px, py));
      void this.ask('edit', { image: { layer, heights: image } });
    }
    if (done) this.rest();
  }

  /** Draws a change of the ground before the server has told it. */
  private predict(change: (x: number, y: number) => number, layers = [this.layer]): void {
    const { terrain } = this;
    if (!terrain) return;
    const changed: Record<string, TerrainLayer> = { ...terrain.layers };
    for (const name of layers) {
      const own = terrain.layers[name];
      if (!own) continue;
      const { n } = own.mean;
      const data = own.mean.data.map((value, i) => value + change(-3 + (6 * (i % n)) / (n - 1), -3 + (6 * Math.floor(i / n)) / (n - 1)));
      changed[name] = { ...own, mean: new Field(data, n) };
    }
    this.terrain = { ...terrain, layers: changed };
  }

  async setRoute(points: [number, number][]): Promise<void> {
    if (points.length < 2) return;
    if (this.dict) this.dict = { ...this.dict, route: points };
    await this.ask('route', { points });
    this.rest();
  }

  /** Moves one point of the reference's route; the reference is taught anew when the hand lets go. */
  moveRoute(index: number, x: number, y: number, done: boolean): void {
    const { dict } = this;
    if (!dict || !dict.route[index]) return;
    const route = dict.route.map((each, i): [number, number] => (i === index ? [x, y] : each));
    this.dict = { ...dict, route };
    this.frame = { ...this.frame, route };
    if (done) void this.setRoute(route);
  }

  /** Raises every altitude by a constant; policy and history stay. */
  setSea(level: number, done: boolean): void {
    const { dict } = this;
    if (!dict) return;
    const by = level - (dict.sea_level ?? 0);
    this.dict = { ...dict, sea_level: level };
    if (by !== 0) this.predict(() => by, Object.keys(dict.layers));
    if (by !== 0 || done) void this.ask('edit', { sea_level: level });
    if (done) this.rest();
  }

  private rest(): void {
    clearTimeout(this.resting);
    this.resting = window.setTimeout(() => {
      void this.ask('rest').then(() => this.movePin(this.place.x, this.place.y));
    }, 120);
  }
}

function near(pin: PinNumbers, place: { x: number; y: number }): boolean {
  return Math.abs(pin.x - place.x) < 1e-3 && Math.abs(pin.y - place.y) < 1e-3;
}

function toPlace(at: [number, number] | undefined): { x: number; y: number } | null {
  return at ? { x: at[0], y: at[1] } : null;
}

export function bumpAt([cx, cy, width, height]: Bump, x: number, y: number): number {
  return height * Math.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * width * width));
}

/** A painted height map at n nodes a side, as rows that may be written to. */
export function resampled(image: number[][] | null, n: number): number[][] {
  if (!image) return Array.from({ length: n }, () => new Array<number>(n).fill(0));
  const field = new Field(Float32Array.from(image.flat()), image.length);
  return Array.from({ length: n }, (_, row) => Array.from({ length: n }, (_, column) => field.at(-3 + (6 * column) / (n - 1), -3 + (6 * row) / (n - 1))));
}
