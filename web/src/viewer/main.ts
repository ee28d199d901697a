// A recorded landscape as one page that needs no server: the record is embedded, the picture is the studio's.
import '@fontsource-variable/inter/wght.css';
import '../styles/tokens.css';
import './viewer.css';
import { decode } from '../lib/blocks';
import { recordedFrame, recordedTerrain, type Manifest } from '../lib/scene/adapt';
import { createView, type Kind } from '../lib/scene/create';
import { valueText } from '../lib/scene/shapes';
import { DEFAULT_OVERLAYS, type Frame, type LandscapeView, type Overlays, type Terrain } from '../lib/scene/view';

interface Record_ {
  manifest: Manifest;
  terrain: string;
  frames: string[];
  /** What the page opens with. */
  show?: { frame?: number; theme?: string };
}

const still = new URLSearchParams(location.search).get('still') === '1';
const find = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;

function bytes(base64: string): ArrayBuffer {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer;
}

class Viewer {
  private view: LandscapeView | null = null;
  private kind: Kind = '3d';
  private index = 0;
  private timer = 0;
  private overlays: Overlays = { ...DEFAULT_OVERLAYS, lead: 0 };
  private readonly terrain: Terrain;
  private readonly frames = new Map<number, Frame>();

  constructor(private readonly record: Record_) {
    this.terrain = recordedTerrain(decode(bytes(record.terrain)), record.manifest);
    this.index = Math.min(record.frames.length - 1, Math.max(0, record.show?.frame ?? 0));
    this.words();
    this.controls();
  }

  private words(): void {
    const { manifest } = this.record;
    document.title = manifest.title;
    find('title').textContent = manifest.title;
    for (const warning of manifest.warnings) {
      const item = document.createElement('li');
      item.textContent = warning;
      find('warnings').append(item);
    }
    const swipe = Object.keys(this.terrain.layers).find((name) => name !== this.terrain.active);
    if (swipe) {
      this.toggle(`Swipe ${swipe}`, (on) => ({ swipe: on ? swipe : null }), false);
      this.toggle(`Map of ${swipe} beside`, (on) => ({ beside: on ? swipe : null }), false);
    }
    this.toggle('Corridor', (on) => ({ corridor: on }), true);
    this.toggle('Paths', (on) => ({ paths: on }), true);
    if (manifest.value.kind) this.toggle('V contours', (on) => ({ valueContours: on }), false);
    if (manifest.value.kind === 'exact') this.toggle('V sheet', (on) => ({ valueSheet: on }), false);
    if (manifest.kind === 'exact') this.toggle('Policy arrows', (on) => ({ arrows: on }), false);
  }

  private toggle(name: string, change: (on: boolean) => Partial<Overlays>, on: boolean): void {
    const label = document.createElement('label');
    const box = document.createElement('input');
    box.type = 'checkbox';
    box.checked = on;
    box.addEventListener('change', () => this.setOverlays(change(box.checked)));
    label.append(box, name);
    find('toggles').append(label);
  }

  private setOverlays(change: Partial<Overlays>): void {
    this.overlays = { ...this.overlays, ...change };
    // Two maps stand beside each other only in the printed map.
    if (change.beside && this.kind === '3d') void this.open('2d');
    else this.view?.setOverlays(this.overlays);
  }

  private controls(): void {
    const slider = find<HTMLInputElement>('step');
    slider.max = String(Math.max(0, this.record.frames.length - 1));
    slider.addEventListener('input', () => this.show(slider.valueAsNumber));
    find('play').addEventListener('click', () => this.playOrPause());
    find('theme').addEventListener('click', () => {
      const next = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
      document.documentElement.dataset.theme = next;
      this.view?.setTheme(next);
    });
    for (const kind of ['3d', '2d'] as const) find(`view-${kind}`).addEventListener('click', () => void this.open(kind));
    if (this.record.frames.length < 2) find('transport').hidden = true;
    document.addEventListener('keydown', (event) => {
      if (event.target !== document.body || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === ' ') this.playOrPause();
      else if (event.key === 'ArrowRight') this.show(Math.min(this.record.frames.length - 1, this.index + 1));
      else if (event.key === 'ArrowLeft') this.show(Math.max(0, this.index - 1));
      else return;
      event.preventDefault();
    });
  }

  async open(kind: Kind): Promise<void> {
    this.view?.dispose();
    const theme = document.documentElement.dataset.theme === 'dark' ? 'dark' : 'light';
    const view = await createView(find('stage'), kind, { still, theme });
    this.view = view;
    this.kind = view.kind;
    find('view-3d').setAttribute('aria-pressed', String(this.kind === '3d'));
    find('view-2d').setAttribute('aria-pressed', String(this.kind === '2d'));
    view.onLost(() => void this.open('2d'));
    view.onDrag((drag) => {
      if (drag.what === 'swipe') this.setOverlays({ swipeAt: drag.x });
      else if (drag.what === 'pin') this.view?.setPin({ x: drag.x, y: drag.y });
    });
    view.onPick((place) => this.view?.setPin({ ...place }));
    view.setTerrain(this.terrain);
    view.setOverlays(this.overlays);
    this.show(this.index);
    const pin = this.record.manifest.details?.pin ?? this.record.manifest.details?.start;
    if (pin) view.setPin({ x: pin[0], y: pin[1] });
    const probe = { ready: true, pick: view.pick.bind(view), height: view.height.bind(view), stats: view.stats(), frame: this.index };
    Object.defineProperty(probe, 'frame', { get: () => this.index });
    Object.defineProperty(probe, 'stats', { get: () => view.stats() });
    Object.assign(window, { __studio: probe });
  }

  private show(index: number): void {
    this.index = index;
    const coded = this.record.frames[index];
    if (coded === undefined) return;
    let frame = this.frames.get(index);
    if (!frame) this.frames.set(index, (frame = recordedFrame(decode(bytes(coded)), this.record.manifest)));
    this.view?.setFrame(frame);
    find<HTMLInputElement>('step').value = String(index);
    const told = this.record.manifest.frames[index];
    find('at').textContent = `step ${told?.step ?? index}`;
    find('honesty').textContent = told?.honesty ?? '';
    find('scalars').textContent = Object.entries(told?.scalars ?? {})
      .filter(([, value]) => value !== null)
      .slice(0, 5)
      .map(([name, value]) => `${name === 'kl' ? 'KL' : name.replaceAll('_', ' ')} ${valueText(value)}`)
      .join('   ');
  }

  private playOrPause(): void {
    const playing = this.timer !== 0;
    find('play').textContent = playing ? 'Play' : 'Pause';
    clearInterval(this.timer);
    this.timer = playing ? 0 : window.setInterval(() => this.show((this.index + 1) % this.record.frames.length), 350);
  }
}

function openWith(record: Record_): void {
  const asked = new URLSearchParams(location.search).get('theme');
  const named = (name: string | null | undefined): string | null => (name === 'dark' || name === 'light' ? name : null);
  const system = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  document.documentElement.dataset.theme = named(asked) ?? named(record.show?.theme) ?? system;
}

if (matchMedia('(prefers-color-scheme: dark)').matches) document.documentElement.dataset.theme = 'dark';
try {
  const record = JSON.parse(find('ridgeline-record').textContent || 'null') as Record_ | null;
  if (!record) throw new Error('This page holds no recorded landscape; "ridgeline landscape picture RUN --out hill.html" writes one.');
  openWith(record);
  void new Viewer(record).open(new URLSearchParams(location.search).get('view') === '2d' ? '2d' : '3d');
} catch (error) {
  find('honesty').textContent = (error as Error).message;
}
