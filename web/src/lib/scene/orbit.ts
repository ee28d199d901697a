// The camera: an orbit round the model with a long lens, or straight from above without perspective.
import * as THREE from 'three';
import { HOME } from './orbit-home';
import type { Camera } from './view';

export { HOME };

const FIELD_OF_VIEW = 26;
const RADIANS = Math.PI / 180;

/** Distance at which a model of half-width 3 fills a picture of this aspect. */
export function fitDistance(aspect: number, fov = FIELD_OF_VIEW): number {
  const half = Math.tan((fov / 2) * RADIANS);
  return Math.max(3.85 / half, 4.75 / (half * aspect));
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
  private readonly perspective = new THREE.PerspectiveCamera(FIELD_OF_VIEW, 1, 0.5, 60);
  private readonly flat = new THREE.OrthographicCamera(-3, 3, 3, -3, 0.1, 60);
  private aspect = 1;
  private middle = 0;

  constructor() {
    this.perspective.up.set(0, 0, 1);
    this.flat.up.set(0, 1, 0);
  }

  get camera(): THREE.Camera {
    return this.state.top ? this.flat : this.perspective;
  }

  resize(width: number, height: number): void {
    this.aspect = width / Math.max(1, height);
    this.apply();
  }

  /** Altitude round which the camera turns. */
  setMiddle(z: number): void {
    this.middle = z;
    this.apply();
  }

  set(change: Partial<Camera>): void {
    this.state = limit({ ...this.state, ...change });
    this.apply();
  }

  apply(): void {
    const { azimuth, elevation, distance, target } = this.state;
    if (this.state.top) {
      const half = 3.35 * distance;
      const wide = this.aspect >= 1;
      this.flat.left = -half * (wide ? this.aspect : 1);
      this.flat.right = -this.flat.left;
      this.flat.top = half / (wide ? 1 : this.aspect);
      this.flat.bottom = -this.flat.top;
      this.flat.position.set(target[0], target[1], 20);
      this.flat.lookAt(target[0], target[1], 0);
      this.flat.updateProjectionMatrix();
      this.flat.updateMatrixWorld();
      return;
    }
    const r = fitDistance(this.aspect) * distance;
    const a = azimuth * RADIANS;
    const e = elevation * RADIANS;
    this.perspective.aspect = this.aspect;
    this.perspective.position.set(
      target[0] + r * Math.cos(e) * Math.sin(a),
      target[1] - r * Math.cos(e) * Math.cos(a),
      this.middle + r * Math.sin(e),
    );
    this.perspective.lookAt(target[0], target[1], this.middle);
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
    const unit = (7 * this.state.distance) / Math.max(height, 500);
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
