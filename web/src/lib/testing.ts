// window.__studio: what browser tests wait for and read. Numbers rather than pixels.

export interface StudioProbe {
  /** True once the page shows what its address asks for; false from the moment a new page is opened. */
  ready: boolean;
  page: string;
  /** Numbers and short texts that the open page offers. */
  stats: Record<string, unknown>;
  /** Pages add functions of their own here (the scene: frame, camera, pick). */
  [extra: string]: unknown;
}

export const probe: StudioProbe = { ready: false, page: '', stats: {} };
window.__studio = probe;

/** A page begins: forget what the last one told. */
export function begin(page: string): void {
  for (const name of Object.keys(probe)) if (!['ready', 'page', 'stats'].includes(name)) delete probe[name];
  probe.ready = false;
  probe.page = page;
  probe.stats = {};
}

/** A page shows its content (or says why it cannot). */
export function ready(stats: Record<string, unknown> = {}): void {
  Object.assign(probe.stats, stats);
  requestAnimationFrame(() => requestAnimationFrame(() => (probe.ready = true)));
}

/** `?still=1`: no animation, a device pixel ratio of one, draw on demand. */
export const still = new URLSearchParams(location.search).get('still') === '1';

/** True when nothing may move by itself: still mode, or the system asks for reduced motion. */
export function calm(): boolean {
  return still || matchMedia('(prefers-reduced-motion: reduce)').matches;
}

export function pixelRatio(limit = 2): number {
  return still ? 1 : Math.min(devicePixelRatio || 1, limit);
}
