// The pure functions under the picture: fields, contour levels, corridor, labels, strokes, paths, decoding.
import { describe, expect, it } from 'vitest';
import { mapLabels, fromSheet, toSheet, type Sheet } from '../src/lib/map2d/svg';
import { frameOf, layersOf, withAdvantage } from '../src/lib/scene/adapt';
import { distanceField, halfWidth, massBound, oneIn, outsideContours, sigmas } from '../src/lib/scene/corridor';
import { Field, fillHoles, intersect } from '../src/lib/scene/field';
import { place } from '../src/lib/scene/labels';
import { contourLevels, isIndex, niceStep } from '../src/lib/scene/levels';
import { Model } from '../src/lib/scene/model';
import { Orbit, cameraKey, fitTo, limit } from '../src/lib/scene/orbit';
import { rampTable, PALETTES, rgb } from '../src/lib/scene/palette';
import { relief } from '../src/lib/scene/relief';
import { draped, splitArrow } from '../src/lib/scene/ribbons';
import { advantageScale, arrowStrokes, ashore, cutTo, ellipse, isolines, pathStrokes, spots, stroke } from '../src/lib/scene/shapes';
import { emptyFrame } from '../src/lib/scene/view';
import { altitudes, straightTube, world } from '../src/lib/world/fixture';

const hill = altitudes(65, [[1, 0.5, 0.8, 1]]);

describe('a field', () => {
  it('is read bilinearly, x along columns and y along rows', () => {
    const plane = new Field(Float32Array.from({ length: 25 }, (_, i) => (i % 5) * 10 + Math.floor(i / 5)), 5);
    expect(plane.at(-3, -3)).toBe(0);
    expect(plane.at(3, -3)).toBe(40);
    expect(plane.at(-3, 3)).toBe(4);
    expect(plane.at(-2.25, -1.5)).toBeCloseTo(5 + 1, 6);
    expect(plane.at(99, -99)).toBe(40);
  });

  it('keeps its nodes when it is refined, and reproduces a straight slope', () => {
    const fine = hill.resample(129);
    for (const [row, column] of [[0, 0], [31, 40], [64, 64]]) expect(fine.data[2 * row * 129 + 2 * column]).toBeCloseTo(hill.data[row * 65 + column], 5);
    expect(fine.at(1, 0.5)).toBeCloseTo(1, 2);
  });

  it('fills holes from their neighbours only', () => {
    expect(Array.from(fillHoles(Float32Array.from([1, NaN, NaN, 3]), 2))).toEqual([1, 2, 2, 3]);
  });

  it('is met by a ray where the ground is', () => {
    const hit = intersect(hill, 0.8, [1, -8, 4], [0, 8.5, -3.3])!;
    const t = (hit[1] + 8) / 8.5;
    expect(4 - 3.3 * t).toBeCloseTo(0.8 * hill.at(hit[0], hit[1]), 4);
    expect(intersect(hill, 0.8, [0, -8, 4], [0, 1, 1])).toBeNull();
  });
});

describe('contour levels', () => {
  it('are nice steps, half a step off zero', () => {
    expect(niceStep(0, 2, 20)).toBeCloseTo(0.1);
    expect(niceStep(0, 30, 14)).toBe(2.5);
    const levels = contourLevels(-0.8, 1, 18);
    expect(levels.values).not.toContain(0);
    for (const value of levels.values) expect(Math.abs(((value / levels.step) % 1) + 1) % 1).toBeCloseTo(0.5, 6);
    expect(levels.values.filter((value) => isIndex(value, levels)).length).toBeGreaterThan(0);
  });

  it('of a round hill are round', () => {
    const [line] = isolines(hill.resample(129), 0.5);
    const radius = 0.8 * Math.sqrt(2 * Math.log(2));
    for (let i = 0; i < line.length; i += 2) expect(Math.hypot(line[i] - 1, line[i + 1] - 0.5)).toBeCloseTo(radius, 1);
  });

  it('stop at the coast of what was sampled', () => {
    const mask = new Field(Float32Array.from({ length: 25 }, (_, i) => (i % 5 < 2 ? 1 : 0)), 5);
    expect(ashore([-3, 0, -2.5, 0, -2, 0, 1, 0, 2, 0], mask)).toEqual([[-3, 0, -2.5, 0, -2, 0]]);
    expect(ashore([0, 0, 1, 1], null)).toEqual([[0, 0, 1, 1]]);
  });

  it('are cut where they leave the map', () => {
    const slope = new Field(Float32Array.from({ length: 65 * 65 }, (_, i) => i % 65), 65);
    for (const line of isolines(slope, 32)) for (let i = 0; i < line.length; i += 2) expect(Math.abs(line[i])).toBeLessThan(0.2);
  });
});

describe('the corridor', () => {
  const tube = straightTube(0.2, 0.1);

  it('is sqrt(2 e) standard deviations wide, measured across the walk', () => {
    expect(sigmas(2)).toBe(2);
    expect(halfWidth(tube, 5, 2)).toBeCloseTo(2 * 0.1, 5);
    expect(halfWidth(tube, 5, 0.5)).toBeCloseTo(0.1, 5);
  });

  it('has its edge where the distance field says sqrt(2 e)', () => {
    const distance = distanceField(tube, 241, [-3, 3], [-3, 3]);
    expect(distance.at(0, 0.1)).toBeCloseTo(1, 1);
    expect(distance.at(0, -0.2)).toBeCloseTo(2, 1);
    expect(distance.at(0, 0)).toBeLessThan(0.2);
  });

  it('reads nats as odds, and bounds the mass outside a contour', () => {
    expect(oneIn(5)).toBe('1 in 148');
    expect(oneIn(10)).toBe('1 in 22,026');
    expect(oneIn(0.5)).toBe('1 in 1.6');
    expect(massBound(0.1, 0.5)).toBeCloseTo(0.5, 2);
    expect(massBound(0.01, 2)).toBeCloseTo(0.58, 2);
    expect(massBound(0.1, 3)).toBe(1);
  });

  it('knows outside from inside on language-model maps', () => {
    const contours = { offsets: Int32Array.from([0, 4]), points: Float32Array.from([-1, -1, 1, -1, 1, 1, -1, 1]), levels: Float32Array.from([0.99]) };
    expect(outsideContours(contours, 0, 0)).toBe(false);
    expect(outsideContours(contours, 1.2, 0)).toBe(true);
  });
});

describe('labels', () => {
  it('never overlap and never leave the picture; the important stay', () => {
    const anchors = Array.from({ length: 40 }, (_, i) => ({ x: 50 + (i % 8) * 18, y: 40 + Math.floor(i / 8) * 9, width: 44, height: 16, priority: i, gap: 8 }));
    const boxes = place(anchors, 260, 120);
    expect(boxes[39]).not.toBeNull();
    const shown = boxes.filter((box) => box !== null);
    expect(shown.length).toBeGreaterThan(4);
    shown.forEach((a, i) =>
      shown.slice(i + 1).forEach((b) => {
        expect(Math.abs(a.left - b.left) >= 44 || Math.abs(a.top - b.top) >= 16).toBe(true);
      }),
    );
    for (const box of shown) expect(box.left >= 0 && box.left + 44 <= 260 && box.top >= 0 && box.top + 16 <= 120).toBe(true);
  });
});

describe('the camera and the sheet', () => {
  it('keeps the model in view and turns by key', () => {
    const orbit = new Orbit();
    orbit.resize(1200, 720);
    const before = orbit.state.azimuth;
    expect(cameraKey(orbit, 'ArrowRight', false)).toBe(true);
    expect(orbit.state.azimuth).not.toBe(before);
    expect(cameraKey(orbit, 'q', false)).toBe(false);
    expect(limit({ azimuth: 540, elevation: 120, distance: 99, target: [9, 0], top: false })).toEqual({ azimuth: -180, elevation: 88, distance: 2.2, target: [3, 0], top: false });
  });

  it('starts as near as the model fits, and leans only as far as there is room', () => {
    const cube = [-3, 3].flatMap((x) => [-3, 3].flatMap((y) => [-1, 1].map((z) => [x, y, z]))).flat();
    const shape = { x: [-3, 3] as [number, number], y: [-3, 3] as [number, number], points: cube };
    const near = fitTo(shape, 1200, 720);
    expect(fitTo(shape, 1200, 720, { lean: 0, top: 200 }).distance).toBeGreaterThan(near.distance);
    expect(fitTo(shape, 1200, 720, { lean: 60, top: 0 }).shift[0] - near.shift[0]).toBeCloseTo(60, 6);
    const slim = fitTo(shape, 500, 720, { lean: 60, top: 0 }).shift[0] - fitTo(shape, 500, 720).shift[0];
    expect(slim).toBeGreaterThan(0);
    expect(slim).toBeLessThan(60);
    const doubled = { x: [-6, 6] as [number, number], y: [-6, 6] as [number, number], points: cube.map((each) => 2 * each) };
    expect(fitTo(doubled, 1200, 720).distance / near.distance).toBeCloseTo(2, 4);
  });

  it('goes to the sheet and back, north up', () => {
    const sheet: Sheet = { left: 40, top: 30, unit: 100, x: [-3, 3], y: [-3, 3] };
    expect(toSheet(sheet, -3, 3)).toEqual([40, 30]);
    expect(fromSheet(sheet, ...toSheet(sheet, 1.25, -0.5))).toEqual({ x: 1.25, y: -0.5 });
    expect(fromSheet(sheet, 10, 10)).toBeNull();
  });
});

describe('strokes', () => {
  it('are cut at the edge of the ground', () => {
    const ring = stroke(ellipse(3, 0, 1, 1, 40), '#000000', 1, { closed: true });
    const pieces = cutTo(ring, [-3, 3], [-3, 3]);
    const points = pieces.flatMap((each) => each.points);
    for (let i = 0; i < points.length; i += 2) expect(points[i]).toBeLessThanOrEqual(3 + 1e-9);
    const length = pieces.reduce((sum, { points: p }) => sum + p.reduce((own, x, i) => (i % 2 || i < 2 ? own : own + Math.hypot(x - p[i - 2], p[i + 1] - p[i - 1])), 0), 0);
    expect(length).toBeCloseTo(Math.PI, 1);
    expect(cutTo(stroke([4, 4, 5, 5], '#000000', 1), [-3, 3], [-3, 3])).toEqual([]);
    const own = stroke([0, 0, 1, 1], '#000000', 1);
    expect(cutTo(own, [-3, 3], [-3, 3])).toEqual([own]);
  });

  it('of a policy keep their direction and never reach the next cell', () => {
    const rows = Float32Array.from(Array.from({ length: 36 }, () => [0, 0, 9, 12, 1, 1]).flat());
    const [first] = arrowStrokes(rows, '#000000', 'policy');
    expect(Math.hypot(first.points[2], first.points[3])).toBeCloseTo(0.86, 5);
    expect(first.points[3] / first.points[2]).toBeCloseTo(4 / 3, 5);
  });

  it('of the leading path come last and in full', () => {
    const rows = Float32Array.from([0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0]);
    const paths = { offsets: Int32Array.from([0, 2, 4]), rows };
    const all = pathStrokes(paths, PALETTES.light, () => false, false, 0);
    expect(all.at(-1)!.points).toEqual([0, 0, 1, 0]);
    expect(all[0].opacity).toBeLessThan(all.at(-1)!.opacity);
    const left = pathStrokes(paths, PALETTES.light, () => true, false, 0).filter((each) => each.element === 'corridor');
    expect(left.length).toBe(4);
  });

  it('drape over the ground and taper to an arrow', () => {
    const points = draped(stroke([0, 0, 1, 0], '#000000', 2), (x) => x * x);
    for (const point of points) expect(point.z).toBeCloseTo(point.x ** 2, 6);
    expect(points.length).toBeGreaterThan(10);
    const { head } = splitArrow(points, 2);
    expect(head[0].width).toBeGreaterThan(head[1].width);
    expect(head[1].x).toBe(1);
  });

  it('of paths take colour from the sign and width from the size of the advantage', () => {
    const { paths } = world();
    const scale = advantageScale(paths);
    const made = pathStrokes(paths, PALETTES.light, () => false, false);
    made.forEach((each, i) => {
      const advantage = paths.rows[(i + 1) * 6 + 4];
      expect(each.colour).toBe(advantage >= 0 ? PALETTES.light.accent : PALETTES.light.cool);
      expect(each.width).toBeCloseTo(1.5 * (1.2 + 2.8 * Math.min(1, Math.abs(advantage) / scale)), 5);
    });
    const away = pathStrokes(paths, PALETTES.light, () => true, false);
    expect(away.filter((each) => each.element === 'corridor')).toHaveLength(2);
    expect(away.filter((each) => each.element === 'trajectory').every((each) => each.dashed)).toBe(true);
  });

  it('of unjudged paths use r + V(s′) − V(s)', () => {
    const rows = Float32Array.from([0, 0, 0.1, 5, 0, 0, 1, 0, 0.7, 4, 0, 0]);
    expect(withAdvantage(Int32Array.from([0, 2]), rows)[10]).toBeCloseTo(0.7 + 4 - 5, 6);
    rows[10] = 2;
    expect(withAdvantage(Int32Array.from([0, 2]), rows)).toBe(rows);
  });
});

describe('light and colour', () => {
  it('is brighter on the slope that faces the north-western sun', () => {
    const { normals, sun } = relief(altitudes(65, [[0, 0, 0.7, 1]]), 1);
    const at = (x: number, y: number): number => Math.round(((y + 3) / 6) * 64) * 65 + Math.round(((x + 3) / 6) * 64);
    expect(normals[at(-0.6, 0.6) * 3]).toBeLessThan(0);
    expect(sun[at(1.0, -1.0)]).toBeLessThanOrEqual(sun[at(-1.0, 1.0)]);
  });

  it('runs through the ramp from low to high', () => {
    const table = rampTable(PALETTES.light.ramp);
    expect(Array.from(table.slice(0, 3))).toEqual(rgb('#2F4858').map((each) => Math.round(each * 255)));
    expect(Array.from(table.slice(-4, -1))).toEqual([255, 255, 255]);
  });
});

describe('a model', () => {
  it('says in words what the picture shows', () => {
    const model = new Model();
    const { terrain, frame } = world();
    model.setTerrain(terrain);
    model.setFrame(frame);
    model.pin = { x: 1, y: 0.5, value: 6.4 };
    expect(model.summary()).toMatch(/Summit 1\.00 at x 1\.0, y 0\.5.*value 6\.40.*1 path;/);
    expect(spots(model.ground)[0]).toMatchObject({ kind: 'peak' });
    const sheet: Sheet = { left: 40, top: 30, unit: 100, x: [-3, 3], y: [-3, 3] };
    expect(mapLabels(model, sheet).filter((label) => label.tone === 'ghost').length).toBeGreaterThan(13);
  });

  it('is read from containers; what a container leaves out stays', () => {
    const data = Float32Array.from({ length: 4 }, (_, i) => i);
    const container = { meta: {}, blocks: { 'gold.mean': data, 'gold.mask': Uint8Array.from([1, 1, 0, 1]), value: data }, shapes: { 'gold.mean': [2, 2], value: [2, 2] } };
    expect(layersOf(container, [-3, 3], [-3, 3])!.gold.mask![2]).toBe(0);
    const before = { ...emptyFrame(), route: [[0, 0]] as [number, number][] };
    const frame = frameOf(container, [-3, 3], [-3, 3], before);
    expect(frame.value!.at(3, 3)).toBe(3);
    expect(frame.route).toBe(before.route);
  });
});
