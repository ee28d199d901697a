// The one interface of the picture: the 3-D scene and the 2-D map both implement it.
import type { Field } from './field';

/** The seven elements of the mental model, in the order of the legend. */
export type Element = 'state' | 'reward' | 'pin' | 'policy' | 'trajectory' | 'value' | 'corridor';

export interface TerrainLayer {
  mean: Field;
  /** Standard error; drawn as fog where it is large. */
  se: Field | null;
  /** 1 = shown, 0 = a hole: nothing was sampled there. */
  mask: Uint8Array | null;
}

export interface Terrain {
  layers: Record<string, TerrainLayer>;
  /** The layer that is walked on. */
  active: string;
  /** Colour limits, equal for every frame; null takes those of the active layer. */
  range: [number, number] | null;
  goal?: { x: number; y: number; radius: number } | null;
  axes?: { x: string; y: string };
  /** What a layer is called in words, where its key does not say it. */
  names?: Record<string, string>;
}

export interface Paths {
  /** Path i owns rows offsets[i] to offsets[i + 1]. */
  offsets: Int32Array;
  /** Rows of six: x, y, altitude, value, and the advantage and kl of the step that leads to the point. */
  rows: Float32Array;
}

export interface Tube {
  /** [T + 1, 2] */
  mean: Float32Array;
  /** [T + 1, 2, 2] covariance of the reference's own cloud. */
  covariance: Float32Array;
}

export interface Contours {
  offsets: Int32Array;
  points: Float32Array;
  levels: Float32Array;
}

export interface Frame {
  /** Rows of eight: x, y, reward, gold, advantage, kl, length, prompt number. */
  points: Float32Array | null;
  paths: Paths | null;
  referencePaths: Paths | null;
  corridor: Tube | null;
  contours: Contours | null;
  value: Field | null;
  /** Rows of three: x, y, V. */
  beams: Float32Array | null;
  /** Rows of six: x, y, mean dx, mean dy, sigma x, sigma y. */
  arrows: Float32Array | null;
  referenceArrows: Float32Array | null;
  occupancy: Field | null;
  route: [number, number][] | null;
  /** Language-model paths run through the air: their altitude is their own, not the ground's. */
  airborne: boolean;
}

export interface Pin {
  x: number;
  y: number;
  value?: number | null;
  mean?: [number, number];
  sigma?: [number, number];
  referenceMean?: [number, number];
  /** Radius of the per-step KL budget, in action units. */
  ring?: number;
}

export interface Overlays {
  contours: boolean;
  paths: boolean;
  referencePaths: boolean;
  corridor: boolean;
  arrows: boolean;
  compass: boolean;
  beam: boolean;
  valueContours: boolean;
  valueSheet: boolean;
  occupancy: boolean;
  points: boolean;
  labels: boolean;
  route: boolean;
  /** Second layer shown to the right of the divider, or null. */
  swipe: string | null;
  /** Divider, as a fraction of the picture's width. */
  swipeAt: number;
  /** Second layer on a map of its own beside the first (2-D only), or null. */
  beside: string | null;
  /** Index of the path that leads: drawn in full and on top, the others faint; null = all alike. */
  lead: number | null;
  /** KL budget in nats: the corridor is the sqrt(2 e)-sigma tube. */
  budget: number;
}

export const DEFAULT_OVERLAYS: Overlays = {
  contours: true,
  paths: true,
  referencePaths: false,
  corridor: true,
  arrows: false,
  compass: true,
  beam: true,
  valueContours: false,
  valueSheet: false,
  occupancy: false,
  points: true,
  labels: true,
  route: true,
  swipe: null,
  swipeAt: 0.5,
  beside: null,
  lead: null,
  budget: 2,
};

/** How far one action moves the state (contract, section 3). */
export const STEP = 0.3;

export interface Place {
  x: number;
  y: number;
}

export type Phase = 'start' | 'move' | 'end';

export interface Drag extends Place {
  /** 'pin', 'stroke' (a tool is active) or the id of a handle. */
  what: string;
  phase: Phase;
}

export interface Handle extends Place {
  id: string;
  label: string;
  kind: 'bump' | 'route';
}

export type Tool = 'move' | 'paint' | 'route';

export interface Camera {
  azimuth: number;
  elevation: number;
  distance: number;
  target: [number, number];
  top: boolean;
}

export interface Stats {
  drawCalls: number;
  triangles: number;
  contextLost: boolean;
  /** Milliseconds of the last drawn frame. */
  milliseconds: number;
  frames: number;
}

export interface LandscapeView {
  readonly kind: '3d' | '2d';
  readonly element: HTMLElement;
  setTerrain(terrain: Terrain): void;
  setFrame(frame: Frame): void;
  setPin(pin: Pin | null): void;
  setOverlays(overlays: Partial<Overlays>): void;
  setHandles(handles: Handle[]): void;
  setTool(tool: Tool): void;
  setTheme(theme: 'light' | 'dark'): void;
  setCamera(camera: Partial<Camera>): void;
  camera(): Camera;
  highlight(element: Element | null): void;
  onPick(listener: (place: Place) => void): void;
  onDrag(listener: (drag: Drag) => void): void;
  onHover(listener: (place: Place | null) => void): void;
  onCamera(listener: (camera: Camera) => void): void;
  onLost(listener: () => void): void;
  /** State under a point of the picture (CSS pixels), or null beside the terrain. */
  pick(x: number, y: number): Place | null;
  /** Picture coordinates (CSS pixels) of a state on the ground. */
  project(x: number, y: number): Place;
  height(x: number, y: number): number;
  exportSvg(): string;
  exportPng(): Promise<Blob>;
  stats(): Stats;
  dispose(): void;
}

export function emptyFrame(): Frame {
  return {
    points: null,
    paths: null,
    referencePaths: null,
    corridor: null,
    contours: null,
    value: null,
    beams: null,
    arrows: null,
    referenceArrows: null,
    occupancy: null,
    route: null,
    airborne: false,
  };
}
