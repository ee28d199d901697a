// The world's view state in the address: what differs from the defaults, so that a link reproduces the picture.
import { DEFAULT_OVERLAYS, type Camera, type Overlays } from '../scene/view';
import type { Settings } from './client';

export const SETTING_NAMES = [
  'algorithm',
  'beta',
  'clip',
  'epochs',
  'paths',
  'group',
  'lam',
  'baseline',
  'entropy',
  'layer',
  'learning_rate',
  'budget',
  'seed',
] as const;

const FLAGS: (keyof Overlays)[] = [
  'contours',
  'paths',
  'referencePaths',
  'corridor',
  'arrows',
  'compass',
  'beam',
  'valueContours',
  'valueSheet',
  'occupancy',
  'labels',
  'route',
];

type Changes = Record<string, string | number | boolean | null>;

const short = (value: number): string => String(Math.round(value * 1000) / 1000);

/** Settings named in the address; numbers become numbers. */
export function settingsFrom(query: URLSearchParams): Settings {
  const out: Settings = {};
  for (const name of SETTING_NAMES) {
    const value = query.get(name);
    if (value === null) continue;
    out[name] = value !== '' && Number.isFinite(Number(value)) ? Number(value) : value;
  }
  return out;
}

export function overlaysFrom(query: URLSearchParams): Overlays {
  const out: Overlays = { ...DEFAULT_OVERLAYS, lead: 0 };
  const set = out as unknown as Record<string, unknown>;
  const shown = (query.get('show') ?? '').split(',').filter(Boolean);
  for (const each of shown) {
    const off = each.startsWith('-');
    const name = off ? each.slice(1) : each;
    if (FLAGS.includes(name as keyof Overlays)) set[name] = !off;
  }
  const reach = Number(query.get('reach') ?? NaN);
  if (reach > 0) out.budget = Math.min(20, reach);
  const swipe = query.get('swipe');
  if (swipe) out.swipe = swipe;
  out.beside = query.get('beside');
  return out;
}

export function overlayChanges(overlays: Overlays): Changes {
  const show = FLAGS.filter((name) => overlays[name] !== DEFAULT_OVERLAYS[name]).map((name) => (overlays[name] ? name : `-${name}`));
  return {
    show: show.join(',') || null,
    reach: overlays.budget === DEFAULT_OVERLAYS.budget ? null : short(overlays.budget),
    swipe: overlays.swipe,
    beside: overlays.beside,
  };
}

/** "azimuth,elevation,distance,x,y" with a trailing ",top" for the view from above. */
export function cameraText(camera: Camera): string {
  const parts = [camera.azimuth, camera.elevation, camera.distance, ...camera.target].map(short);
  return parts.join(',') + (camera.top ? ',top' : '');
}

export function cameraFrom(text: string | null): Partial<Camera> | null {
  if (!text) return null;
  const parts = text.split(',');
  const [azimuth, elevation, distance, x, y] = parts.map(Number);
  if (![azimuth, elevation, distance, x, y].every(Number.isFinite)) return null;
  return { azimuth, elevation, distance, target: [x, y], top: parts[5] === 'top' };
}

export function pinFrom(text: string | null): { x: number; y: number } | null {
  const [x, y] = (text ?? '').split(',').map(Number);
  if (!text || !Number.isFinite(x) || !Number.isFinite(y)) return null;
  const inside = (value: number): number => Math.min(3, Math.max(-3, value));
  return { x: inside(x), y: inside(y) };
}
