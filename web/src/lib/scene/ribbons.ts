// Lines of any pixel width, joined and anti-aliased in the shader: every curve of the scene in one draw call per set.
import * as THREE from 'three';
import { rgb } from './palette';
import type { Stroke } from './shapes';

/** Scene coordinates of a ground point: z of the drape, or of an altitude in the air. */
export type Drape = (x: number, y: number, altitude: number | null) => number;

const STRIDE = { position: 3, before: 3, after: 3, tint: 4, style: 4 } as const;

const VERTEX = /* glsl */ `
attribute vec3 before; attribute vec3 after; attribute vec4 tint; attribute vec4 style;
uniform vec2 viewport; uniform float ratio;
varying vec4 vTint; varying float vSide; varying float vHalf; varying float vDash; varying float vCase;
void main() {
  mat4 m = projectionMatrix * modelViewMatrix;
  vec4 p = m * vec4(position, 1.0), a = m * vec4(before, 1.0), b = m * vec4(after, 1.0);
  vec2 s = p.xy / p.w * viewport * 0.5, sa = a.xy / a.w * viewport * 0.5, sb = b.xy / b.w * viewport * 0.5;
  vec2 d1 = s - sa, d2 = sb - s;
  float l1 = length(d1), l2 = length(d2);
  d1 = l1 > 1e-3 ? d1 / l1 : (l2 > 1e-3 ? d2 / l2 : vec2(1.0, 0.0));
  d2 = l2 > 1e-3 ? d2 / l2 : d1;
  vec2 t = d1 + d2;
  t = length(t) > 1e-3 ? normalize(t) : d1;
  vec2 n = vec2(-t.y, t.x);
  float miter = 1.0 / max(0.45, dot(n, vec2(-d1.y, d1.x)));
  float side = sign(style.x);
  vHalf = abs(style.x) * 0.5 * ratio;
  float reach = (vHalf + 1.0) * miter;
  p.xy += n * side * reach / (viewport * 0.5) * p.w;
  vTint = tint; vSide = side * (vHalf + 1.0); vDash = style.y; vCase = style.z;
  // A hair towards the eye, so that a drape is not eaten by the ground it lies on.
  p.z -= 0.0003 * p.w * style.w;
  gl_Position = p;
}`;

const FRAGMENT = /* glsl */ `
uniform vec3 casing; uniform float fade; uniform float ratio;
varying vec4 vTint; varying float vSide; varying float vHalf; varying float vDash; varying float vCase;
void main() {
  if (vDash >= 0.0 && fract(vDash) > 0.58) discard;
  float d = abs(vSide);
  float alpha = 1.0 - smoothstep(vHalf - 0.5, vHalf + 0.5, d);
  float q = clamp(vSide / max(vHalf, 0.5), -1.0, 1.0);
  vec3 colour = vTint.rgb * (vCase > 0.5 ? 1.0 : mix(0.86, 1.06, sqrt(1.0 - q * q)));
  if (vCase > 0.5) {
    float inner = vHalf - 1.1 * ratio;
    colour = mix(colour, casing, smoothstep(inner - 0.5, inner + 0.5, d));
  }
  alpha *= vTint.a * fade;
  if (alpha < 0.01) discard;
  gl_FragColor = vec4(colour, alpha);
}`;

export interface Point {
  x: number;
  y: number;
  z: number;
  width: number;
}

export interface Look {
  colour: string;
  opacity: number;
  dashed: boolean;
  cased: boolean;
  /** How far the line is pulled towards the eye (1 = a drape; more for what must stay visible). */
  pull: number;
}

/** Collects polylines and hands them over as one geometry. */
export class RibbonBuilder {
  private position: number[] = [];
  private before: number[] = [];
  private after: number[] = [];
  private tint: number[] = [];
  private style: number[] = [];
  private index: number[] = [];

  line(points: Point[], look: Look): void {
    const count = points.length;
    if (count < 2) return;
    const [r, g, b] = rgb(look.colour);
    const first = this.position.length / 3;
    let travelled = 0;
    for (let i = 0; i < count; i++) {
      const p = points[i];
      const a = points[Math.max(0, i - 1)];
      const c = points[Math.min(count - 1, i + 1)];
      if (i) travelled += Math.hypot(p.x - a.x, p.y - a.y, p.z - a.z);
      for (const side of [-1, 1]) {
        this.position.push(p.x, p.y, p.z);
        this.before.push(a.x, a.y, a.z);
        this.after.push(c.x, c.y, c.z);
        this.tint.push(r, g, b, look.opacity);
        this.style.push(side * Math.max(p.width, 0.01), look.dashed ? travelled * 11 : -1, look.cased ? 1 : 0, look.pull);
      }
      if (i) {
        const at = first + 2 * i;
        this.index.push(at - 2, at - 1, at, at - 1, at + 1, at);
      }
    }
  }

  /** A stroke laid over the ground: long legs are divided so that they follow it. */
  drape(stroke: Stroke, ground: Drape, pull = 1): void {
    const points = draped(stroke, ground);
    const look = { colour: stroke.colour, opacity: stroke.opacity, dashed: stroke.dashed, cased: stroke.cased, pull };
    if (!stroke.arrow) return this.line(points, look);
    const { shaft, head } = splitArrow(points, stroke.width);
    this.line(shaft, look);
    this.line(head, { ...look, dashed: false, cased: false });
  }

  geometry(into: THREE.BufferGeometry): void {
    const set = (name: keyof typeof STRIDE, data: number[]): void => {
      into.setAttribute(name, new THREE.BufferAttribute(new Float32Array(data), STRIDE[name]));
    };
    into.dispose();
    set('position', this.position);
    set('before', this.before);
    set('after', this.after);
    set('tint', this.tint);
    set('style', this.style);
    into.setIndex(new THREE.BufferAttribute(new Uint32Array(this.index), 1));
  }
}

/** Points of a stroke on the ground, no two further apart than `leg`. */
export function draped(stroke: Stroke, ground: Drape, leg = 0.07): Point[] {
  const out: Point[] = [];
  const p = stroke.points;
  const count = p.length / 2;
  const total = stroke.closed ? count + 1 : count;
  for (let i = 0; i < total; i++) {
    const k = i % count;
    const x = p[k * 2];
    const y = p[k * 2 + 1];
    const altitude = stroke.altitude ? stroke.altitude[k] : null;
    const last = out[out.length - 1];
    if (last) {
      const length = Math.hypot(x - last.x, y - last.y);
      const pieces = stroke.altitude ? 1 : Math.min(40, Math.ceil(length / leg));
      const [fromX, fromY] = [last.x, last.y];
      for (let j = 1; j < pieces; j++) {
        const sx = fromX + ((x - fromX) * j) / pieces;
        const sy = fromY + ((y - fromY) * j) / pieces;
        out.push({ x: sx, y: sy, z: ground(sx, sy, null), width: stroke.width });
      }
    }
    out.push({ x, y, z: ground(x, y, altitude), width: stroke.width });
  }
  return out;
}

/** An arrow's shaft and its head, a wedge that narrows to the tip. */
export function splitArrow(points: Point[], width: number): { shaft: Point[]; head: Point[] } {
  let length = 0;
  for (let i = 1; i < points.length; i++) length += Math.hypot(points[i].x - points[i - 1].x, points[i].y - points[i - 1].y);
  const want = Math.min(length * 0.6, 0.028 + 0.014 * width);
  let left = want;
  let i = points.length - 1;
  while (i > 0) {
    const leg = Math.hypot(points[i].x - points[i - 1].x, points[i].y - points[i - 1].y);
    if (leg >= left && leg > 0) break;
    left -= leg;
    i--;
  }
  const tip = points[points.length - 1];
  if (i <= 0) return { shaft: points, head: [] };
  const a = points[i - 1];
  const b = points[i];
  const leg = Math.hypot(b.x - a.x, b.y - a.y) || 1;
  const f = 1 - left / leg;
  const neck = { x: a.x + (b.x - a.x) * f, y: a.y + (b.y - a.y) * f, z: a.z + (b.z - a.z) * f, width };
  const wide = 3.2 + 2.3 * width;
  return {
    shaft: [...points.slice(0, i), { ...neck, width }],
    head: [
      { ...neck, width: wide },
      { ...tip, width: 0 },
    ],
  };
}

/** A set of lines in the scene. */
export class Ribbons {
  readonly mesh: THREE.Mesh<THREE.BufferGeometry, THREE.ShaderMaterial>;

  constructor(order: number, throughGround = false) {
    const material = new THREE.ShaderMaterial({
      vertexShader: VERTEX,
      fragmentShader: FRAGMENT,
      uniforms: {
        viewport: { value: new THREE.Vector2(1, 1) },
        casing: { value: new THREE.Color() },
        fade: { value: 1 },
        ratio: { value: 1 },
      },
      transparent: true,
      depthWrite: false,
      depthTest: !throughGround,
      side: THREE.DoubleSide,
    });
    this.mesh = new THREE.Mesh(new THREE.BufferGeometry(), material);
    this.mesh.frustumCulled = false;
    this.mesh.renderOrder = order;
    this.mesh.visible = false;
  }

  set(build: ((builder: RibbonBuilder) => void) | null): void {
    this.mesh.visible = false;
    if (!build) return;
    const builder = new RibbonBuilder();
    build(builder);
    builder.geometry(this.mesh.geometry);
    this.mesh.visible = (this.mesh.geometry.index?.count ?? 0) > 0;
  }

  look(casing: string, fade: number): void {
    (this.mesh.material.uniforms.casing.value as THREE.Color).setRGB(...rgb(casing));
    this.mesh.material.uniforms.fade.value = fade;
  }

  resize(width: number, height: number, ratio: number): void {
    (this.mesh.material.uniforms.viewport.value as THREE.Vector2).set(width * ratio, height * ratio);
    this.mesh.material.uniforms.ratio.value = ratio;
  }

  dispose(): void {
    this.mesh.geometry.dispose();
    this.mesh.material.dispose();
  }
}
