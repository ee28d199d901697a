// The shaded relief of the printed map, as pixels.
import { rampTable, rgb } from '../scene/palette';
import { fogField, maskField, relief, SUN } from '../scene/relief';
import type { Model } from '../scene/model';

/** Width, in units of the mask, over which the coast fades. */
const FEATHER = 0.1;

/** A picture of one layer, n pixels a side, north up. Holes are transparent; fog is paper with hatching. */
export function reliefPixels(model: Model, layer: string, n: number): Uint8ClampedArray {
  const own = model.terrain.layers[layer];
  const field = own.mean.resample(n);
  const light = relief(field, model.scale);
  const [mask, fog] = [maskField(own.mask, own.mean, n), fogField(own.se, model.range, n)];
  const occupancy = model.overlays.occupancy && model.frame.occupancy ? model.frame.occupancy.resample(n) : null;
  const most = occupancy ? Math.max(occupancy.range()[1], 1e-9) : 1;
  const table = rampTable(model.palette.ramp);
  const paper = rgb(model.palette.paper).map((each) => each * 255);
  const accent = rgb(model.palette.accent).map((each) => each * 255);
  const [low, high] = model.range;
  const greyed = model.element === null || model.element === 'reward' || model.element === 'state' ? 0 : 0.55;
  const exposure = model.theme === 'dark' ? 0.94 : 1;
  const out = new Uint8ClampedArray(n * n * 4);
  const shade = [0, 0, 0];
  for (let row = 0; row < n; row++) {
    for (let column = 0; column < n; column++) {
      const i = row * n + column;
      const at = ((n - 1 - row) * n + column) * 4;
      const ashore = mask ? Math.min(1, Math.max(0, 0.5 + (mask.data[i] - 0.5) / FEATHER)) : 1;
      if (ashore === 0) continue;
      illuminate(shade, light.normals, light.sun[i], light.sky[i], i);
      const t = Math.min(255, Math.max(0, Math.round((255 * (field.data[i] - low)) / (high - low))));
      const cloud = fog ? Math.min(0.82, Math.max(0, fog.data[i])) : 0;
      const hatch = fog && (row + column) % 8 < 2 ? 0.86 : 1;
      const mass = occupancy ? 0.75 * Math.sqrt(Math.max(0, occupancy.data[i] / most)) : 0;
      for (let c = 0; c < 3; c++) {
        let value = table[t * 4 + c] * (1 - cloud) + paper[c] * hatch * cloud;
        value = value * (1 - greyed) + paper[c] * greyed;
        value *= (shade[c] * (1 - 0.5 * greyed) + 0.5 * greyed) * exposure;
        out[at + c] = value * (1 - mass) + accent[c] * mass;
      }
      out[at + 3] = Math.round(255 * ashore);
    }
  }
  return out;
}

/** The light of scene/ground.ts: warm sun, cool sky. */
function illuminate(into: number[], normals: Float32Array, sun: number, sky: number, i: number): void {
  const [x, y, z] = [normals[i * 3], normals[i * 3 + 1], normals[i * 3 + 2]];
  const lit = Math.min(1.4, Math.max(0, (x * SUN[0] + y * SUN[1] + z * SUN[2]) / SUN[2])) * sun;
  const fill = (0.55 + 0.45 * z) * sky;
  into[0] = 0.44 * fill + 0.585 * lit;
  into[1] = 0.475 * fill + 0.535 * lit;
  into[2] = 0.545 * fill + 0.445 * lit;
}

export function reliefCanvas(model: Model, layer: string, n: number): HTMLCanvasElement {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = n;
  const context = canvas.getContext('2d')!;
  const image = context.createImageData(n, n);
  image.data.set(reliefPixels(model, layer, n));
  context.putImageData(image, 0, 0);
  return canvas;
}
