// The layer of HTML over the picture, shared by both views: labels, the pin's and other handles, the height probe,
// and all pointer and keyboard work that moves things over the ground.
import { place, textWidth, type Anchor } from './labels';
import './view.css';
import type { Drag, Handle, Phase, Place, Tool } from './view';

export interface Label {
  text: string;
  x: number;
  y: number;
  /** Scene units above the ground at (x, y), or above zero when `absolute`. */
  lift: number;
  absolute?: boolean;
  tone: 'spot' | 'value' | 'axis' | 'mark' | 'mint' | 'ghost' | 'line';
  priority: number;
  gap: number;
}

/** The key of the ground's colours. */
export interface Key {
  name: string;
  low: string;
  high: string;
  lines: string;
  ramp: string[];
}

export interface Projection {
  pick(x: number, y: number): Place | null;
  projectLifted(x: number, y: number, lift: number, absolute?: boolean): Place & { hidden: boolean };
  probeText(place: Place): string;
  pinText(): string;
}

/** Room that labels leave to the key in the lower right corner. */
const KEY = { width: 172, height: 40 };

const NUDGE: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
};

export class Overlay {
  readonly layer: HTMLDivElement;
  private readonly labelLayer: HTMLDivElement;
  private readonly probe: HTMLDivElement;
  private readonly capture: HTMLDivElement;
  private readonly pinButton: HTMLButtonElement;
  private readonly divider: HTMLButtonElement;
  private readonly key: HTMLDivElement;
  private ramp: string[] = [];
  private swipeAt: number | null = null;
  private labels: Label[] = [];
  private nodes: HTMLSpanElement[] = [];
  private handles: Handle[] = [];
  private buttons = new Map<string, HTMLButtonElement>();
  private pin: (Place & { lift: number }) | null = null;
  private dragging: string | null = null;
  private tool: Tool = 'move';
  private pickListeners: ((place: Place) => void)[] = [];
  private dragListeners: ((drag: Drag) => void)[] = [];
  private hoverListeners: ((place: Place | null) => void)[] = [];

  constructor(
    private readonly host: HTMLElement,
    private readonly surface: HTMLElement,
    private readonly projection: Projection,
  ) {
    this.layer = element('div', 'rl-overlay');
    this.capture = element('div', 'rl-capture');
    this.labelLayer = element('div', 'rl-labels');
    this.labelLayer.setAttribute('aria-hidden', 'true');
    this.probe = element('div', 'rl-probe');
    this.probe.setAttribute('aria-hidden', 'true');
    this.pinButton = element('button', 'rl-handle rl-pin');
    this.pinButton.type = 'button';
    this.pinButton.hidden = true;
    this.divider = element('button', 'rl-divider');
    this.divider.type = 'button';
    this.divider.hidden = true;
    this.divider.setAttribute('aria-label', 'Divider between the two layers; arrow keys move it');
    this.key = element('div', 'rl-key');
    this.key.setAttribute('aria-hidden', 'true');
    this.key.append(...['name', 'low', 'ramp', 'high'].map((part) => element('span', `rl-key-${part}`)));
    this.layer.append(this.key, this.capture, this.labelLayer, this.divider, this.pinButton, this.probe);
    host.append(this.layer);
    this.listenSurface();
    this.listenHandle(this.pinButton, () => 'pin', () => this.pin);
    this.listenStrokes();
    this.listenDivider();
  }

  onPick(listener: (place: Place) => void): void {
    this.pickListeners.push(listener);
  }

  onDrag(listener: (drag: Drag) => void): void {
    this.dragListeners.push(listener);
  }

  onHover(listener: (place: Place | null) => void): void {
    this.hoverListeners.push(listener);
  }

  setTool(tool: Tool): void {
    this.tool = tool;
    this.capture.classList.toggle('active', tool !== 'move');
  }

  setPin(pin: (Place & { lift: number }) | null): void {
    this.pin = pin;
    this.pinButton.hidden = pin === null;
    if (pin) this.pinButton.setAttribute('aria-label', this.projection.pinText());
  }

  setLabels(labels: Label[]): void {
    this.labels = labels;
    while (this.nodes.length < labels.length) {
      const node = element('span', 'rl-label');
      this.nodes.push(node);
      this.labelLayer.append(node);
    }
    while (this.nodes.length > labels.length) this.nodes.pop()!.remove();
    labels.forEach((label, i) => {
      this.nodes[i].textContent = label.text;
      this.nodes[i].className = `rl-label rl-${label.tone}`;
    });
  }

  setKey(key: Key): void {
    this.ramp = key.ramp;
    const told = [key.lines ? `${key.name}, ${key.lines}` : key.name, key.low, '', key.high];
    [...this.key.children].forEach((node, i) => {
      if (node.textContent !== told[i]) node.textContent = told[i];
    });
    (this.key.children[2] as HTMLElement).style.background = `linear-gradient(90deg, ${key.ramp.join(', ')})`;
  }

  setHandles(handles: Handle[]): void {
    this.handles = handles;
    const wanted = new Set(handles.map((handle) => handle.id));
    for (const [id, button] of this.buttons) {
      if (wanted.has(id)) continue;
      button.remove();
      this.buttons.delete(id);
    }
    for (const handle of handles) {
      let button = this.buttons.get(handle.id);
      if (!button) {
        button = element('button', `rl-handle rl-${handle.kind}`);
        button.type = 'button';
        const id = handle.id;
        this.listenHandle(button, () => id, () => this.handles.find((each) => each.id === id) ?? null);
        this.buttons.set(id, button);
        this.layer.append(button);
      }
      button.setAttribute('aria-label', `${handle.label}; arrow keys move it`);
      button.title = handle.label;
    }
  }

  /** Shows the divider at a fraction of the width, or hides it. */
  setSwipe(at: number | null): void {
    this.swipeAt = at;
    this.divider.hidden = at === null;
    if (at !== null) this.divider.style.left = `${(at * 100).toFixed(2)}%`;
  }

  /** Puts everything where the camera of the moment sees it. */
  update(width: number, height: number): void {
    const taken = [{ left: width - KEY.width - 14, top: height - KEY.height - 12, ...KEY }];
    if (this.pin) {
      const at = this.projection.projectLifted(this.pin.x, this.pin.y, this.pin.lift);
      move(this.pinButton, at.x, at.y);
      taken.push({ left: at.x - 12, top: at.y - 12, width: 24, height: 24 });
    }
    for (const handle of this.handles) {
      const at = this.projection.projectLifted(handle.x, handle.y, 0);
      move(this.buttons.get(handle.id)!, at.x, at.y);
    }
    const seen: boolean[] = [];
    const anchors: Anchor[] = this.labels.map((label, i) => {
      const at = this.projection.projectLifted(label.x, label.y, label.lift, label.absolute);
      seen[i] = !at.hidden;
      const size = label.tone === 'value' || label.tone === 'mark' ? 13 : 12;
      const pad = label.tone === 'value' || label.tone === 'mark' ? 12 : 6;
      return {
        x: at.x,
        y: at.y,
        width: textWidth(label.text, size) + pad,
        height: pad === 12 ? 22 : 17,
        priority: at.hidden ? -1e6 : label.priority,
        gap: label.gap,
      };
    });
    const boxes = place(anchors.map((anchor, i) => (seen[i] ? anchor : { ...anchor, x: -1e5 })), width, height, taken);
    boxes.forEach((box, i) => {
      const node = this.nodes[i];
      node.style.visibility = box ? 'visible' : 'hidden';
      if (box) node.style.transform = `translate(${Math.round(box.left)}px, ${Math.round(box.top)}px)`;
      if (box) node.style.width = `${anchors[i].width}px`;
    });
  }

  /** Labels that are on the screen, with their boxes: for tests. */
  shown(): { text: string; box: DOMRect }[] {
    return this.nodes
      .filter((node) => node.style.visibility === 'visible')
      .map((node) => ({ text: node.textContent ?? '', box: node.getBoundingClientRect() }));
  }

  /** Writes labels and key onto a picture that is saved. */
  paint(context: CanvasRenderingContext2D, halo: string): void {
    const home = this.host.getBoundingClientRect();
    const nodes = [...this.nodes.filter((node) => node.style.visibility === 'visible'), ...this.key.children];
    context.textAlign = 'center';
    context.textBaseline = 'middle';
    context.lineJoin = 'round';
    for (const node of nodes) {
      const box = node.getBoundingClientRect();
      const [left, top] = [box.left - home.left, box.top - home.top];
      if (node.className === 'rl-key-ramp') {
        const ramp = context.createLinearGradient(left, 0, left + box.width, 0);
        this.ramp.forEach((colour, i) => ramp.addColorStop(i / (this.ramp.length - 1), colour));
        context.fillStyle = ramp;
        context.fillRect(left, top, box.width, box.height);
        continue;
      }
      const look = getComputedStyle(node);
      context.font = `${look.fontWeight} ${look.fontSize} ${look.fontFamily}`;
      context.lineWidth = 3;
      context.strokeStyle = halo;
      context.globalAlpha = 0.8;
      context.strokeText(node.textContent ?? '', left + box.width / 2, top + box.height / 2);
      context.globalAlpha = 1;
      context.fillStyle = look.color;
      context.fillText(node.textContent ?? '', left + box.width / 2, top + box.height / 2);
    }
  }

  dispose(): void {
    this.layer.remove();
  }

  private local(event: PointerEvent): Place {
    const box = this.host.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  private listenSurface(): void {
    let down: { x: number; y: number } | null = null;
    this.surface.addEventListener('pointerdown', (event) => {
      down = event.button === 0 ? { x: event.clientX, y: event.clientY } : null;
      this.hideProbe();
    });
    this.surface.addEventListener('pointerup', (event) => {
      if (!down || Math.hypot(event.clientX - down.x, event.clientY - down.y) > 4) return;
      const at = this.local(event);
      const found = this.projection.pick(at.x, at.y);
      if (found) for (const listener of this.pickListeners) listener(found);
      down = null;
    });
    this.surface.addEventListener('pointermove', (event) => {
      if (event.buttons || event.pointerType === 'touch') return;
      const at = this.local(event);
      const found = this.projection.pick(at.x, at.y);
      this.showProbe(found, at);
      for (const listener of this.hoverListeners) listener(found);
    });
    this.surface.addEventListener('pointerleave', () => {
      this.hideProbe();
      for (const listener of this.hoverListeners) listener(null);
    });
  }

  private showProbe(found: Place | null, at: Place): void {
    if (!found) return this.hideProbe();
    this.probe.textContent = this.projection.probeText(found);
    this.probe.style.visibility = 'visible';
    const box = this.host.getBoundingClientRect();
    const flip = at.x > box.width - 230;
    const low = at.y > box.height - 60;
    this.probe.style.transform = `translate(${Math.round(at.x + (flip ? -14 : 16))}px, ${Math.round(at.y + (low ? -34 : 14))}px) translateX(${flip ? '-100%' : '0'})`;
  }

  private hideProbe(): void {
    this.probe.style.visibility = 'hidden';
  }

  private emit(what: string, place: Place, phase: Phase): void {
    for (const listener of this.dragListeners) listener({ what, x: place.x, y: place.y, phase });
  }

  private listenHandle(button: HTMLButtonElement, what: () => string, where: () => Place | null): void {
    let grip = { x: 0, y: 0 };
    button.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      const start = where();
      if (!start) return;
      event.preventDefault();
      button.focus();
      button.setPointerCapture(event.pointerId);
      const at = this.local(event);
      const ground = this.projection.projectLifted(start.x, start.y, 0);
      grip = { x: ground.x - at.x, y: ground.y - at.y };
      this.dragging = what();
      this.hideProbe();
      button.classList.add('dragging');
      this.emit(this.dragging, start, 'start');
    });
    button.addEventListener('pointermove', (event) => {
      if (!this.dragging || !button.hasPointerCapture(event.pointerId)) return;
      const at = this.local(event);
      const found = this.projection.pick(at.x + grip.x, at.y + grip.y);
      if (found) this.emit(this.dragging, found, 'move');
    });
    const release = (): void => {
      if (!this.dragging) return;
      button.classList.remove('dragging');
      const end = where();
      if (end) this.emit(this.dragging, end, 'end');
      this.dragging = null;
    };
    button.addEventListener('pointerup', release);
    button.addEventListener('pointercancel', release);
    // Keys may come faster than pictures: the next press starts where the last one ended, unless the place changed otherwise.
    let told: { from: Place; to: Place } | null = null;
    button.addEventListener('keydown', (event) => {
      const nudge = NUDGE[event.key];
      const shown = where();
      const start = shown && told && (same(shown, told.from) || same(shown, told.to)) ? told.to : shown;
      if (!nudge || !start || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      const size = event.shiftKey ? 0.3 : 0.05;
      const to = {
        x: Math.min(3, Math.max(-3, start.x + nudge[0] * size)),
        y: Math.min(3, Math.max(-3, start.y + nudge[1] * size)),
      };
      told = { from: shown!, to };
      this.emit(what(), to, 'move');
      this.emit(what(), to, 'end');
    });
  }

  private listenDivider(): void {
    const tell = (at: number, phase: Phase): void => this.emit('swipe', { x: Math.min(0.98, Math.max(0.02, at)), y: 0 }, phase);
    this.divider.addEventListener('pointerdown', (event) => {
      event.preventDefault();
      this.divider.focus();
      this.divider.setPointerCapture(event.pointerId);
    });
    this.divider.addEventListener('pointermove', (event) => {
      if (!this.divider.hasPointerCapture(event.pointerId)) return;
      tell(this.local(event).x / this.host.clientWidth, 'move');
    });
    this.divider.addEventListener('keydown', (event) => {
      const nudge = NUDGE[event.key];
      if (!nudge || !nudge[0] || this.swipeAt === null) return;
      event.preventDefault();
      event.stopPropagation();
      tell(this.swipeAt + nudge[0] * 0.02, 'move');
    });
  }

  private listenStrokes(): void {
    let active = false;
    const find = (event: PointerEvent): Place | null => {
      const at = this.local(event);
      return this.projection.pick(at.x, at.y);
    };
    this.capture.addEventListener('pointerdown', (event) => {
      const found = find(event);
      if (!found || event.button !== 0 || this.tool === 'move') return;
      this.capture.setPointerCapture(event.pointerId);
      active = true;
      this.emit('stroke', found, 'start');
    });
    this.capture.addEventListener('pointermove', (event) => {
      const found = find(event);
      if (active && found) this.emit('stroke', found, 'move');
    });
    const end = (event: PointerEvent): void => {
      if (!active) return;
      active = false;
      this.emit('stroke', find(event) ?? { x: NaN, y: NaN }, 'end');
    };
    this.capture.addEventListener('pointerup', end);
    this.capture.addEventListener('pointercancel', end);
  }
}

function element<K extends keyof HTMLElementTagNameMap>(tag: K, name: string): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.className = name;
  return made;
}

function same(a: Place, b: Place): boolean {
  return Math.abs(a.x - b.x) < 1e-6 && Math.abs(a.y - b.y) < 1e-6;
}

function move(node: HTMLElement, x: number, y: number): void {
  node.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px) translate(-50%, -50%)`;
}
