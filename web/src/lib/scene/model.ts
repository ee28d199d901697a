// What a view shows, and what follows from it: the same for the 3-D scene and the 2-D map.
import { outsideRows, corridorDistance, spots, valueText } from './shapes';
import { contourLevels, niceStep, type Levels } from './levels';
import { Field } from './field';
import { PALETTES, type Palette, type Theme } from './palette';
import type { Key, Label } from './overlay';
import { DEFAULT_OVERLAYS, emptyFrame, type Element, type Frame, type Overlays, type Pin, type Place, type Terrain } from './view';

const FLAT: Terrain = { layers: { gold: { mean: new Field(new Float32Array(4), 2), se: null, mask: null } }, active: 'gold', range: [-1, 1] };

/** Share of the model's half-width that the altitude range takes. */
const RISE = 1.75;

export class Model {
  terrain: Terrain = FLAT;
  frame: Frame = emptyFrame();
  pin: Pin | null = null;
  overlays: Overlays = { ...DEFAULT_OVERLAYS };
  theme: Theme = 'light';
  element: Element | null = null;
  /** Scene units per unit of altitude. */
  scale = 1;
  /** Scene units per unit of V. */
  valueScale = 0.1;
  levels: Levels = contourLevels(-1, 1);
  range: [number, number] = [-1, 1];
  /** Lowest and highest altitude of the layers on show. */
  extent: [number, number] = [-1, 1];
  valueStep = 1;
  distance: Field | null = null;
  private readonly resampled = new Map<Field, Field>();

  get palette(): Palette {
    return PALETTES[this.theme];
  }

  get ground(): Field {
    return (this.terrain.layers[this.terrain.active] ?? Object.values(this.terrain.layers)[0]).mean;
  }

  setTerrain(terrain: Terrain): void {
    this.terrain = terrain;
    this.resampled.clear();
    this.measure();
    this.scaleValue();
  }

  /** The second layer on show, or null. */
  other(): string | null {
    const name = this.overlays.beside ?? this.overlays.swipe;
    return name && name !== this.terrain.active && name in this.terrain.layers ? name : null;
  }

  /** Half the longer side of the ground, in units of three: one for the exact world. */
  get size(): number {
    const { x, y } = this.ground;
    return Math.max(x[1] - x[0], y[1] - y[0]) / 6;
  }

  setOverlays(change: Partial<Overlays>): void {
    this.overlays = { ...this.overlays, ...change };
    this.measure();
    this.scaleValue();
  }

  /** Extent and vertical scale of the layers on show. */
  private measure(): void {
    const { layers } = this.terrain;
    const other = this.other();
    const [low, high] = this.ground.range();
    const [below, above] = other ? layers[other].mean.range() : [low, high];
    this.extent = [Math.min(low, below), Math.max(high, above)];
    // Two layers are compared only with the same colours and the same lines.
    this.range = padded(this.terrain.range ?? this.extent);
    this.levels = contourLevels(this.range[0], this.range[1], 24);
    const wanted = Math.min(1.4, (RISE * this.size) / Math.max(this.extent[1] - this.extent[0], 1e-6));
    // The scale stays while it still fits: dragging a bump must not make the whole model breathe.
    if (wanted / this.scale < 0.75 || wanted / this.scale > 1.35) this.scale = wanted;
  }

  setFrame(frame: Frame): void {
    this.frame = frame;
    this.distance = corridorDistance(frame, 97, this.ground.x, this.ground.y);
    this.scaleValue();
  }

  private scaleValue(): void {
    const value = this.frame.value;
    if (!value) return;
    const [low, high] = value.range();
    const most = Math.max(Math.abs(low), Math.abs(high), 1e-6);
    const factors = [1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005];
    const factor = factors.find((each) => each * this.scale * most <= 1.9) ?? 0.002;
    const now = this.valueScale / this.scale;
    if (factor < now || factor > 2.6 * now || !factors.includes(Number(now.toPrecision(3)))) this.valueScale = factor * this.scale;
    this.valueStep = niceStep(low, high, 12);
  }

  /** A field at n nodes a side, kept until the terrain changes. */
  fine(field: Field, n: number): Field {
    const known = this.resampled.get(field);
    if (known && known.n === n) return known;
    const made = field.resample(n);
    this.resampled.set(field, made);
    return made;
  }

  height(x: number, y: number): number {
    return this.ground.at(x, y);
  }

  outside(): (x: number, y: number) => boolean {
    if (!this.overlays.corridor) return () => false;
    return outsideRows(this.frame, this.overlays.budget, this.distance);
  }

  /** How strongly an element is drawn while another may be highlighted. */
  fade(element: Element): number {
    // The pin is where one stands: it is what the other elements are read from.
    if (this.element === null || this.element === element || element === 'pin') return 1;
    if (this.element === 'reward' || this.element === 'state') return 0.45;
    return 0.22;
  }

  pinValue(): number | null {
    if (!this.pin) return null;
    if (this.pin.value !== null && this.pin.value !== undefined) return this.pin.value;
    return this.frame.value ? this.frame.value.at(this.pin.x, this.pin.y) : null;
  }

  probeText(place: Place): string {
    const parts = [`x ${valueText(place.x)}  y ${valueText(place.y)}`];
    for (const [name, layer] of Object.entries(this.terrain.layers)) {
      const symbol = Object.keys(this.terrain.layers).length > 1 ? name : 'r';
      parts.push(`${symbol} ${valueText(layer.mean.at(place.x, place.y))}`);
    }
    if (this.frame.value) parts.push(`V ${valueText(this.frame.value.at(place.x, place.y))}`);
    return parts.join('   ');
  }

  pinText(): string {
    if (!this.pin) return 'Pin';
    const { x, y } = this.pin;
    const value = this.pinValue();
    const told = value === null ? '' : `, value ${valueText(value)}`;
    return `Current state, x ${valueText(x)}, y ${valueText(y)}, altitude ${valueText(this.height(x, y))}${told}; arrow keys move the pin`;
  }

  /** Labels of the ground: spot heights, start, goal, V at the pin. */
  groundLabels(beam: boolean): Label[] {
    const out: Label[] = [];
    if (this.pin && this.overlays.beam) {
      const value = this.pinValue();
      const lift = beam && value !== null ? Math.abs(value) * this.valueScale + 0.16 : 0.2;
      if (value !== null) out.push({ text: `V ${valueText(value)}`, x: this.pin.x, y: this.pin.y, lift, tone: 'value', priority: 100, gap: 14 });
    }
    if (!this.overlays.labels) return out;
    out.push(...this.spotLabels(this.terrain.active));
    const route = this.frame.route;
    if (this.overlays.route && route && route.length > 1) {
      out.push({ text: 'start', x: route[0][0], y: route[0][1], lift: 0.02, tone: 'mint', priority: 60, gap: 9 });
    }
    const goal = this.terrain.goal;
    if (goal) out.push({ text: 'goal', x: goal.x, y: goal.y, lift: 0.05, tone: 'mark', priority: 70, gap: 10 });
    return out;
  }

  /** Summits and pits of a layer with their altitudes. */
  spotLabels(layer: string): Label[] {
    const { mean, mask } = this.terrain.layers[layer] ?? { mean: this.ground, mask: null };
    return spots(this.fine(mean, mean.n), 4, mask).map((spot) => ({
      text: `${spot.kind === 'peak' ? '▲' : '▽'} ${spot.altitude > 0 ? '+' : ''}${valueText(spot.altitude)}`,
      x: spot.x,
      y: spot.y,
      lift: 0.02,
      tone: 'spot',
      priority: 50 + Math.abs(spot.altitude),
      gap: -7,
    }));
  }

  /** What the colours and lines of the ground mean. */
  key(): Key {
    const digits = this.range[1] - this.range[0] > 20 ? 0 : 1;
    return {
      name: this.named(),
      low: valueText(this.range[0], digits),
      high: valueText(this.range[1], digits),
      lines: this.overlays.contours ? `lines every ${this.levels.step}` : '',
      ramp: this.palette.ramp,
    };
  }

  /** The reward or rewards whose altitude is shown. */
  named(): string {
    const other = this.other();
    const { active } = this.terrain;
    const { names } = this.terrain;
    if (other) return `${names?.[active] ?? active} and ${names?.[other] ?? other}`;
    return names?.[active] ?? (active === 'reward' ? 'reward' : `${active} reward`);
  }

  /** The picture in one sentence, for those who do not see it. */
  summary(): string {
    const [low, high] = this.ground.range();
    const parts = [`Map of ${this.terrain.names?.[this.terrain.active] ?? `${this.terrain.active} reward`}: altitude from ${valueText(low)} to ${valueText(high)}.`];
    for (const spot of spots(this.ground, 3, this.terrain.layers[this.terrain.active]?.mask)) {
      parts.push(`${spot.kind === 'peak' ? 'Summit' : 'Pit'} ${valueText(spot.altitude)} at x ${valueText(spot.x, 1)}, y ${valueText(spot.y, 1)}.`);
    }
    if (this.pin) parts.push(`${this.pinText().replace('; arrow keys move the pin', '')}.`);
    const paths = this.frame.paths;
    if (paths && paths.offsets.length > 1) {
      const outside = this.outside();
      let away = 0;
      for (let p = 0; p + 1 < paths.offsets.length; p++) {
        for (let i = paths.offsets[p]; i < paths.offsets[p + 1]; i++) {
          if (outside(paths.rows[i * 6], paths.rows[i * 6 + 1])) {
            away++;
            break;
          }
        }
      }
      const count = paths.offsets.length - 1;
      parts.push(`${count} ${count === 1 ? 'path' : 'paths'}; ${away} leave the corridor of ${this.overlays.budget} nats.`);
    }
    return parts.join(' ');
  }
}

function padded([low, high]: [number, number]): [number, number] {
  return high - low > 1e-6 ? [low, high] : [low - 0.5, high + 0.5];
}
