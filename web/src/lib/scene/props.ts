// Things that stand on the relief: the pin, the sheet of V, the cloud of points, the shadow under the model.
import * as THREE from 'three';
import type { Field } from './field';
import { rgb, type Palette } from './palette';
import { pointScale } from './points';

/** A glossy sphere, lit as the ground is. */
export class PinHead {
  readonly mesh: THREE.Mesh<THREE.SphereGeometry, THREE.ShaderMaterial>;

  constructor() {
    const material = new THREE.ShaderMaterial({
      vertexShader: `varying vec3 n; varying vec3 eye;
        void main() { n = normalize(mat3(modelMatrix) * normal); vec4 w = modelMatrix * vec4(position, 1.0);
        eye = normalize(cameraPosition - w.xyz); gl_Position = projectionMatrix * viewMatrix * w; }`,
      fragmentShader: `uniform vec3 tint; uniform float fade; varying vec3 n; varying vec3 eye;
        void main() { vec3 m = normalize(n); vec3 l = normalize(vec3(-0.62, 0.2, 0.9));
        float d = 0.62 + 0.45 * max(dot(m, l), 0.0); float s = pow(max(dot(reflect(-l, m), eye), 0.0), 26.0);
        float rim = pow(1.0 - max(dot(m, eye), 0.0), 3.0);
        gl_FragColor = vec4(tint * d + vec3(0.75) * s - 0.12 * rim, fade); }`,
      uniforms: { tint: { value: new THREE.Color() }, fade: { value: 1 } },
      transparent: true,
    });
    this.mesh = new THREE.Mesh(new THREE.SphereGeometry(0.095, 24, 16), material);
    this.mesh.visible = false;
    this.mesh.renderOrder = 12;
  }

  setPalette(palette: Palette): void {
    this.mesh.material.uniforms.tint.value.setRGB(...rgb(palette.pin));
  }

  dispose(): void {
    this.mesh.geometry.dispose();
    this.mesh.material.dispose();
  }
}

/** The second surface: where the ground would be if all the altitude still to come were piled on it. */
export class ValueSheet {
  readonly mesh: THREE.Mesh<THREE.BufferGeometry, THREE.ShaderMaterial>;

  constructor() {
    const material = new THREE.ShaderMaterial({
      vertexShader: `attribute float potential; varying float v; varying vec3 n; varying vec3 eye;
        void main() { v = potential; n = normal; eye = normalize(cameraPosition - position);
        gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }`,
      fragmentShader: `uniform vec3 tint; uniform vec3 glow; uniform float lineStep; uniform float fade; uniform float ratio;
        varying float v; varying vec3 n; varying vec3 eye;
        void main() { float k = v / lineStep - 0.5; float w = fwidth(k);
        float l = 1.0 - smoothstep(0.4 * ratio, 1.2 * ratio, abs(fract(k - 0.5) - 0.5) / max(w, 1e-6));
        float slope = 1.0 - abs(dot(normalize(n), eye)); float lit = 0.75 + 0.35 * dot(normalize(n), normalize(vec3(-0.5, 0.5, 0.7)));
        gl_FragColor = vec4(mix(tint * lit, glow, 0.25 * slope), (0.13 + 0.26 * slope + 0.5 * l) * fade); }`,
      uniforms: {
        tint: { value: new THREE.Color() },
        glow: { value: new THREE.Color() },
        lineStep: { value: 1 },
        fade: { value: 1 },
        ratio: { value: 1 },
      },
      transparent: true,
      depthWrite: false,
      side: THREE.DoubleSide,
    });
    this.mesh = new THREE.Mesh(new THREE.BufferGeometry(), material);
    this.mesh.visible = false;
    this.mesh.frustumCulled = false;
    this.mesh.renderOrder = 9;
  }

  /** z = scale * ground + valueScale * V. */
  set(value: Field, ground: Field, scale: number, valueScale: number, lineStep: number): void {
    const n = value.n;
    const base = ground.resample(n);
    const position = new Float32Array(n * n * 3);
    for (let i = 0; i < n * n; i++) {
      position[i * 3] = value.x[0] + ((value.x[1] - value.x[0]) * (i % n)) / (n - 1);
      position[i * 3 + 1] = value.y[0] + ((value.y[1] - value.y[0]) * Math.floor(i / n)) / (n - 1);
      position[i * 3 + 2] = scale * base.data[i] + valueScale * value.data[i];
    }
    const index: number[] = [];
    for (let row = 0; row < n - 1; row++) {
      for (let column = 0; column < n - 1; column++) {
        const a = row * n + column;
        index.push(a, a + 1, a + n + 1, a, a + n + 1, a + n);
      }
    }
    const geometry = this.mesh.geometry;
    geometry.dispose();
    geometry.setAttribute('position', new THREE.BufferAttribute(position, 3));
    geometry.setAttribute('potential', new THREE.BufferAttribute(value.data.slice(), 1));
    geometry.setIndex(new THREE.BufferAttribute(new Uint32Array(index), 1));
    geometry.computeVertexNormals();
    this.mesh.material.uniforms.lineStep.value = lineStep;
  }

  setPalette(palette: Palette): void {
    this.mesh.material.uniforms.tint.value.setRGB(...rgb(palette.value));
    this.mesh.material.uniforms.glow.value.setRGB(...rgb(palette.surface));
  }

  dispose(): void {
    this.mesh.geometry.dispose();
    this.mesh.material.dispose();
  }
}

/** Samples as discs, or crosses where they lie outside the corridor. */
export class Cloud {
  readonly points: THREE.Points<THREE.BufferGeometry, THREE.ShaderMaterial>;

  constructor() {
    const material = new THREE.ShaderMaterial({
      vertexShader: `attribute vec4 tint; attribute vec2 form; varying vec4 t; varying float away; uniform float ratio;
        void main() { t = tint; away = form.y; vec4 p = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
        p.z -= 0.0006 * p.w; gl_Position = p; gl_PointSize = form.x * ratio; }`,
      fragmentShader: `varying vec4 t; varying float away; uniform float fade;
        void main() { vec2 q = gl_PointCoord * 2.0 - 1.0; float r = length(q); float a; vec3 c = t.rgb;
        if (away > 0.5) { float k = min(abs(q.x - q.y), abs(q.x + q.y)); a = (1.0 - smoothstep(0.22, 0.42, k)) * (1.0 - smoothstep(0.9, 1.0, r)); }
        else { a = 1.0 - smoothstep(0.82, 1.0, r); c = mix(c, vec3(1.0), smoothstep(0.55, 0.78, r) * 0.75); }
        a *= t.a * fade; if (a < 0.02) discard; gl_FragColor = vec4(c, a); }`,
      uniforms: { ratio: { value: 1 }, fade: { value: 1 } },
      transparent: true,
      depthWrite: false,
    });
    this.points = new THREE.Points(new THREE.BufferGeometry(), material);
    this.points.visible = false;
    this.points.frustumCulled = false;
    this.points.renderOrder = 8;
  }

  set(rows: Float32Array, z: (x: number, y: number) => number, outside: (x: number, y: number) => boolean, palette: Palette): void {
    const count = rows.length / 8;
    const position = new Float32Array(count * 3);
    const tint = new Float32Array(count * 4);
    const form = new Float32Array(count * 2);
    const most = pointScale(rows);
    for (let i = 0; i < count; i++) {
      const [x, y, advantage] = [rows[i * 8], rows[i * 8 + 1], rows[i * 8 + 4]];
      const size = Math.min(1, Math.abs(advantage) / most) || 0;
      position.set([x, y, z(x, y) + 0.02], i * 3);
      tint.set([...rgb(advantage < 0 ? palette.cool : palette.accent), 0.55 + 0.4 * size], i * 4);
      form.set([7 + 6 * size, outside(x, y) ? 1 : 0], i * 2);
    }
    const geometry = this.points.geometry;
    geometry.dispose();
    geometry.setAttribute('position', new THREE.BufferAttribute(position, 3));
    geometry.setAttribute('tint', new THREE.BufferAttribute(tint, 4));
    geometry.setAttribute('form', new THREE.BufferAttribute(form, 2));
    this.points.visible = count > 0;
  }

  dispose(): void {
    this.points.geometry.dispose();
    this.points.material.dispose();
  }
}

/** The table under the model: the soft shadow that the model throws, worked out per node; hatching where nothing was sampled. */
export class Table {
  readonly mesh: THREE.Mesh<THREE.BufferGeometry, THREE.ShaderMaterial>;

  constructor() {
    const material = new THREE.ShaderMaterial({
      vertexShader: `attribute float dark; varying vec2 p; varying float d;
        void main() { p = position.xy; d = dark; gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }`,
      fragmentShader: `uniform vec3 shadow; uniform float depth, holes, finest; uniform vec4 extent; varying vec2 p; varying float d;
        void main() { float a = depth * d;
        if (holes > 0.5 && p.x > extent.x && p.x < extent.y && p.y > extent.z && p.y < extent.w)
          a = 0.05 + 0.10 * smoothstep(0.30, 0.36, abs(fract((p.x + p.y) * finest) - 0.5));
        gl_FragColor = vec4(shadow, a); }`,
      uniforms: {
        shadow: { value: new THREE.Color() },
        depth: { value: 0.3 },
        holes: { value: 0 },
        finest: { value: 5 },
        extent: { value: new THREE.Vector4(-3, 3, -3, 3) },
      },
      transparent: true,
      depthWrite: false,
    });
    this.mesh = new THREE.Mesh(new THREE.BufferGeometry(), material);
    this.mesh.frustumCulled = false;
    this.mesh.renderOrder = -5;
  }

  /** The shadow round a model of this extent; the sun stands in the north-west. */
  setExtent(x: [number, number], y: [number, number], holes: boolean): void {
    const size = Math.max(x[1] - x[0], y[1] - y[0]) / 6;
    const u = this.mesh.material.uniforms;
    u.holes.value = holes ? 1 : 0;
    u.finest.value = 5 / size;
    u.extent.value.set(...x, ...y);
    const outward = [0, 0.05, 0.12, 0.22, 0.36, 0.55, 0.8, 1.15, 1.6, 2.3].map((each) => each * size);
    const axis = ([low, high]: [number, number]): number[] => [...outward.map((each) => low - each).reverse(), ...outward.map((each) => high + each)];
    const [xs, ys] = [axis(x), axis(y)];
    const position: number[] = [];
    const dark: number[] = [];
    const box = (px: number, py: number, shrink: number): number => {
      const dx = Math.max(x[0] + shrink - px, px - x[1] + shrink, 0);
      const dy = Math.max(y[0] + shrink - py, py - y[1] + shrink, 0);
      return Math.hypot(dx, dy) / size;
    };
    for (const py of ys) {
      for (const px of xs) {
        position.push(px, py, 0);
        dark.push(0.5 * Math.exp(-7 * box(px, py, 0)) + 0.5 * Math.exp(-2.4 * box(px - 0.45 * size, py + 0.4 * size, 0.15 * size)));
      }
    }
    const index: number[] = [];
    for (let row = 0; row + 1 < ys.length; row++) {
      for (let column = 0; column + 1 < xs.length; column++) {
        const a = row * xs.length + column;
        const b = a + xs.length;
        index.push(a, a + 1, b + 1, a, b + 1, b);
      }
    }
    const { geometry } = this.mesh;
    geometry.dispose();
    geometry.setAttribute('position', new THREE.BufferAttribute(new Float32Array(position), 3));
    geometry.setAttribute('dark', new THREE.BufferAttribute(new Float32Array(dark), 1));
    geometry.setIndex(index);
  }

  setPalette(dark: boolean): void {
    this.mesh.material.uniforms.shadow.value.setRGB(...(dark ? ([0, 0, 0] as const) : ([0.23, 0.18, 0.1] as const)));
    this.mesh.material.uniforms.depth.value = dark ? 0.62 : 0.34;
  }

  dispose(): void {
    this.mesh.geometry.dispose();
    this.mesh.material.dispose();
  }
}
