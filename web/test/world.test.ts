// The live world's client: newest-only messages, address, terrain text, strip.
import { describe, expect, it } from 'vitest';
import { cameraFrom, cameraText, overlayChanges, overlaysFrom, pinFrom, settingsFrom } from '../src/lib/world/address';
import { Exchange, type Answer } from '../src/lib/world/client';
import { container, world } from '../src/lib/world/fixture';
import { polyline, strip, zeroScales } from '../src/lib/world/strip';
import { terrainToml } from '../src/lib/world/toml';
import { DEFAULT_OVERLAYS } from '../src/lib/scene/view';

function exchange(): { sent: { id: number; type: string; x?: number }[]; link: Exchange; pushed: Answer[] } {
  const sent: { id: number; type: string; x?: number }[] = [];
  const pushed: Answer[] = [];
  const link = new Exchange({ send: (text) => sent.push(JSON.parse(text)), close: () => undefined }, (answer) => pushed.push(answer));
  return { sent, link, pushed };
}

describe('messages', () => {
  it('hold back all but the newest pin while one is under way', async () => {
    const { sent, link } = exchange();
    const asked = [1, 2, 3, 4].map((x) => link.ask('pin', { x }));
    expect(sent.map((each) => each.x)).toEqual([1]);
    link.receive(container({ id: sent[0].id, type: 'pin', ok: true }));
    expect(sent.map((each) => each.x)).toEqual([1, 4]);
    link.receive(container({ id: sent[1].id, type: 'pin', ok: true }));
    const answers = await Promise.all(asked);
    expect(answers.map((each) => each?.meta.id ?? null)).toEqual([1, null, null, 2]);
  });

  it('reject with the sentence of the world, and when the line is gone', async () => {
    const { sent, link } = exchange();
    const refused = link.ask('train', { iterations: 1 });
    link.receive(container({ id: sent[0].id, type: 'train', ok: false, error: 'Too many.' }));
    await expect(refused).rejects.toThrow('Too many.');
    const lost = link.ask('rest');
    link.fail('Gone.');
    await expect(lost).rejects.toThrow('Gone.');
  });

  it('hand on what the server pushes', () => {
    const { link, pushed } = exchange();
    link.receive(container({ id: null, type: 'frame', ok: true }));
    expect(pushed).toHaveLength(1);
  });
});

describe('the address', () => {
  it('carries overlays, camera, pin and settings there and back', () => {
    const overlays = { ...DEFAULT_OVERLAYS, lead: 0, valueSheet: true, corridor: false, budget: 3.5, swipe: 'proxy', beside: 'proxy' };
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(overlayChanges(overlays))) if (value !== null) query.set(name, String(value));
    expect(overlaysFrom(query)).toEqual(overlays);
    const camera = { azimuth: -12.5, elevation: 33, distance: 0.8, target: [0.25, -1] as [number, number], top: true };
    expect(cameraFrom(cameraText(camera))).toEqual(camera);
    expect(cameraFrom('1,2,x')).toBeNull();
    expect(pinFrom('9,-1.25')).toEqual({ x: 3, y: -1.25 });
    expect(pinFrom('north')).toBeNull();
    expect(settingsFrom(new URLSearchParams('algorithm=grpo&beta=0.3&theme=dark'))).toEqual({ algorithm: 'grpo', beta: 0.3 });
  });
});

describe('the strip', () => {
  it('adds up to the return', () => {
    const { paths } = world();
    const { rewards, sums } = strip(paths, 0);
    expect(sums.at(-1)).toBeCloseTo(rewards.reduce((sum, each) => sum + each, 0), 5);
    expect(strip(paths, 0, 0.5).sums[1]).toBeCloseTo(rewards[0] + 0.5 * rewards[1], 5);
  });

  it('has one zero line for both of its scales, and nothing outside', () => {
    for (const [a, b] of [[[1, -1], [8, 9]], [[-1, -2], [3, 5]], [[-1, -2], [-3]], [[0], [4]]]) {
      const [first, second] = zeroScales([a, b], 10, 90);
      expect(first(0)).toBeCloseTo(second(0), 9);
      for (const y of [...a.map(first), ...b.map(second)]) expect(y >= 10 - 1e-9 && y <= 90 + 1e-9).toBe(true);
    }
  });

  it('keeps zero on its axis and breaks lines at what is missing', () => {
    const [scale] = zeroScales([[2, 4]], 0, 100);
    expect(scale(0)).toBe(100);
    expect(scale(4)).toBe(0);
    expect(polyline([1, null, 2, 3], (i) => i, (value) => value)).toBe('M0.0 1.0M2.0 2.0L3.0 3.0');
  });
});

describe('a terrain as TOML', () => {
  it('has its scalars before its tables and no null', () => {
    const text = terrainToml({ name: 'a "b"', title: 'T', start: [0, 1], horizon: 24, goal: null, route: [[0, 1]], layers: { gold: { bumps: [[1, 1, 0.5, 1]] }, proxy: { bumps: [] } } });
    expect(text).toContain('name = "a \\"b\\""');
    expect(text).not.toContain('null');
    expect(text.indexOf('route')).toBeLessThan(text.indexOf('[layers.gold]'));
    expect(text).toContain('bumps = [\n  [1, 1, 0.5, 1],\n]');
  });
});
