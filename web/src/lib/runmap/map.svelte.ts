// A recorded landscape as it is read: manifest and terrain once, frames when they are looked at.
import { api, ApiError } from '../api';
import type { Container } from '../blocks';
import { recordedFrame, recordedTerrain, type Manifest } from '../scene/adapt';
import { emptyFrame, type Frame, type Terrain } from '../scene/view';
import type { MapManifest } from './manifest';

interface FrameMeta {
  step: number;
  scalars: Record<string, number | null>;
  honesty: string;
}

export interface ShownFrame {
  index: number;
  frame: Frame;
  /** Prompt number and sample index of every point. */
  ids: Int32Array | null;
}

/** Frames kept in memory. */
const KEPT = 48;
/** Milliseconds between two looks at whether a map was made anew. */
const EVERY = 5000;

export class RecordedMap {
  manifest = $state.raw<MapManifest | null>(null);
  terrain = $state.raw<Terrain | null>(null);
  shown = $state.raw<ShownFrame | null>(null);
  problem = $state<string | null>(null);
  /** The command that makes a missing map. */
  mend = $state<string | null>(null);
  missing = $state(false);

  private readonly frames = new Map<number, Promise<ShownFrame>>();
  private readonly aborted = new AbortController();
  private wanted = -1;
  private asked = Date.now();

  constructor(
    readonly run: string,
    readonly stage: string,
  ) {}

  async start(): Promise<void> {
    const { signal } = this.aborted;
    try {
      const manifest = await api.landscapeManifest<MapManifest>(this.run, this.stage, signal);
      const terrain = await api.landscapeFile(this.run, this.stage, 'terrain.bin', signal);
      this.terrain = recordedTerrain(terrain, manifest as Manifest);
      this.manifest = manifest;
    } catch (error) {
      if (signal.aborted) return;
      this.missing = error instanceof ApiError && error.status === 404;
      this.mend = error instanceof ApiError ? error.mend : null;
      this.problem = error instanceof Error ? error.message : 'The map could not be read.';
    }
  }

  /** Reads the map again where it was made anew; asked at most every few seconds. */
  async refresh(): Promise<void> {
    if (!this.manifest || Date.now() - this.asked < EVERY) return;
    this.asked = Date.now();
    const { signal } = this.aborted;
    try {
      const manifest = await api.landscapeManifest<MapManifest>(this.run, this.stage, signal);
      if (manifest.created === this.manifest.created) return;
      const terrain = await api.landscapeFile(this.run, this.stage, 'terrain.bin', signal);
      this.frames.clear();
      this.terrain = recordedTerrain(terrain, manifest as Manifest);
      this.manifest = manifest;
    } catch {
      // A map that is being written just now is read the next time; the one on the screen stays.
    }
  }

  stop(): void {
    this.aborted.abort();
  }

  /** Shows a frame as soon as it is there; the one before stays until then. */
  async show(index: number): Promise<void> {
    this.wanted = index;
    try {
      const found = await this.frame(index);
      if (this.wanted !== index || this.aborted.signal.aborted) return;
      this.shown = found;
      if (this.manifest && index + 1 < this.manifest.frames.length) void this.frame(index + 1).catch(() => undefined);
    } catch (error) {
      if (!this.aborted.signal.aborted) this.problem = error instanceof Error ? error.message : 'A frame could not be read.';
    }
  }

  private frame(index: number): Promise<ShownFrame> {
    const known = this.frames.get(index);
    if (known) return known;
    const manifest = this.manifest!;
    const file = manifest.frames[index]!.file;
    const made = api.landscapeFile<FrameMeta>(this.run, this.stage, file, this.aborted.signal).then((container) => {
      const ids = container.blocks.point_ids;
      return { index, frame: this.framed(container, manifest), ids: ids instanceof Int32Array ? ids : null };
    });
    made.catch(() => this.frames.delete(index));
    this.frames.set(index, made);
    for (const old of this.frames.keys()) {
      if (this.frames.size <= KEPT) break;
      if (old !== index) this.frames.delete(old);
    }
    return made;
  }

  private framed(container: Container<unknown>, manifest: MapManifest): Frame {
    return recordedFrame(container, manifest as Manifest);
  }
}

export const NO_FRAME: Frame = emptyFrame();
