// The state of an open lesson: its data, the step, and the scene, live over the socket or recorded.
import { api, ApiError } from '../api';
import type { Container } from '../blocks';
import { frameOf, layersOf } from '../scene/adapt';
import { Field } from '../scene/field';
import { emptyFrame, type Frame, type Pin, type Terrain, type TerrainLayer } from '../scene/view';
import { connect, type Exchange, type PinNumbers, type Scalars, type Settings, type TerrainDict } from '../world/client';
import { linesOf } from './lines';
import { recordedScene } from './recorded';
import { scaledLike } from './scaled';
import type { Lesson, LessonMeta, LessonScene, Line, RecordedMeta } from './types';

type Span = [number, number];
const PLANE: Span = [-3, 3];
/** The lesson whose reader is the annotator. */
export const JUDGED = 11;

export class OpenLesson {
  lesson = $state.raw<Lesson | null>(null);
  problem = $state<string | null>(null);
  /** live: a socket answers. recorded: the frames of the package. */
  mode = $state<'opening' | 'live' | 'recorded'>('opening');
  busy = $state(false);
  step = $state(0);
  /** Counts the scenes that were opened: a new one means that the picture shows the step as it was written. */
  shown = $state(0);
  /** The step that is on the screen; `step` is the one asked for. */
  shownStep = $state(0);
  terrain = $state.raw<Terrain | null>(null);
  frame = $state.raw<Frame>(emptyFrame());
  pair = $state.raw<Frame['paths']>(null);
  lines = $state.raw<Line[]>([]);
  place = $state.raw<{ x: number; y: number } | null>(null);
  pin = $state.raw<PinNumbers | null>(null);
  dict = $state.raw<TerrainDict | null>(null);
  settings = $state.raw<Settings>({});
  scalars = $state.raw<Scalars>({});
  history = $state.raw<{ iteration: number; scalars: Scalars }[]>([]);
  optimum = $state.raw<{ return: number; kl: number; objective: number } | null>(null);
  returns = $state.raw<{ mean: number; se: number } | null>(null);
  /** What the altitudes of the learned ground were multiplied with to stand beside gold. */
  learnedScale = $state(1);
  iteration = $state(0);
  meta = $state.raw<LessonMeta | null>(null);
  /** True once the reader changed something: the numbers of the step no longer describe the picture. */
  touched = $state(false);
  playing = $state(false);

  private exchange: Exchange | null = null;
  private hangUp: (() => void) | null = null;
  private recording: Container<RecordedMeta> | null = null;
  private gone = false;
  private resting: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly number: number,
    private readonly wantLive: boolean,
  ) {}

  /** The pin for the picture, wherever the hand has it; the compass of an older place is not drawn elsewhere. */
  viewPin = $derived.by((): Pin | null => {
    const { pin, place } = this;
    if (!place) return null;
    if (!pin) return place;
    const same = Math.hypot(pin.x - place.x, pin.y - place.y) < 1e-3;
    return {
      ...place,
      value: same ? pin.value : (this.frame.value?.at(place.x, place.y) ?? null),
      mean: pin.mean,
      sigma: pin.sigma,
      referenceMean: pin.reference_mean,
      ring: pin.ring,
    };
  });

  async start(step: number): Promise<void> {
    try {
      this.lesson = await api.lesson<Lesson>(this.number);
    } catch (error) {
      this.problem = error instanceof ApiError ? error.message : 'The lesson could not be read.';
      return;
    }
    if (this.gone) return;
    this.step = Math.max(0, Math.min(this.lesson.steps.length - 1, step));
    if (this.wantLive) await this.connect();
    if (!this.exchange) await this.fallBack();
    await this.open(this.step);
  }

  private async connect(): Promise<void> {
    try {
      const link = await connect(
        (answer) => this.absorb(answer),
        () => {
          this.exchange = null;
          this.playing = false;
          if (!this.gone) void this.fallBack();
        },
      );
      if (this.gone) return link.close();
      this.exchange = link.exchange;
      this.hangUp = link.close;
      this.mode = 'live';
    } catch {
      this.exchange = null;
    }
  }

  private async fallBack(): Promise<void> {
    try {
      this.recording ??= await api.lessonFrames<RecordedMeta>(this.number);
      this.mode = 'recorded';
    } catch (error) {
      this.problem = error instanceof ApiError ? error.message : 'The recorded frames of this lesson could not be read.';
    }
  }

  stop(): void {
    this.gone = true;
    clearTimeout(this.resting);
    this.hangUp?.();
  }

  /** Shows a step as it was written: what its script does is done anew. */
  async open(step: number): Promise<void> {
    if (!this.lesson) return;
    this.step = Math.max(0, Math.min(this.lesson.steps.length - 1, step));
    this.touched = false;
    this.playing = false;
    const wanted = this.step;
    if (this.exchange) {
      const answer = await this.ask('lesson', { number: this.number, step: wanted }, false);
      if (answer && wanted === this.step) this.arrived();
    } else if (this.recording) {
      this.forget();
      this.absorb(recordedScene(this.recording, wanted));
      this.arrived();
    }
  }

  private arrived(): void {
    this.shown++;
    this.shownStep = this.step;
  }

  private forget(): void {
    this.frame = emptyFrame();
    this.pair = null;
    this.returns = null;
  }

  /** A message of the reader's own making. */
  async send(type: string, content: Record<string, unknown> = {}): Promise<void> {
    this.touched = true;
    await this.ask(type, content, true);
  }

  private async ask(type: string, content: Record<string, unknown>, own: boolean): Promise<boolean> {
    if (!this.exchange) return false;
    const wanted = this.step;
    const slow = type !== 'pin';
    if (slow) this.busy = true;
    try {
      const answer = (await this.exchange.ask(type, content)) as Container<LessonScene> | null;
      if (!answer || this.gone || (type === 'lesson' && wanted !== this.step)) return false;
      this.problem = null;
      if (type === 'lesson') this.forget();
      this.absorb(answer);
      if (own && slow && this.place) await this.movePin(this.place.x, this.place.y, false);
      return true;
    } catch (error) {
      if (!this.gone) this.problem = (error as Error).message;
      return false;
    } finally {
      if (slow) this.busy = false;
    }
  }

  private absorb(answer: Container<LessonScene>): void {
    const { meta } = answer;
    if (!meta.ok) {
      this.problem = meta.error ?? 'The world stopped.';
      this.playing = false;
      return;
    }
    if (meta.terrain) this.dict = meta.terrain;
    if (meta.settings) this.settings = meta.settings;
    if (meta.scalars) this.scalars = { ...(meta.type === 'lesson' ? {} : this.scalars), ...meta.scalars };
    if (meta.history) this.history = meta.history;
    if (meta.iteration !== undefined) this.iteration = meta.iteration;
    if (meta.optimum !== undefined) this.optimum = meta.optimum;
    if (meta.returns) this.returns = meta.returns;
    if (meta.lesson) this.meta = meta.lesson;
    if (meta.pin) {
      this.pin = meta.pin;
      if (meta.type === 'lesson' || !this.place) this.place = { x: meta.pin.x, y: meta.pin.y };
    }
    const layers = layersOf(answer, PLANE, PLANE);
    if (layers) this.setLayers(layers);
    if (Object.keys(answer.blocks).length) {
      this.frame = { ...frameOf(answer, PLANE, PLANE, this.frame), route: this.dict?.route ?? null };
      this.setPair(answer);
      if (meta.type === 'lesson') this.lines = linesOf(answer, this.number);
    }
    if (meta.id === null && meta.type === 'frame') this.touched = true;
  }

  private setLayers(found: Record<string, TerrainLayer>): void {
    const layers = { ...found };
    const { gold, proxy } = layers;
    if (this.number === JUDGED && gold && proxy && gold.mean.n === proxy.mean.n) {
      const { data, factor } = scaledLike(proxy.mean.data, gold.mean.data, proxy.mask);
      layers.proxy = { ...proxy, mean: new Field(data, proxy.mean.n) };
      this.learnedScale = factor;
    }
    const goal = this.dict?.goal;
    this.terrain = { layers, active: 'gold' in layers ? 'gold' : Object.keys(layers)[0]!, range: null, goal: goal ? { x: goal[0], y: goal[1], radius: goal[2] } : null };
  }

  /** The two walks to judge, A in the warm colour and B in the cool one. */
  private setPair(answer: Container<LessonScene>): void {
    const offsets = answer.blocks.pair_offsets;
    const rows = answer.blocks.pair_points;
    if (!(offsets instanceof Int32Array) || !(rows instanceof Float32Array) || offsets.length < 3) return;
    const tinted = rows.slice();
    for (let row = 0; row < rows.length / 6; row++) tinted[row * 6 + 4] = row < offsets[1]! ? 1 : -1;
    this.pair = { offsets, rows: tinted };
  }

  async movePin(x: number, y: number, own = true): Promise<void> {
    this.place = { x, y };
    if (own) this.touched = true;
    if (this.exchange) await this.ask('pin', { x, y }, false);
  }

  async set(settings: Settings): Promise<void> {
    this.settings = { ...this.settings, ...settings };
    await this.send('set', { settings });
  }

  async sea(level: number): Promise<void> {
    if (this.dict) this.dict = { ...this.dict, sea_level: level };
    await this.send('edit', { sea_level: level });
    clearTimeout(this.resting);
    this.resting = setTimeout(() => void this.ask('rest', {}, true), 150);
  }

  async do(messages: (Record<string, unknown> & { type: string })[]): Promise<void> {
    for (const { type, ...content } of messages) await this.send(type, content);
  }

  async toggle(): Promise<void> {
    this.playing = !this.playing;
    await this.send(this.playing ? 'play' : 'pause', this.playing ? { every: 1 } : {});
  }

  async judge(answer: 'a' | 'b' | 'tie' | 'skip'): Promise<void> {
    if (!this.busy) await this.send('judge', { answer });
  }

  async simulate(count: number, noise: number): Promise<void> {
    if (!this.busy) await this.send('judge', { answer: 'simulate', count, noise });
  }
}
