// A small world for tests only: nothing that is shipped imports it.
import { Field } from '../scene/field';
import { emptyFrame, type Frame, type Paths, type Terrain, type Tube } from '../scene/view';

export function altitudes(n: number, bumps: [number, number, number, number][]): Field {
  const data = new Float32Array(n * n);
  for (let i = 0; i < n * n; i++) {
    const x = -3 + (6 * (i % n)) / (n - 1);
    const y = -3 + (6 * Math.floor(i / n)) / (n - 1);
    for (const [cx, cy, width, height] of bumps) data[i] += height * Math.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * width * width));
  }
  return new Field(data, n);
}

/** A walk along y = 0 with these deviations along and across. */
export function straightTube(along: number, across: number, steps = 24): Tube {
  const mean = new Float32Array((steps + 1) * 2);
  const covariance = new Float32Array((steps + 1) * 4);
  for (let t = 0; t <= steps; t++) {
    mean[t * 2] = -2 + (4 * t) / steps;
    covariance.set([along * along, 0, 0, across * across], t * 4);
  }
  return { mean, covariance };
}

/** One hill, one path that climbs it with advantages of both signs, a corridor. */
export function world(): { terrain: Terrain; frame: Frame; paths: Paths } {
  const mean = altitudes(49, [[1, 0.5, 0.8, 1]]);
  const steps = 12;
  const rows = new Float32Array((steps + 1) * 6);
  for (let t = 0; t <= steps; t++) {
    const [x, y] = [-1 + t / 6, -0.5 + t / 12];
    rows.set([x, y, mean.at(x, y), 6 - t / 3, t ? Math.sin(t) : 0, 0.1], t * 6);
  }
  const paths = { offsets: Int32Array.from([0, steps + 1]), rows };
  const terrain: Terrain = { layers: { gold: { mean, se: null, mask: null } }, active: 'gold', range: null };
  return { terrain, paths, frame: { ...emptyFrame(), paths, corridor: straightTube(0.2, 0.1) } };
}

/** A container without blocks. */
export function container(meta: Record<string, unknown>): ArrayBuffer {
  const body = new TextEncoder().encode(JSON.stringify({ meta, blocks: [] }));
  const length = Math.ceil(body.length / 8) * 8;
  const bytes = new Uint8Array(8 + length).fill(32);
  bytes.set(new TextEncoder().encode('RDG1'));
  new DataView(bytes.buffer).setUint32(4, length, true);
  bytes.set(body, 8);
  return bytes.buffer;
}
