// The 3-D view: a lit relief model drawn on demand with three.js; nothing runs while nothing changes.
import * as THREE from 'three';
import { mapSvg } from '../map2d/svg';
import { Field, intersect } from './field';
import { Ground, MESH } from './ground';
import { Model } from './model';
import { control, HOME, Orbit, type Room } from './orbit';
import { Overlay, type Label, type Projection } from './overlay';
import { Cloud, PinHead, Table, ValueSheet } from './props';
import { fogField, maskField, relief } from './relief';
import { Ribbons, type Point, type RibbonBuilder } from './ribbons';
import { ashore, compassStrokes, cutTo, ellipse, groundStrokes, pathStrokes, stroke, valueText, type Stroke } from './shapes';
import type { Camera, Drag, Element, Frame, Handle, LandscapeView, Overlays, Pin, Place, Stats, Terrain, Tool } from './view';

const LIFT = 0.012;

/** Everything that must be built again before the next picture. */
type Part = 'relief' | 'painted' | 'lines' | 'paths' | 'pin' | 'furniture' | 'look' | 'cloud' | 'sheet';

export interface Options {
  /** No animation, a pixel ratio of one, no multisampling. */
  still: boolean;
  theme: 'light' | 'dark';
  /** What a page puts over a picture of this width. */
  room?: (width: number) => Room;
}

export class Landscape3D implements LandscapeView, Projection {
  readonly kind = '3d' as const;
  readonly element: HTMLElement;
  readonly model = new Model();
  private readonly renderer: THREE.WebGLRenderer;
  private readonly scene = new THREE.Scene();
  private readonly orbit: Orbit;
  private readonly overlay: Overlay;
  private readonly ground = new Ground();
  private readonly second = new Ground();
  private readonly table = new Table();
  private readonly head = new PinHead();
  private readonly sheet = new ValueSheet();
  private readonly cloud = new Cloud();
  private readonly sets = {
    furniture: new Ribbons(1),
    lines: new Ribbons(4),
    paths: new Ribbons(6),
    ghost: new Ribbons(5, true),
    compass: new Ribbons(10),
    beam: new Ribbons(11),
  };
  private readonly dirty = new Set<Part>(['relief', 'painted', 'lines', 'paths', 'pin', 'furniture', 'look', 'cloud', 'sheet']);
  private readonly lostListeners: (() => void)[] = [];
  private readonly cameraListeners: ((camera: Camera) => void)[] = [];
  private readonly observer: ResizeObserver;
  private readonly still: boolean;
  private width = 1;
  private tall = 1;
  private scheduled = 0;
  private fine: Field;
  private baseZ = -1;
  private corner = -1;
  private axisLabels: Label[] = [];
  private lost = false;
  private milliseconds = 0;
  private drawn = 0;

  constructor(host: HTMLElement, options: Options) {
    THREE.ColorManagement.enabled = false;
    this.still = options.still;
    this.orbit = new Orbit(options.room);
    this.element = document.createElement('div');
    this.element.className = 'rl-view';
    host.append(this.element);
    this.renderer = new THREE.WebGLRenderer({ antialias: !options.still, alpha: true, preserveDrawingBuffer: options.still });
    this.renderer.outputColorSpace = THREE.LinearSRGBColorSpace;
    this.renderer.setPixelRatio(this.ratio);
    this.renderer.setClearColor(0, 0);
    this.renderer.info.autoReset = true;
    const canvas = this.renderer.domElement;
    canvas.tabIndex = 0;
    canvas.setAttribute('role', 'img');
    this.element.append(canvas);
    this.overlay = new Overlay(this.element, canvas, this);
    this.fine = this.model.fine(this.model.ground, MESH);
    this.scene.add(this.table.mesh, this.ground.group, this.second.group, this.head.mesh, this.sheet.mesh, this.cloud.points);
    for (const set of Object.values(this.sets)) this.scene.add(set.mesh);
    this.second.group.visible = false;
    control(canvas, this.orbit, () => this.cameraMoved());
    this.listenContext(canvas);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.element);
    this.setTheme(options.theme);
    this.resize();
  }

  private get ratio(): number {
    return this.still ? 1 : Math.min(2, devicePixelRatio || 1);
  }

  private listenContext(canvas: HTMLCanvasElement): void {
    canvas.addEventListener('webglcontextlost', (event) => {
      event.preventDefault();
      this.lost = true;
      for (const listener of this.lostListeners) listener();
    });
    canvas.addEventListener('webglcontextrestored', () => {
      this.lost = false;
      this.setTheme(this.model.theme);
      this.touch('relief', 'painted', 'lines', 'paths', 'pin', 'furniture', 'look', 'cloud', 'sheet');
    });
  }

  setTerrain(terrain: Terrain): void {
    this.model.setTerrain(terrain);
    this.touch('relief', 'painted', 'lines', 'paths', 'pin', 'furniture', 'look', 'cloud', 'sheet');
  }

  setFrame(frame: Frame): void {
    this.model.setFrame(frame);
    this.touch('painted', 'lines', 'paths', 'pin', 'look', 'cloud', 'sheet');
  }

  setPin(pin: Pin | null): void {
    this.model.pin = pin;
    this.touch('pin');
  }

  setOverlays(overlays: Partial<Overlays>): void {
    const before = this.model.overlays;
    this.model.setOverlays(overlays);
    const after = this.model.overlays;
    this.overlay.setSwipe(after.swipe ? after.swipeAt : null);
    if (before.swipe !== after.swipe) this.touch('relief', 'painted', 'furniture');
    this.touch('lines', 'paths', 'pin', 'look', 'cloud', 'sheet');
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
    const palette = this.model.palette;
    for (const ground of [this.ground, this.second]) ground.setPalette(palette, theme === 'dark');
    this.head.setPalette(palette);
    this.sheet.setPalette(palette);
    this.table.setPalette(theme === 'dark');
    this.touch('lines', 'paths', 'pin', 'furniture', 'look', 'cloud');
  }

  setCamera(camera: Partial<Camera>): void {
    this.orbit.set(camera);
    if (camera.distance === HOME.distance && camera.azimuth === HOME.azimuth) this.orbit.refit();
    this.touch();
  }

  camera(): Camera {
    return { ...this.orbit.state };
  }

  highlight(element: Element | null): void {
    this.model.element = element;
    this.touch('lines', 'paths', 'pin', 'look');
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

  onLost(listener: () => void): void {
    this.lostListeners.push(listener);
  }

  private cameraMoved(): void {
    this.touch();
    for (const listener of this.cameraListeners) listener(this.camera());
  }

  private touch(...parts: Part[]): void {
    for (const part of parts) this.dirty.add(part);
    if (!this.scheduled) this.scheduled = requestAnimationFrame(() => this.draw());
  }

  private resize(): void {
    this.width = Math.max(1, this.element.clientWidth);
    this.tall = Math.max(1, this.element.clientHeight);
    this.renderer.setSize(this.width, this.tall);
    this.orbit.resize(this.width, this.tall);
    for (const each of [this.ground, this.second]) each.resize(this.width, this.tall, this.ratio);
    for (const set of Object.values(this.sets)) set.resize(this.width, this.tall, this.ratio);
    this.cloud.points.material.uniforms.ratio.value = this.ratio;
    this.sheet.mesh.material.uniforms.ratio.value = this.ratio;
    this.touch();
  }

  private draw(): void {
    this.scheduled = 0;
    if (this.lost) return;
    const began = performance.now();
    this.rebuild();
    this.placeFurniture();
    this.renderer.render(this.scene, this.orbit.camera);
    this.overlay.update(this.width, this.tall);
    this.milliseconds = performance.now() - began;
    this.drawn++;
  }

  private rebuild(): void {
    const parts = this.dirty;
    if (parts.has('relief')) this.buildRelief();
    if (parts.has('painted')) this.paint();
    if (parts.has('look')) this.applyLook();
    if (parts.has('lines')) this.sets.lines.set((builder) => this.buildLines(builder));
    if (parts.has('paths')) this.sets.paths.set((builder) => this.buildPaths(builder));
    if (parts.has('pin')) this.buildPin();
    if (parts.has('cloud')) this.buildCloud();
    if (parts.has('sheet')) this.buildSheet();
    if (parts.has('furniture')) this.corner = -1;
    if (parts.size) this.renderer.domElement.setAttribute('aria-label', this.model.summary());
    parts.clear();
  }

  private buildRelief(): void {
    const { model } = this;
    const whole = !model.terrain.layers[model.terrain.active].mask?.includes(0);
    this.baseZ = model.scale * model.extent[0] - (whole ? 0.34 : 0.08) * model.size;
    this.table.mesh.position.z = this.baseZ - 0.003;
    this.table.setExtent(model.ground.x, model.ground.y, !whole);
    this.fine = model.fine(model.ground, MESH);
    const layer = (name: string, ground: Ground): void => {
      const own = model.terrain.layers[name];
      const fine = model.fine(own.mean, MESH);
      const [mask, fog] = [maskField(own.mask, own.mean, MESH), fogField(own.se, model.range, MESH)];
      // Software rendering (still mode) is bound by triangles.
      ground.setDetail(own.mean.n < 60 || this.still);
      ground.setRelief(fine, relief(fine, model.scale), model.scale, this.baseZ, mask, fog);
    };
    layer(model.terrain.active, this.ground);
    const other = this.otherLayer();
    this.second.group.visible = other !== null;
    if (other) layer(other, this.second);
    this.orbit.setShape({ x: this.fine.x, y: this.fine.y, points: this.silhouette() });
  }

  /** Places that the camera keeps in the picture: the block's foot and a lattice of its ground. */
  private silhouette(): number[] {
    const { x, y } = this.fine;
    const sheet = this.model.overlays.valueSheet ? this.model.frame.value : null;
    const out: number[] = [];
    for (let row = 0; row <= 12; row++) {
      for (let column = 0; column <= 12; column++) {
        const px = x[0] + ((x[1] - x[0]) * column) / 12;
        const py = y[0] + ((y[1] - y[0]) * row) / 12;
        out.push(px, py, this.model.scale * this.fine.at(px, py));
        if (row % 12 === 0 && column % 12 === 0) out.push(px, py, this.baseZ);
        if (sheet) out.push(px, py, this.model.scale * this.fine.at(px, py) + this.model.valueScale * sheet.at(px, py));
      }
    }
    return out;
  }

  /** Two layers in one scene are swiped; two maps side by side are the printed map's. */
  private otherLayer(): string | null {
    return this.model.overlays.swipe ? this.model.other() : null;
  }

  private paint(): void {
    const { frame, distance } = this.model;
    const at = (field: Field | null): Field | null => (field ? field.resample(MESH) : null);
    const fields = [at(distance), at(frame.value), at(frame.occupancy)] as const;
    this.ground.setPainted(...fields);
    if (this.otherLayer()) this.second.setPainted(...fields);
  }

  private applyLook(): void {
    const { model } = this;
    const { overlays: o, element, palette } = model;
    const other = this.otherLayer() !== null;
    const look = {
      range: model.range,
      step: model.levels.step,
      offset: model.levels.offset,
      contours: (o.contours ? 1 : 0) * (element === 'reward' ? 1.35 : 1),
      grid: element === 'state' ? 0.55 : 0,
      reach: o.corridor && model.distance ? Math.sqrt(2 * o.budget) : -1,
      valueStep: model.valueStep,
      valueLines: o.valueContours && model.frame.value ? 1 : element === 'value' && model.frame.value ? 0.9 : 0,
      occupancy: o.occupancy && model.frame.occupancy ? 1 : 0,
      strength: element === null || element === 'state' || element === 'reward' ? 1 : 0.4,
      part: [0, other ? o.swipeAt : 2] as [number, number],
    };
    this.ground.setLook(look);
    if (other) this.second.setLook({ ...look, part: [o.swipeAt, 2] });
    const casing = model.theme === 'dark' ? '#0D1115' : palette.surface;
    for (const set of Object.values(this.sets)) set.look(casing, 1);
    this.sheet.mesh.material.uniforms.fade.value = model.fade('value');
    this.cloud.points.material.uniforms.fade.value = model.fade('trajectory');
    this.sets.ghost.look(casing, 0.2);
  }

  /** Scene height of the ground, or of an altitude of its own. */
  private readonly drape = (x: number, y: number, altitude: number | null): number =>
    altitude === null || Number.isNaN(altitude) ? this.model.scale * this.fine.at(x, y) + LIFT : this.model.scale * altitude + LIFT;

  private buildLines(builder: RibbonBuilder): void {
    const { model } = this;
    const { x, y } = this.fine;
    const own = model.terrain.layers[model.terrain.active];
    const shore = own ? maskField(own.mask, own.mean, MESH) : null;
    const sea = shore ? new Field(shore.data.map((each) => 1 - each), shore.n, shore.x, shore.y) : null;
    const low = this.baseZ / model.scale;
    // Where nothing was sampled there is no ground: what runs on there lies on the table.
    const round = (each: Stroke): number[] => (each.closed ? [...each.points, each.points[0], each.points[1]] : each.points);
    const land = (each: Stroke): Stroke[] => ashore(round(each), shore).map((points) => ({ ...each, points, closed: false }));
    const table = (each: Stroke): Stroke[] => ashore(round(each), sea).map((points) => ({ ...each, points, closed: false, dashed: true, altitude: points.filter((_, i) => i % 2).map(() => low) }));
    const cut = groundStrokes(model.frame, model.overlays, model.palette).flatMap((whole) => cutTo(whole, x, y));
    for (const each of sea ? cut.flatMap((one) => [...land(one), ...table(one)]) : cut) {
      builder.drape({ ...each, opacity: each.opacity * model.fade(each.element) }, this.drape);
    }
    const goal = model.terrain.goal;
    if (goal) builder.drape(stroke(ellipse(goal.x, goal.y, goal.radius, goal.radius), model.palette.ink, 2, { cased: true }), this.drape);
    const beams = model.frame.beams;
    if (!beams || !model.overlays.beam) return;
    for (let i = 0; i + 2 < beams.length; i += 3) {
      const z = this.drape(beams[i], beams[i + 1], null);
      const tall = Math.abs(beams[i + 2]) * model.valueScale;
      this.vertical(builder, beams[i], beams[i + 1], z, z + tall, 2.4, model.palette.value, 0.7 * model.fade('value'), beams[i + 2] < 0);
    }
  }

  private vertical(builder: RibbonBuilder, x: number, y: number, from: number, to: number, width: number, tint: string, opacity: number, dashed: boolean): void {
    const points: Point[] = [];
    for (let i = 0; i <= 6; i++) points.push({ x, y, z: from + ((to - from) * i) / 6, width });
    builder.line(points, { colour: tint, opacity, dashed, cased: false, pull: 1 });
  }

  private buildPaths(builder: RibbonBuilder): void {
    const { model } = this;
    const { paths, airborne } = model.frame;
    if (!paths || !model.overlays.paths) return;
    for (const each of pathStrokes(paths, model.palette, model.outside(), airborne, model.overlays.lead, model.size)) {
      builder.drape({ ...each, opacity: each.opacity * model.fade(each.element) }, this.drape, each.element === 'corridor' ? 2 : 1);
    }
  }

  private buildPin(): void {
    const { model } = this;
    const { pin, palette, overlays } = model;
    this.head.mesh.visible = pin !== null;
    this.head.mesh.material.uniforms.fade.value = model.fade('pin');
    const value = model.pinValue();
    const { size } = model;
    this.overlay.setPin(pin ? { x: pin.x, y: pin.y, lift: 0.21 * size } : null);
    if (!pin) {
      this.sets.compass.set(null);
      this.sets.beam.set(null);
      return this.setLabels();
    }
    const z = this.drape(pin.x, pin.y, null);
    this.head.mesh.position.set(pin.x, pin.y, z + 0.21 * size);
    this.head.mesh.scale.setScalar(size);
    this.sets.compass.set((builder) => {
      builder.drape(stroke(ellipse(pin.x, pin.y, 0.05 * size, 0.05 * size, 20), palette.pin, 2.4, { opacity: 0.9 * model.fade('pin') }), this.drape, 3);
      this.vertical(builder, pin.x, pin.y, z, z + 0.16 * size, 3.2, palette.pin, model.fade('pin'), false);
      if (!overlays.compass) return;
      for (const each of compassStrokes(pin, palette)) {
        builder.drape({ ...each, opacity: each.opacity * model.fade(each.element) }, this.drape, 5);
      }
    });
    this.sets.beam.set(
      overlays.beam && value !== null
        ? (builder) => {
            const top = z + Math.abs(value) * model.valueScale;
            const strong = model.fade('value');
            this.vertical(builder, pin.x, pin.y, z, top, 16, palette.value, 0.2 * strong, false);
            this.vertical(builder, pin.x, pin.y, z, top, 4.5, palette.value, 0.95 * strong, value < 0);
            const cap = [-0.07 * size, 0.07 * size].map((d) => ({ x: pin.x + d, y: pin.y, z: top, width: 3 }));
            builder.line(cap, { colour: palette.value, opacity: strong, dashed: false, cased: false, pull: 1 });
          }
        : null,
    );
    this.setLabels();
  }

  private buildCloud(): void {
    const { frame, overlays, palette } = this.model;
    this.cloud.points.visible = false;
    if (frame.points && overlays.points) {
      this.cloud.set(frame.points, (x, y) => this.drape(x, y, null), this.model.outside(), palette);
    }
  }

  private buildSheet(): void {
    const { model } = this;
    const value = model.frame.value;
    const shown = model.overlays.valueSheet && value !== null;
    if (shown || this.sheet.mesh.visible) this.orbit.setShape({ x: this.fine.x, y: this.fine.y, points: this.silhouette() });
    this.sheet.mesh.visible = shown;
    if (this.sheet.mesh.visible && value) this.sheet.set(value.resample(65), model.ground, model.scale, model.valueScale, model.valueStep);
  }

  private setLabels(): void {
    this.overlay.setKey(this.model.key());
    this.overlay.setLabels([...this.model.groundLabels(true), ...this.axisLabels]);
  }

  /** The axis numbers stand along the two near edges. */
  private placeFurniture(): void {
    const { x, y } = this.fine;
    const corners: [number, number][] = [
      [x[0], y[0]],
      [x[1], y[0]],
      [x[1], y[1]],
      [x[0], y[1]],
    ];
    const seen = corners.map(([cx, cy]) => this.toScreen(cx, cy, this.baseZ));
    const left = seen.reduce((best, each, i) => (each.x < seen[best].x ? i : best), 0);
    const key = left + (this.orbit.state.top ? 10 : 0);
    if (key === this.corner) return;
    this.corner = key;
    const labels: Label[] = [];
    this.sets.furniture.set((builder) => this.buildFurniture(builder, corners, left, labels));
    this.axisLabels = labels;
    this.setLabels();
  }

  private buildFurniture(builder: RibbonBuilder, corners: [number, number][], left: number, labels: Label[]): void {
    const { model, baseZ } = this;
    const look = { colour: model.palette.muted, opacity: 0.85, dashed: false, cased: false, pull: 1 };
    const edges = this.orbit.state.top ? [0, 3] : [left, (left + 1) % 4];
    for (const edge of edges) this.buildTicks(builder, corners[edge], corners[(edge + 1) % 4], look, labels, baseZ);
  }

  private buildTicks(
    builder: RibbonBuilder,
    a: [number, number],
    b: [number, number],
    look: { colour: string; opacity: number; dashed: boolean; cased: boolean; pull: number },
    labels: Label[],
    z: number,
  ): void {
    const alongX = a[1] === b[1];
    const [low, high] = alongX ? this.fine.x : this.fine.y;
    const step = high - low > 4 ? (high - low > 12 ? Math.ceil((high - low) / 6) : 1) : (high - low) / 6;
    const middle = alongX ? (this.fine.y[0] + this.fine.y[1]) / 2 : (this.fine.x[0] + this.fine.x[1]) / 2;
    const out = 0.12 * this.model.size * Math.sign((alongX ? a[1] : a[0]) - middle);
    for (let k = Math.ceil(low / step - 1e-6); k * step <= high + 1e-6; k++) {
      const place = k * step;
      const [px, py] = alongX ? [place, a[1]] : [a[0], place];
      const far = alongX ? { x: px, y: py + out } : { x: px + out, y: py };
      builder.line([{ x: px, y: py, z, width: 1.2 }, { ...far, z, width: 1.2 }], look);
      const at = alongX ? { x: px, y: py + 2.3 * out } : { x: px + 2.3 * out, y: py };
      labels.push({ text: valueText(place, step < 1 ? 1 : 0), ...at, lift: z, absolute: true, tone: 'ghost', priority: 10, gap: 0 });
    }
    // The axis is named half-way between two of its numbers.
    const named = step * (Math.floor((low + high) / 2 / step) + 0.5);
    const name = alongX ? (this.model.terrain.axes?.x ?? 'x') : (this.model.terrain.axes?.y ?? 'y');
    // A long name has a row of its own outside that of the numbers; level text beside a slanting edge needs room by its length.
    const away = (name.length > 2 ? 2.3 + 0.32 * name.length : 2.3) * out;
    const beside = alongX ? { x: named, y: a[1] + away } : { x: a[0] + away, y: named };
    labels.push({ text: name, ...beside, lift: z, absolute: true, tone: 'axis', priority: 9, gap: 0 });
  }

  private toScreen(x: number, y: number, z: number): Place {
    const at = new THREE.Vector3(x, y, z).project(this.orbit.camera);
    return { x: ((at.x + 1) / 2) * this.width, y: ((1 - at.y) / 2) * this.tall };
  }

  projectLifted(x: number, y: number, lift: number, absolute = false): Place & { hidden: boolean } {
    const z = absolute ? lift : this.model.scale * this.fine.at(x, y) + lift;
    return { ...this.toScreen(x, y, z), hidden: !absolute && this.behind(x, y, z + 0.05) };
  }

  /** Is a place hidden by a hill in front of it? */
  private behind(x: number, y: number, z: number): boolean {
    if (this.orbit.state.top) return false;
    const eye = this.orbit.camera.position;
    const d: [number, number, number] = [x - eye.x, y - eye.y, z - eye.z];
    const hit = intersect(this.fine, this.model.scale, [eye.x, eye.y, eye.z], d);
    if (!hit) return false;
    return Math.hypot(hit[0] - eye.x, hit[1] - eye.y) < 0.985 * Math.hypot(d[0], d[1]);
  }

  project(x: number, y: number): Place {
    return this.toScreen(x, y, this.model.scale * this.fine.at(x, y));
  }

  pick(px: number, py: number): Place | null {
    const near = new THREE.Vector3((px / this.width) * 2 - 1, 1 - (py / this.tall) * 2, -1).unproject(this.orbit.camera);
    const far = new THREE.Vector3((px / this.width) * 2 - 1, 1 - (py / this.tall) * 2, 1).unproject(this.orbit.camera);
    const d = far.clone().sub(near).normalize();
    const hit = intersect(this.fine, this.model.scale, [near.x, near.y, near.z], [d.x, d.y, d.z]);
    return hit ? { x: hit[0], y: hit[1] } : null;
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

  async exportPng(): Promise<Blob> {
    this.draw();
    const { domElement } = this.renderer;
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [domElement.width, domElement.height];
    const context = canvas.getContext('2d')!;
    context.fillStyle = this.model.palette.paper;
    context.fillRect(0, 0, canvas.width, canvas.height);
    this.renderer.render(this.scene, this.orbit.camera);
    context.drawImage(domElement, 0, 0);
    context.scale(canvas.width / this.width, canvas.height / this.tall);
    this.overlay.paint(context, this.model.palette.paper);
    return new Promise((resolve, reject) => {
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error('The browser could not encode the picture.'))), 'image/png');
    });
  }

  stats(): Stats {
    const { calls, triangles } = this.renderer.info.render;
    return { drawCalls: calls, triangles, contextLost: this.lost, milliseconds: this.milliseconds, frames: this.drawn };
  }

  /** Labels on the screen with their boxes, for tests. */
  labels(): { text: string; box: DOMRect }[] {
    return this.overlay.shown();
  }

  dispose(): void {
    cancelAnimationFrame(this.scheduled);
    this.observer.disconnect();
    for (const each of [this.ground, this.second, this.table, this.head, this.sheet, this.cloud, ...Object.values(this.sets)]) each.dispose();
    this.overlay.dispose();
    this.renderer.dispose();
    this.element.remove();
  }
}

