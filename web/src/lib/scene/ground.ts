// The relief model: the lit surface with its contour lines, its sides, and the paper it stands on.
import * as THREE from 'three';
import type { Field } from './field';
import { rampTable, rgb, type Palette } from './palette';
import { SUN, type Relief } from './relief';

/** Nodes per side of the drawn surface, whatever the resolution of the data. */
export const MESH = 129;

export interface GroundLook {
  range: [number, number];
  step: number;
  offset: number;
  contours: number;
  grid: number;
  /** Corridor reach in sigmas; negative = not drawn. */
  reach: number;
  valueStep: number;
  valueLines: number;
  occupancy: number;
  /** 1 = full colour, less = greyed because another element is highlighted. */
  strength: number;
  /** Which part of the picture this surface fills: [left, right] as fractions of its width. */
  part: [number, number];
}

const LIGHT = /* glsl */ `
uniform vec3 sunDirection;
vec3 lightOf(vec3 n, float sun, float sky) {
  float lit = clamp(dot(n, sunDirection) / sunDirection.z, 0.0, 1.4) * sun;
  float fill = (0.55 + 0.45 * n.z) * sky + 0.10 * max(dot(n, normalize(vec3(0.7, -0.6, 0.3))), 0.0);
  return vec3(0.44, 0.475, 0.545) * fill + vec3(0.585, 0.535, 0.445) * lit;
}`;

const SURFACE_VERTEX = /* glsl */ `
attribute vec4 light; attribute float altitude; attribute vec4 extra; attribute vec2 fog;
uniform float exposure;
varying vec3 vLight; varying float vAltitude; varying vec3 vExtra; varying vec2 vFog; varying vec2 vPlace;
${LIGHT}
void main() {
  vLight = lightOf(normalize(light.xyz), extra.w, light.w) * exposure;
  vAltitude = altitude; vExtra = extra.xyz; vFog = fog; vPlace = position.xy;
  gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
}`;

const SURFACE_FRAGMENT = /* glsl */ `
uniform sampler2D ramp; uniform vec2 range; uniform float contourStep, contourOffset, contours, grid;
uniform float reach, valueStep, valueLines, occupancy, strength, pixelRatio;
uniform vec2 part, viewport;
uniform vec3 ink, mint, violet, accent, paper, muted;
varying vec3 vLight; varying float vAltitude; varying vec3 vExtra; varying vec2 vFog; varying vec2 vPlace;
// How much of a line of this half-width covers the pixel; w is the change of value from pixel to pixel.
float lineOf(float value, float w, float width) {
  float d = abs(fract(value - 0.5) - 0.5) / max(w, 1e-6);
  return clamp(width + 0.5 - d, 0.0, 1.0) * (1.0 - smoothstep(0.28, 0.6, w));
}
float line(float value, float width) { return lineOf(value, fwidth(value), width); }
void main() {
#ifdef SPLIT
  float across = gl_FragCoord.x / viewport.x;
  if (across < part.x || across >= part.y) discard;
#endif
#ifdef FOG
  if (vFog.x < 0.5) discard;
#endif
  float t = clamp((vAltitude - range.x) / (range.y - range.x), 0.0, 1.0);
  vec3 base = texture2D(ramp, vec2(t * 0.996 + 0.002, 0.5)).rgb;
  if (strength < 1.0) {
    float grey = dot(base, vec3(0.3, 0.59, 0.11));
    base = mix(mix(vec3(grey), paper, 0.35), base, strength);
  }
  float clear = 1.0;
#ifdef FOG
  float hatch = smoothstep(0.30, 0.36, abs(fract((gl_FragCoord.x + gl_FragCoord.y) / (7.0 * pixelRatio)) - 0.5));
  base = mix(base, mix(paper, muted, 0.12 * hatch), 0.82 * vFog.y);
  clear = 1.0 - 0.6 * vFog.y;
#endif
  vec3 light = vLight;
  vec3 colour = base * light;
  if (occupancy > 0.0) {
    float mass = sqrt(clamp(vExtra.z, 0.0, 1.0));
    float dots = smoothstep(0.5, 0.42, length(fract(gl_FragCoord.xy / (6.0 * pixelRatio)) - 0.5) / max(mass * 1.15, 0.02));
    colour = mix(colour, accent, occupancy * (0.22 * mass + 0.6 * dots * step(0.05, mass)));
  }
  if (reach > 0.0) {
    float off = (vExtra.x - reach) / max(fwidth(vExtra.x), 1e-6);
    colour = mix(colour, mint * (0.35 + 0.65 * light), clamp(0.5 - off, 0.0, 1.0) * 0.27);
    colour = mix(colour, mint * 0.92, clamp(1.15 * pixelRatio + 0.5 - abs(off), 0.0, 1.0) * 0.95);
  }
  float k = (vAltitude - contourOffset) / contourStep;
  float w = fwidth(k);
  float minor = lineOf(k, w, 0.55 * pixelRatio) * 0.34;
  float major = lineOf(k * 0.2, w * 0.2, 0.95 * pixelRatio) * 0.62;
  colour = mix(colour, mix(base * 0.32, ink, 0.35), max(minor, major) * contours * clear);
  if (valueLines > 0.0) {
    float v = vExtra.y / valueStep - 0.5;
    colour = mix(colour, violet, line(v, 1.0 * pixelRatio) * valueLines * 0.9);
  }
  if (grid > 0.0) {
    float g = max(line(vPlace.x, 0.7 * pixelRatio), line(vPlace.y, 0.7 * pixelRatio));
    colour = mix(colour, ink, g * grid);
  }
#ifdef FOG
  // A discarded pixel has no soft edge: the last pixels of the coast go over into paper.
  if (vFog.x < 0.999) colour = mix(paper, colour, clamp((vFog.x - 0.5) / max(1.5 * fwidth(vFog.x), 1e-5), 0.0, 1.0));
#endif
  gl_FragColor = vec4(colour, 1.0);
}`;

const SIDE_VERTEX = /* glsl */ `
attribute vec2 strata; attribute vec3 face;
varying vec2 vStrata; varying vec3 vFace; varying float vHeight;
void main() {
  vStrata = strata; vFace = face; vHeight = position.z;
  gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
}`;

const SIDE_FRAGMENT = /* glsl */ `
uniform vec3 top, bottom, ink; uniform float contourStep, contourOffset, zScale, baseZ, exposure, pixelRatio; uniform vec2 part, viewport;
varying vec2 vStrata; varying vec3 vFace; varying float vHeight;
${LIGHT}
void main() {
  float across = gl_FragCoord.x / viewport.x;
  if (across < part.x || across >= part.y || vStrata.y < 0.5) discard;
  float depth = (vStrata.x - vHeight);
  float t = clamp((vHeight - baseZ) / max(vStrata.x - baseZ, 1e-3), 0.0, 1.0);
  vec3 colour = mix(bottom, top, smoothstep(0.0, 1.0, t));
  float k = (vHeight / zScale - contourOffset) / (5.0 * contourStep);
  float w = fwidth(k);
  float layer = 1.0 - smoothstep(0.2 * pixelRatio, 1.2 * pixelRatio, abs(fract(k - 0.5) - 0.5) / max(w, 1e-6));
  colour = mix(colour, ink, layer * 0.07);
  vec3 light = lightOf(vFace, 1.0, 0.93 + 0.07 * t) * exposure;
  colour *= mix(vec3(1.0), light, 0.30);
  float rim = 1.0 - smoothstep(0.0, 1.6 * pixelRatio, depth / max(fwidth(depth), 1e-6));
  colour = mix(colour, ink, rim * 0.35);
  gl_FragColor = vec4(colour, 1.0);
}`;

function colour(hex: string): THREE.Color {
  return new THREE.Color().setRGB(...rgb(hex));
}

/** One relief surface with its sides. */
export class Ground {
  readonly group = new THREE.Group();
  readonly surface: THREE.Mesh<THREE.BufferGeometry, THREE.ShaderMaterial>;
  readonly sides: THREE.Mesh<THREE.BufferGeometry, THREE.ShaderMaterial>;
  private readonly shared: Record<string, THREE.IUniform>;
  private readonly indices = [surfaceIndex(1), surfaceIndex(2)];

  constructor() {
    this.shared = {
      sunDirection: { value: new THREE.Vector3(...SUN) },
      ink: { value: new THREE.Color() },
      contourStep: { value: 0.1 },
      contourOffset: { value: 0.05 },
      exposure: { value: 1 },
      pixelRatio: { value: 1 },
      part: { value: new THREE.Vector2(0, 2) },
      viewport: { value: new THREE.Vector2(1, 1) },
    };
    this.surface = new THREE.Mesh(surfaceGeometry(), this.surfaceMaterial());
    this.setDetail(false);
    this.sides = new THREE.Mesh(sideGeometry(), this.sideMaterial());
    this.surface.frustumCulled = false;
    this.sides.frustumCulled = false;
    this.group.add(this.surface, this.sides);
  }

  private surfaceMaterial(): THREE.ShaderMaterial {
    const vector = (): THREE.IUniform => ({ value: new THREE.Color() });
    return new THREE.ShaderMaterial({
      vertexShader: SURFACE_VERTEX,
      fragmentShader: SURFACE_FRAGMENT,
      defines: {},
      uniforms: {
        ...this.shared,
        ramp: { value: null },
        range: { value: new THREE.Vector2(0, 1) },
        contours: { value: 1 },
        grid: { value: 0 },
        reach: { value: -1 },
        valueStep: { value: 1 },
        valueLines: { value: 0 },
        occupancy: { value: 0 },
        strength: { value: 1 },
        mint: vector(),
        violet: vector(),
        accent: vector(),
        paper: vector(),
        muted: vector(),
      },
    });
  }

  private sideMaterial(): THREE.ShaderMaterial {
    return new THREE.ShaderMaterial({
      vertexShader: SIDE_VERTEX,
      fragmentShader: SIDE_FRAGMENT,
      uniforms: {
        ...this.shared,
        top: { value: new THREE.Color() },
        bottom: { value: new THREE.Color() },
        zScale: { value: 1 },
        baseZ: { value: -1 },
      },
      side: THREE.DoubleSide,
    });
  }

  /** Every node, or every second one while the data are coarse (dragging). */
  setDetail(coarse: boolean): void {
    const index = this.indices[coarse ? 1 : 0];
    if (this.surface.geometry.index !== index) this.surface.geometry.setIndex(index);
  }

  /** Heights, light and fog; `fine` is the field at MESH nodes a side. */
  setRelief(fine: Field, light: Relief, scale: number, baseZ: number, mask: Field | null, fog: Field | null): void {
    const geometry = this.surface.geometry;
    const position = geometry.attributes.position as THREE.BufferAttribute;
    const lights = geometry.attributes.light as THREE.BufferAttribute;
    const altitude = geometry.attributes.altitude as THREE.BufferAttribute;
    const extra = geometry.attributes.extra as THREE.BufferAttribute;
    const clouds = geometry.attributes.fog as THREE.BufferAttribute;
    for (let i = 0; i < MESH * MESH; i++) {
      const column = i % MESH;
      const row = (i - column) / MESH;
      position.setXYZ(
        i,
        fine.x[0] + ((fine.x[1] - fine.x[0]) * column) / (MESH - 1),
        fine.y[0] + ((fine.y[1] - fine.y[0]) * row) / (MESH - 1),
        fine.data[i] * scale,
      );
      lights.setXYZW(i, light.normals[i * 3], light.normals[i * 3 + 1], light.normals[i * 3 + 2], light.sky[i]);
      altitude.setX(i, fine.data[i]);
      extra.setW(i, light.sun[i]);
      clouds.setXY(i, mask ? mask.data[i] : 1, fog ? fog.data[i] : 0);
    }
    for (const attribute of [position, lights, altitude, extra, clouds]) attribute.needsUpdate = true;
    this.define('FOG', mask !== null || fog !== null);
    this.setSides(position, clouds, baseZ);
    this.sides.material.uniforms.zScale.value = scale;
    this.sides.material.uniforms.baseZ.value = baseZ;
  }

  /** Corridor distance, value and occupancy per node: what is painted on the ground. */
  setPainted(corridor: Field | null, value: Field | null, occupancy: Field | null): void {
    const extra = this.surface.geometry.attributes.extra as THREE.BufferAttribute;
    const most = occupancy ? Math.max(occupancy.range()[1], 1e-9) : 1;
    for (let i = 0; i < MESH * MESH; i++) {
      extra.setX(i, corridor ? corridor.data[i] : 99);
      extra.setY(i, value ? value.data[i] : 0);
      extra.setZ(i, occupancy ? occupancy.data[i] / most : 0);
    }
    extra.needsUpdate = true;
  }

  private setSides(position: THREE.BufferAttribute, fog: THREE.BufferAttribute, baseZ: number): void {
    const own = this.sides.geometry.attributes.position as THREE.BufferAttribute;
    const strata = this.sides.geometry.attributes.strata as THREE.BufferAttribute;
    border().forEach((node, i) => {
      const [x, y, z] = [position.getX(node), position.getY(node), position.getZ(node)];
      own.setXYZ(i * 2, x, y, z);
      own.setXYZ(i * 2 + 1, x, y, baseZ);
      strata.setXY(i * 2, z, fog.getX(node));
      strata.setXY(i * 2 + 1, z, fog.getX(node));
    });
    own.needsUpdate = true;
    strata.needsUpdate = true;
  }

  setLook(look: GroundLook): void {
    const u = this.surface.material.uniforms;
    u.range.value.set(...look.range);
    u.contourStep.value = look.step;
    u.contourOffset.value = look.offset;
    u.contours.value = look.contours;
    u.grid.value = look.grid;
    u.reach.value = look.reach;
    u.valueStep.value = look.valueStep;
    u.valueLines.value = look.valueLines;
    u.occupancy.value = look.occupancy;
    u.strength.value = look.strength;
    u.part.value.set(look.part[0], look.part[1]);
    this.define('SPLIT', look.part[0] > 0 || look.part[1] < 1);
  }

  /** Compiles a part of the shader in or out: what is discarded costs even where nothing is. */
  private define(name: 'SPLIT' | 'FOG', on: boolean): void {
    const { material } = this.surface;
    if (name in material.defines === on) return;
    if (on) material.defines[name] = '';
    else delete material.defines[name];
    material.needsUpdate = true;
  }

  setPalette(palette: Palette, dark: boolean): void {
    const u = this.surface.material.uniforms;
    u.ramp.value?.dispose();
    const ramp = new THREE.DataTexture(rampTable(palette.ramp), 256, 1, THREE.RGBAFormat);
    ramp.minFilter = ramp.magFilter = THREE.LinearFilter;
    ramp.needsUpdate = true;
    u.ramp.value = ramp;
    u.ink.value.copy(colour(dark ? '#0A0E12' : palette.ink));
    u.mint.value.copy(colour(palette.mint));
    u.violet.value.copy(colour(palette.value));
    u.accent.value.copy(colour(palette.accent));
    u.paper.value.copy(colour(palette.paper));
    u.muted.value.copy(colour(palette.muted));
    u.exposure.value = dark ? 0.94 : 1;
    this.sides.material.uniforms.top.value.copy(colour(palette.plinth[0]));
    this.sides.material.uniforms.bottom.value.copy(colour(palette.plinth[1]));
  }

  resize(width: number, height: number, ratio: number): void {
    this.shared.viewport.value.set(width * ratio, height * ratio);
    this.shared.pixelRatio.value = ratio;
  }

  dispose(): void {
    this.surface.material.uniforms.ramp.value?.dispose();
    for (const mesh of [this.surface, this.sides]) {
      mesh.geometry.dispose();
      mesh.material.dispose();
    }
  }
}

function surfaceGeometry(): THREE.BufferGeometry {
  const geometry = new THREE.BufferGeometry();
  const add = (name: string, size: number): void => {
    const attribute = new THREE.BufferAttribute(new Float32Array(MESH * MESH * size), size);
    attribute.setUsage(THREE.DynamicDrawUsage);
    geometry.setAttribute(name, attribute);
  };
  add('position', 3);
  add('light', 4);
  add('altitude', 1);
  add('extra', 4);
  add('fog', 2);
  return geometry;
}

/** Two triangles per cell of `stride` nodes. */
function surfaceIndex(stride: number): THREE.BufferAttribute {
  const index = new Uint32Array(((MESH - 1) / stride) ** 2 * 6);
  let k = 0;
  for (let row = 0; row < MESH - 1; row += stride) {
    for (let column = 0; column < MESH - 1; column += stride) {
      const a = row * MESH + column;
      const b = a + stride * MESH;
      index.set([a, a + stride, b + stride, a, b + stride, b], k);
      k += 6;
    }
  }
  return new THREE.BufferAttribute(index, 1);
}

/** Border nodes, side by side: south, east, north, west; every side has its own corner nodes. */
function border(): number[] {
  const last = MESH - 1;
  const nodes: number[] = [];
  for (let i = 0; i < MESH; i++) nodes.push(i);
  for (let i = 0; i < MESH; i++) nodes.push(i * MESH + last);
  for (let i = last; i >= 0; i--) nodes.push(last * MESH + i);
  for (let i = last; i >= 0; i--) nodes.push(i * MESH);
  return nodes;
}

function sideGeometry(): THREE.BufferGeometry {
  const geometry = new THREE.BufferGeometry();
  const count = 4 * MESH;
  geometry.setAttribute('position', new THREE.BufferAttribute(new Float32Array(count * 2 * 3), 3));
  geometry.setAttribute('strata', new THREE.BufferAttribute(new Float32Array(count * 2 * 2), 2));
  const faces = new Float32Array(count * 2 * 3);
  const normals = [0, -1, 1, 0, 0, 1, -1, 0];
  const index: number[] = [];
  for (let side = 0; side < 4; side++) {
    for (let i = 0; i < MESH; i++) {
      const at = side * MESH + i;
      for (const half of [0, 1]) faces.set([normals[side * 2], normals[side * 2 + 1], 0], (at * 2 + half) * 3);
      if (i) index.push(at * 2 - 2, at * 2 - 1, at * 2, at * 2 - 1, at * 2 + 1, at * 2);
    }
  }
  geometry.setAttribute('face', new THREE.BufferAttribute(faces, 3));
  geometry.setIndex(index);
  return geometry;
}
