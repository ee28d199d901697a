// A small drawn map for the start page: the height of a few hills as contour lines in SVG paths.
import { contours } from 'd3-contour';

export interface Hill {
  x: number;
  y: number;
  width: number;
  height: number;
}

export function altitude(hills: Hill[], x: number, y: number): number {
  return hills.reduce((sum, hill) => {
    const distance = (x - hill.x) ** 2 + (y - hill.y) ** 2;
    return sum + hill.height * Math.exp(-distance / (2 * hill.width ** 2));
  }, 0);
}

export interface Band {
  level: number;
  path: string;
}

/** Bands of altitude over the rectangle [0, width] x [0, height], lowest first, each covering the ones above. */
export function bands(hills: Hill[], width: number, height: number, levels: number, cell = 8): Band[] {
  const columns = Math.ceil(width / cell) + 1;
  const rows = Math.ceil(height / cell) + 1;
  const values = Array.from({ length: columns * rows }, (_, index) =>
    altitude(hills, (index % columns) * cell, Math.floor(index / columns) * cell),
  );
  const top = values.reduce((a, b) => Math.max(a, b));
  const thresholds = Array.from({ length: levels }, (_, index) => (top * (index + 0.5)) / levels);
  return contours()
    .size([columns, rows])
    .thresholds(thresholds)(values)
    .map((shape, index) => ({
      level: index / Math.max(1, levels - 1),
      path: shape.coordinates
        .flatMap((polygon) => polygon)
        .map((ring) => `M${ring.map(([x, y]) => `${((x! - 0.5) * cell).toFixed(1)} ${((y! - 0.5) * cell).toFixed(1)}`).join('L')}Z`)
        .join(''),
    }));
}
