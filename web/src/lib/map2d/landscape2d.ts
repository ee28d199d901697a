// The 2-D view: a printed relief map. Canonical: it needs no WebGL, prints, exports, and speaks to screen readers.
import { Model } from '../scene/model';
import { Overlay, type Projection } from '../scene/overlay';
import type { Room } from '../scene/orbit';
import type { Camera, Drag, Element, Frame, Handle, LandscapeView, Overlays, Pin, Place, Stats, Terrain, Tool } from '../scene/view';
import { reliefCanvas } from './relief';
import {
  besideLabels,
  contourMarkup,
  frameMarkup,
  fromSheet,
  GROUPS,
  linesMarkup,
  mapLabels,
  mapSvg,
  paintedMarkup,
  pathsMarkup,
  pinMarkup,
  pointsMarkup,
  toSheet,
  type Group,
  type Sheet,
} from './svg';

const MARGIN = 54;
const SVG = 'http://www.w3.org/2000/svg';

export class Landscape2D implements LandscapeView, Projection {
  readonly kind = '2d' as const;
  readonly element: HTMLElement;
  readonly model = new Model();
  private readonly canvas = document.createElement('canvas');
  private readonly svg = document.createElementNS(SVG, 'svg');
  private readonly groups = new Map<Group, SVGGElement>();
  private readonly clips: SVGRectElement[] = [];
  /** The map beside, moved by half of the picture. */
  private readonly second = document.createElementNS(SVG, 'g');
  private readonly overlay: Overlay;
  private readonly observer: ResizeObserver;
  private readonly dirty = new Set<Group | 'relief'>(['relief', ...GROUPS]);
  private readonly cameraListeners: ((camera: Camera) => void)[] = [];
  private state: Camera = { azimuth: 0, elevation: 90, distance: 1, target: [0, 0], top: true };
  private width = 1;
  private tall = 1;
  private scheduled = 0;
  private milliseconds = 0;
  private drawn = 0;
  private pictures: HTMLCanvasElement[] = [];

  constructor(
    host: HTMLElement,
    private readonly options: { still: boolean; theme: 'light' | 'dark'; room?: (width: number) => Room },
  ) {
    this.element = document.createElement('div');
    this.element.className = 'rl-view rl-map';
    host.append(this.element);
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute('role', 'img');
    this.svg.setAttribute('aria-hidden', 'true');
    this.svg.setAttribute('class', 'rl-svg');
    this.element.append(this.canvas, this.svg);
    this.buildGroups();
    this.overlay = new Overlay(this.element, this.canvas, this);
    this.model.theme = options.theme;
    this.listen();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.element);
    this.resize();
  }

  private buildGroups(): void {
    const unique = `rl${Math.random().toString(36).slice(2, 8)}`;
    const definitions = document.createElementNS(SVG, 'defs');
    for (const side of ['a', 'b', 's', 'v']) {
      const clip = document.createElementNS(SVG, 'clipPath');
      clip.id = `${unique}${side}`;
      const rect = document.createElementNS(SVG, 'rect');
      clip.append(rect);
      definitions.append(clip);
      this.clips.push(rect);
    }
    this.svg.append(definitions);
    const clipped = (side: string): SVGGElement => {
      const group = document.createElementNS(SVG, 'g');
      group.setAttribute('clip-path', `url(#${unique}${side})`);
      return group;
    };
    const [sheet, over] = [clipped('s'), clipped('v')];
    const [sheetBeside, overBeside] = [clipped('s'), clipped('v')];
    this.svg.append(sheet, over, this.second);
    this.second.append(sheetBeside, overBeside);
    for (const name of GROUPS) {
      const group = name === 'contours' ? clipped('a') : name === 'second' ? clipped('b') : document.createElementNS(SVG, 'g');
      group.id = `${unique}-${name}`;
      this.groups.set(name, group);
      const above = name === 'frame' || name === 'pin';
      if (name === 'beside') sheetBeside.append(group);
      else (above ? over : sheet).append(group);
      if (['contours', 'second', 'beside'].includes(name)) continue;
      // The map beside shows the same strokes and the same pin: they are drawn once and used twice.
      const copy = document.createElementNS(SVG, 'use');
      copy.setAttribute('href', `#${group.id}`);
      (above ? overBeside : sheetBeside).append(copy);
    }
  }

  /** The part of the picture that one map fills: half of it when a second map stands beside or below. */
  private room(): { wide: number; tall: number; shift: [number, number] } {
    const { width, tall } = this;
    if (!this.beside()) return { wide: width, tall, shift: [0, 0] };
    return width >= tall ? { wide: width / 2, tall, shift: [width / 2, 0] } : { wide: width, tall: tall / 2, shift: [0, tall / 2] };
  }

  private sheet(): Sheet {
    const { x, y } = this.model.ground;
    const room = this.room();
    const above = Math.max(MARGIN - 8, this.options.room?.(this.width).top ?? 0);
    const free = Math.min((room.wide - 2 * MARGIN) / (x[1] - x[0]), (room.tall - above - MARGIN) / (y[1] - y[0]));
    const unit = Math.max(4, free) / this.state.distance;
    const [cx, cy] = this.state.target;
    const middle: Place = { x: (x[0] + x[1]) / 2 + cx, y: (y[0] + y[1]) / 2 + cy };
    return {
      left: room.wide / 2 - (middle.x - x[0]) * unit,
      top: (room.tall + above - MARGIN) / 2 - (y[1] - middle.y) * unit,
      unit,
      x,
      y,
    };
  }

  setTerrain(terrain: Terrain): void {
    this.model.setTerrain(terrain);
    this.touch('relief', ...GROUPS);
  }

  setFrame(frame: Frame): void {
    this.model.setFrame(frame);
    this.touch('painted', 'lines', 'paths', 'points', 'pin');
    if (this.model.overlays.occupancy) this.touch('relief');
  }

  setPin(pin: Pin | null): void {
    this.model.pin = pin;
    this.touch('pin');
  }

  setOverlays(overlays: Partial<Overlays>): void {
    const before = this.model.overlays;
    this.model.setOverlays(overlays);
    const after = this.model.overlays;
    this.overlay.setSwipe(after.swipe && !after.beside ? after.swipeAt : null);
    if (before.occupancy !== after.occupancy || before.swipe !== after.swipe || before.beside !== after.beside) this.touch('relief');
    this.touch(...GROUPS);
  }

  setHandles(handles: Handle[]): void {
    this.overlay.setHandles(handles);
    this.touch();
  }

  setTool(tool: Tool): void {
    this.overlay.setTool(tool);
  }

  setTheme(theme: 'light' | 'dark'): void {
    this.model.theme = theme;
    this.touch('relief', ...GROUPS);
  }

  setCamera(camera: Partial<Camera>): void {
    const wanted = { ...this.state, ...camera };
    const { x } = this.model.ground;
    const half = (x[1] - x[0]) / 2;
    const inside = (value: number): number => Math.min(half, Math.max(-half, value));
    this.state = {
      ...wanted,
      top: true,
      distance: Math.min(1.6, Math.max(0.15, wanted.distance)),
      target: [inside(wanted.target[0]), inside(wanted.target[1])],
    };
    this.touch(...GROUPS);
  }

  camera(): Camera {
    return { ...this.state };
  }

  highlight(element: Element | null): void {
    this.model.element = element;
    this.touch('relief', ...GROUPS);
  }

  onPick(listener: (place: Place) => void): void {
    this.overlay.onPick(listener);
  }

  onDrag(listener: (drag: Drag) => void): void {
    this.overlay.onDrag(listener);
  }

  onHover(listener: (place: Place | null) => void): void {
    this.overlay.onHover(listener);
  }

  onCamera(listener: (camera: Camera) => void): void {
    this.cameraListeners.push(listener);
  }

  /** A canvas cannot be lost. */
  onLost(): void {}

  private moved(camera: Partial<Camera>): void {
    this.setCamera(camera);
    for (const listener of this.cameraListeners) listener(this.camera());
  }

  private listen(): void {
    const { canvas } = this;
    let grip: Place | null = null;
    canvas.addEventListener('pointerdown', (event) => {
      grip = { x: event.clientX, y: event.clientY };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener('pointerup', () => (grip = null));
    canvas.addEventListener('pointermove', (event) => {
      if (!grip || !event.buttons) return;
      this.pan(event.clientX - grip.x, event.clientY - grip.y);
      grip = { x: event.clientX, y: event.clientY };
    });
    canvas.addEventListener(
      'wheel',
      (event) => {
        event.preventDefault();
        this.moved({ distance: this.state.distance * Math.exp(event.deltaY * 0.0011) });
      },
      { passive: false },
    );
    canvas.addEventListener('keydown', (event) => {
      const steps: Record<string, [number, number]> = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (steps[event.key]) this.pan(...steps[event.key]);
      else if (event.key === '+' || event.key === '=') this.moved({ distance: this.state.distance * 0.88 });
      else if (event.key === '-') this.moved({ distance: this.state.distance / 0.88 });
      else if (event.key === 'Home' || event.key === '0') this.moved({ distance: 1, target: [0, 0] });
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  private pan(dx: number, dy: number): void {
    const { unit } = this.sheet();
    const [cx, cy] = this.state.target;
    this.moved({ target: [cx - dx / unit, cy + dy / unit] });
  }

  private touch(...parts: (Group | 'relief')[]): void {
    for (const part of parts) this.dirty.add(part);
    if (!this.scheduled) this.scheduled = requestAnimationFrame(() => this.draw());
  }

  private resize(): void {
    this.width = Math.max(1, this.element.clientWidth);
    this.tall = Math.max(1, this.element.clientHeight);
    const ratio = this.options.still ? 1 : Math.min(2, devicePixelRatio || 1);
    this.canvas.width = this.width * ratio;
    this.canvas.height = this.tall * ratio;
    this.canvas.style.width = `${this.width}px`;
    this.canvas.style.height = `${this.tall}px`;
    this.svg.setAttribute('width', String(this.width));
    this.svg.setAttribute('height', String(this.tall));
    this.touch(...GROUPS);
  }

  private beside(): string | null {
    return this.model.overlays.beside ? this.model.other() : null;
  }

  private draw(): void {
    this.scheduled = 0;
    const began = performance.now();
    const sheet = this.sheet();
    const { model } = this;
    const beside = this.beside();
    const { shift } = this.room();
    if (this.dirty.has('relief')) {
      const names = [model.terrain.active, model.other()].filter((name) => name !== null);
      this.pictures = names.map((name) => reliefCanvas(model, name, model.ground.n < 60 ? 193 : 385));
    }
    this.paintRelief(sheet);
    const builders: Record<Group, () => string> = {
      contours: () => contourMarkup(model, sheet, model.terrain.active),
      second: () => (model.other() && !beside ? contourMarkup(model, sheet, model.other()!) : ''),
      beside: () => (beside ? contourMarkup(model, sheet, beside) : ''),
      painted: () => paintedMarkup(model, sheet),
      lines: () => linesMarkup(model, sheet),
      paths: () => pathsMarkup(model, sheet),
      points: () => pointsMarkup(model, sheet),
      pin: () => pinMarkup(model, sheet),
      frame: () => frameMarkup(model, sheet),
    };
    for (const name of GROUPS) if (this.dirty.has(name)) this.groups.get(name)!.innerHTML = builders[name]();
    this.dirty.clear();
    this.overlay.setPin(model.pin ? { x: model.pin.x, y: model.pin.y, lift: 0 } : null);
    this.second.style.display = beside ? '' : 'none';
    this.second.setAttribute('transform', `translate(${shift.map((each) => each.toFixed(1)).join(' ')})`);
    const more = beside ? besideLabels(model, sheet, beside, shift) : [];
    this.overlay.setLabels([...model.groundLabels(true), ...mapLabels(model, sheet), ...more]);
    this.overlay.setKey(model.key());
    this.overlay.update(this.width, this.tall);
    this.canvas.setAttribute('aria-label', model.summary());
    this.milliseconds = performance.now() - began;
    this.drawn++;
  }

  private paintRelief(sheet: Sheet): void {
    const context = this.canvas.getContext('2d')!;
    const ratio = this.canvas.width / this.width;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.tall);
    const wide = (sheet.x[1] - sheet.x[0]) * sheet.unit;
    const high = (sheet.y[1] - sheet.y[0]) * sheet.unit;
    const beside = this.beside();
    const room = this.room();
    const swiped = this.model.other() && !beside;
    const split = swiped ? this.model.overlays.swipeAt * this.width : this.width;
    const parts = beside
      ? [[0, 0, room.wide, room.tall], [...room.shift, room.wide, room.tall]]
      : [[0, 0, split, this.tall], [split, 0, this.width - split, this.tall]];
    context.imageSmoothingQuality = 'high';
    this.pictures.forEach((picture, i) => {
      const [left, top, across, down] = parts[i];
      const [dx, dy] = beside && i ? room.shift : [0, 0];
      context.save();
      context.beginPath();
      context.rect(left, top, across, down);
      context.clip();
      context.drawImage(picture, sheet.left + dx, sheet.top + dy, wide, high);
      context.restore();
    });
    this.clip(0, 0, 0, split, this.tall);
    this.clip(1, split, 0, this.width - split, this.tall);
    const [x0, y0] = [Math.max(0, sheet.left), Math.max(0, sheet.top)];
    this.clip(2, x0, y0, Math.min(room.wide, sheet.left + wide) - x0, Math.min(room.tall, sheet.top + high) - y0);
    this.clip(3, 0, 0, room.wide, room.tall);
  }

  private clip(i: number, x: number, y: number, width: number, height: number): void {
    for (const [name, value] of Object.entries({ x, y, width: Math.max(0, width), height: Math.max(0, height) })) this.clips[i].setAttribute(name, value.toFixed(1));
  }

  projectLifted(x: number, y: number, lift: number, absolute = false): Place & { hidden: boolean } {
    const sheet = this.sheet();
    const [px, py] = toSheet(sheet, x, y);
    return { x: px, y: py - (absolute ? 0 : lift * sheet.unit), hidden: false };
  }

  project(x: number, y: number): Place {
    const [px, py] = toSheet(this.sheet(), x, y);
    return { x: px, y: py };
  }

  pick(px: number, py: number): Place | null {
    const { wide, tall, shift } = this.room();
    const [dx, dy] = px > wide || py > tall ? shift : [0, 0];
    return fromSheet(this.sheet(), px - dx, py - dy);
  }

  height(x: number, y: number): number {
    return this.model.height(x, y);
  }

  probeText(place: Place): string {
    return this.model.probeText(place);
  }

  pinText(): string {
    return this.model.pinText();
  }

  exportSvg(): string {
    return mapSvg(this.model, 900);
  }

  /** The map as the browser draws its own SVG export. */
  async exportPng(): Promise<Blob> {
    const image = new Image();
    const address = URL.createObjectURL(new Blob([this.exportSvg()], { type: 'image/svg+xml' }));
    try {
      image.src = address;
      await image.decode();
      const canvas = document.createElement('canvas');
      [canvas.width, canvas.height] = [image.width * 2, image.height * 2];
      canvas.getContext('2d')!.drawImage(image, 0, 0, canvas.width, canvas.height);
      return await new Promise((resolve, reject) => {
        canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error('The browser could not encode the map.'))), 'image/png');
      });
    } finally {
      URL.revokeObjectURL(address);
    }
  }

  stats(): Stats {
    return { drawCalls: 0, triangles: 0, contextLost: false, milliseconds: this.milliseconds, frames: this.drawn };
  }

  /** Labels on the screen with their boxes, for tests. */
  labels(): { text: string; box: DOMRect }[] {
    return this.overlay.shown();
  }

  dispose(): void {
    cancelAnimationFrame(this.scheduled);
    this.observer.disconnect();
    this.overlay.dispose();
    this.element.remove();
  }
}
