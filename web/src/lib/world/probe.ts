// What browser tests read of a picture: numbers, through window.__studio.
import { halfWidth } from '../scene/corridor';
import type { Landscape3D } from '../scene/landscape3d';
import type { Landscape2D } from '../map2d/landscape2d';
import type { LandscapeView } from '../scene/view';
import { probe } from '../testing';

/** Puts the view of the moment behind window.__studio; `frame` tells which frame is shown. */
export function expose(view: () => LandscapeView | null, frame: () => number): void {
  const model = (): Landscape3D['model'] | null => (view() as Landscape3D | Landscape2D | null)?.model ?? null;
  const getters: Record<string, () => unknown> = {
    frame,
    view: () => view()?.kind ?? null,
    camera: () => view()?.camera() ?? null,
    pin: () => (model()?.pin ? { x: model()!.pin!.x, y: model()!.pin!.y } : null),
    value: () => model()?.pinValue() ?? null,
    labels: () => (view() as Landscape3D | null)?.labels().map(({ text, box }) => ({ text, left: box.left, top: box.top, width: box.width, height: box.height })) ?? [],
    corridorHalfWidth: () => {
      const now = model();
      const tube = now?.frame.corridor;
      return now && tube ? Array.from({ length: tube.mean.length / 2 }, (_, t) => halfWidth(tube, t, now.overlays.budget)) : [];
    },
  };
  for (const [name, get] of Object.entries(getters)) Object.defineProperty(probe, name, { get, configurable: true, enumerable: true });
  Object.assign(probe, {
    pick: (x: number, y: number) => view()?.pick(x, y) ?? null,
    project: (x: number, y: number) => view()?.project(x, y) ?? null,
    height: (x: number, y: number) => view()?.height(x, y) ?? null,
    canvasHash: () => canvasHash(view()?.element.querySelector('canvas') ?? null),
  });
  for (const name of ['drawCalls', 'triangles', 'contextLost', 'milliseconds', 'frames'] as const) {
    Object.defineProperty(probe.stats, name, { get: () => view()?.stats()[name], configurable: true, enumerable: true });
  }
}

/** FNV-1a of the picture's data address; null without a canvas. */
function canvasHash(canvas: HTMLCanvasElement | null): number | null {
  if (!canvas) return null;
  let hash = 0x811c9dc5;
  for (const letter of canvas.toDataURL()) hash = Math.imul(hash ^ letter.charCodeAt(0), 0x01000193) >>> 0;
  return hash;
}
