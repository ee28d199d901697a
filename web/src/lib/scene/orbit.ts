// The camera: an orbit round the model with a long lens, or straight from above without perspective.
import * as THREE from 'three';
import { HOME } from './orbit-home';
import type { Camera } from './view';

export { HOME };

const FIELD_OF_VIEW = 26;
const RADIANS = Math.PI / 180;

/** Free room in pixels round the model at the start: left, right, top, bottom; the axes are written in it. */
const ROOM = { left: 34, right: 34, top: 26, bottom: 40 };

/** What stands over the picture and must not be covered: pixels at the top, and by how much the model leans to the right. */
export interface Room {
  lean: number;
  top: number;
}

export const FREE: Room = { lean: 0, top: 0 };

/** What the camera looks at: the ground's extent and the places that must stay in the picture. */
export interface Shape {
  x: [number, number];
  y: [number, number];
  /** x, y, z triples of the silhouette. */
  points: number[];
}

/** How far away the camera stands at distance one, round what altitude it turns, and how far its lens is shifted. */
export interface Fit {
  distance: number;
  middle: number;
  shift: [number, number];
}

/**
 * The nearest camera in the direction of HOME that has every point in a picture of this size, with room around.
 * The lean is taken as far as there is room for it.
 */
export function fitTo(shape: Shape, width: number, height: number, { lean, top }: Room = FREE, fov = FIELD_OF_VIEW): Fit {
  const [cx, cy] = [(shape.x[0] + shape.x[1]) / 2, (shape.y[0] + shape.y[1]) / 2];
  let [low, high] = [Infinity, -Infinity];
  for (let i = 2; i < shape.points.length; i += 3) [low, high] = [Math.min(low, shape.points[i]), Math.max(high, shape.points[i])];
  const middle = (low + high) / 2;
  const [a, e] = [HOME.azimuth * RADIANS, HOME.elevation * RADIANS];
  const right = [Math.cos(a), Math.sin(a), 0];
  const back = [Math.cos(e) * Math.sin(a), -Math.cos(e) * Math.cos(a), Math.sin(e)];
  const up = [-Math.sin(e) * Math.sin(a), Math.sin(e) * Math.cos(a), Math.cos(e)];
  const lens = height / 2 / Math.tan((fov / 2) * RADIANS);
  const seen = (distance: number): { left: number; right: number; top: number; bottom: number } => {
    const box = { left: Infinity, right: -Infinity, top: Infinity, bottom: -Infinity };
    for (let i = 0; i < shape.points.length; i += 3) {
      const p = [shape.points[i] - cx, shape.points[i + 1] - cy, shape.points[i + 2] - middle];
      const dot = (v: number[]): number => p[0] * v[0] + p[1] * v[1] + p[2] * v[2];
      const depth = Math.max(0.1, distance - dot(back));
      const [px, py] = [(lens * dot(right)) / depth, (-lens * dot(up)) / depth];
      box.left = Math.min(box.left, px);
      box.right = Math.max(box.right, px);
      box.top = Math.min(box.top, py);
      box.bottom = Math.max(box.bottom, py);
    }
    return box;
  };
  const free = Math.max(80, width - ROOM.left - ROOM.right);
  const wide = Math.max(0.8 * free, free - lean);
  const above = Math.max(ROOM.top, top);
  const tall = Math.max(80, height - above - ROOM.bottom);
  let [near, far] = [2, 400];
  for (let i = 0; i < 40; i++) {
    const distance = Math.sqrt(near * far);
    const box = seen(distance);
    if (box.right - box.left <= wide && box.bottom - box.top <= tall) far = distance;
    else near = distance;
  }
  const box = seen(far);
  const spare = Math.max(0, (free - (box.right - box.left)) / 2);
  return {
    distance: far,
    middle,
    shift: [(ROOM.left - ROOM.right - box.left - box.right) / 2 + Math.min(lean, spare), (above - ROOM.bottom - box.top - box.bottom) / 2],
  };
}

export function limit(camera: Camera): Camera {
  return {
    azimuth: ((((camera.azimuth + 180) % 360) + 360) % 360) - 180,
    elevation: Math.min(88, Math.max(8, camera.elevation)),
    distance: Math.min(2.2, Math.max(0.22, camera.distance)),
    target: [Math.min(3, Math.max(-3, camera.target[0])), Math.min(3, Math.max(-3, camera.target[1]))],
    top: camera.top,
  };
}

export class Orbit {
  state: Camera = { ...HOME, target: [0, 0] };
  private readonly perspective = new THREE.PerspectiveCamera(FIELD_OF_VIEW, 1, 0.5, 200);
  private readonly flat = new THREE.OrthographicCamera(-3, 3, 3, -3, 0.1, 200);
  private width = 1;
  private height = 1;
  private shape: Shape = { x: [-3, 3], y: [-3, 3], points: [-3, -3, -1, 3, -3, -1, 3, 3, -1, -3, 3, -1, 0, 0, 1] };
  private fit: Fit = fitTo(this.shape, 1, 1);

  constructor(private readonly room: (width: number) => Room = () => FREE) {
    this.perspective.up.set(0, 0, 1);
    this.flat.up.set(0, 1, 0);
  }

  get camera(): THREE.Camera {
    return this.state.top ? this.flat : this.perspective;
  }

  resize(width: number, height: number): void {
    this.width = Math.max(1, width);
    this.height = Math.max(1, height);
    this.refit();
  }

  /** Half the longer side of the ground, in units of three. */
  get size(): number {
    const { x, y } = this.shape;
    return Math.max(x[1] - x[0], y[1] - y[0]) / 6;
  }

  /** A new model; the camera stays where it is unless the fit is clearly another one, so that editing does not shake it. */
  setShape(shape: Shape): void {
    const before = this.fit;
    this.shape = shape;
    const now = fitTo(shape, this.width, this.height, this.room(this.width));
    const moved = Math.max(Math.abs(now.shift[0] - before.shift[0]), Math.abs(now.shift[1] - before.shift[1]));
    if (Math.abs(now.distance / before.distance - 1) > 0.05 || moved > 20) this.fit = now;
    this.apply();
  }

  refit(): void {
    this.fit = fitTo(this.shape, this.width, this.height, this.room(this.width));
    this.apply();
  }

  set(change: Partial<Camera>): void {
    this.state = limit({ ...this.state, ...change });
    this.apply();
  }

  apply(): void {
    const { azimuth, elevation, distance } = this.state;
    const { x, y } = this.shape;
    const aspect = this.width / this.height;
    const [cx, cy] = [(x[0] + x[1]) / 2 + this.state.target[0], (y[0] + y[1]) / 2 + this.state.target[1]];
    const { middle, shift } = this.fit;
    if (this.state.top) {
      const half = 3.45 * this.size * distance;
      this.flat.left = -half * Math.max(1, aspect);
      this.flat.right = -this.flat.left;
      this.flat.top = half / Math.min(1, aspect);
      this.flat.bottom = -this.flat.top;
      this.flat.position.set(cx, cy, 100);
      this.flat.lookAt(cx, cy, 0);
      this.flat.updateProjectionMatrix();
      this.flat.updateMatrixWorld();
      return;
    }
    const r = this.fit.distance * distance;
    const a = azimuth * RADIANS;
    const e = elevation * RADIANS;
    this.perspective.aspect = aspect;
    this.perspective.setViewOffset(this.width, this.height, -shift[0], -shift[1], this.width, this.height);
    this.perspective.position.set(cx + r * Math.cos(e) * Math.sin(a), cy - r * Math.cos(e) * Math.cos(a), middle + r * Math.sin(e));
    this.perspective.lookAt(cx, cy, middle);
    this.perspective.updateProjectionMatrix();
    this.perspective.updateMatrixWorld();
  }

  turn(dx: number, dy: number): void {
    if (this.state.top) return this.pan(dx, dy, 1);
    this.set({ azimuth: this.state.azimuth - dx * 0.32, elevation: this.state.elevation + dy * 0.24 });
  }

  zoom(factor: number): void {
    this.set({ distance: this.state.distance * factor });
  }

  /** Moves the target by screen pixels; `height` is that of the picture, or 1 for a small step. */
  pan(dx: number, dy: number, height: number): void {
    const unit = (7 * this.size * this.state.distance) / Math.max(height, 500);
    const a = this.state.top ? 0 : this.state.azimuth * RADIANS;
    const [right, forward] = [-dx * unit, dy * unit * (this.state.top ? 1 : 1 / Math.max(0.4, Math.sin(this.state.elevation * RADIANS)))];
    this.set({
      target: [
        this.state.target[0] + right * Math.cos(a) - forward * Math.sin(a),
        this.state.target[1] + right * Math.sin(a) + forward * Math.cos(a),
      ],
    });
  }
}

/** Mouse, touch and keyboard on the canvas. */
export function control(canvas: HTMLCanvasElement, orbit: Orbit, changed: () => void): void {
  const fingers = new Map<number, { x: number; y: number }>();
  let spread = 0;
  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    spread = 0;
  });
  const drop = (event: PointerEvent): void => {
    fingers.delete(event.pointerId);
    spread = 0;
  };
  canvas.addEventListener('pointerup', drop);
  canvas.addEventListener('pointercancel', drop);
  canvas.addEventListener('pointermove', (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const dx = event.clientX - before.x;
    const dy = event.clientY - before.y;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (fingers.size === 1) {
      if (event.shiftKey || event.buttons === 2 || event.buttons === 4) orbit.pan(dx, dy, canvas.clientHeight);
      else orbit.turn(dx, dy);
    } else if (fingers.size === 2) {
      const [a, b] = [...fingers.values()];
      const now = Math.hypot(a.x - b.x, a.y - b.y);
      if (spread) orbit.zoom(spread / Math.max(now, 1));
      spread = now;
      orbit.pan(dx / 2, dy / 2, canvas.clientHeight);
    }
    changed();
  });
  canvas.addEventListener('contextmenu', (event) => event.preventDefault());
  canvas.addEventListener(
    'wheel',
    (event) => {
      event.preventDefault();
      orbit.zoom(Math.exp(event.deltaY * 0.0011));
      changed();
    },
    { passive: false },
  );
  canvas.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !cameraKey(orbit, event.key, event.shiftKey)) return;
    event.preventDefault();
    event.stopPropagation();
    changed();
  });
}

/** Moves the camera by a key; false when the key means nothing here. */
export function cameraKey(orbit: Orbit, key: string, shift: boolean): boolean {
  const step: Record<string, [number, number]> = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const move = step[key];
  if (move && (shift || orbit.state.top)) orbit.pan(move[0] * 30, move[1] * 30, 500);
  else if (move) orbit.turn(move[0] * -24, move[1] * 20);
  else if (key === '+' || key === '=') orbit.zoom(0.88);
  else if (key === '-') orbit.zoom(1 / 0.88);
  else if (key === 'Home' || key === '0') orbit.set({ ...HOME });
  else return false;
  return true;
}
