// The view that this machine can show: 3-D where WebGL2 works, otherwise the 2-D map.
import { Landscape2D } from '../map2d/landscape2d';
import type { Room } from './orbit';
import type { LandscapeView } from './view';

export type Kind = '3d' | '2d';

export function webgl2(): boolean {
  try {
    const context = document.createElement('canvas').getContext('webgl2');
    context?.getExtension('WEBGL_lose_context')?.loseContext();
    return context !== null;
  } catch {
    return false;
  }
}

/** three.js is fetched only when a 3-D view is made. */
export async function createView(host: HTMLElement, kind: Kind, options: { still: boolean; theme: 'light' | 'dark'; room?: (width: number) => Room }): Promise<LandscapeView> {
  if (kind === '3d' && webgl2()) {
    const { Landscape3D } = await import('./landscape3d');
    try {
      return new Landscape3D(host, options);
    } catch {
      host.querySelectorAll('.rl-view').forEach((node) => node.remove());
    }
  }
  return new Landscape2D(host, options);
}
