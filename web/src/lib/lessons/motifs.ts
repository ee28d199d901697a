// What the small picture of each lesson shows: the step, the part of the plane, and what is drawn on it.

export interface Motif {
  step: number;
  /** Middle of the picture and its width, in states; it is three quarters as high. */
  x: number;
  y: number;
  width: number;
  layer: 'gold' | 'proxy';
  paths: number;
  compass?: boolean;
  corridor?: boolean;
  value?: boolean;
  pair?: boolean;
  /** Gains along directions of the parameters instead of a map. */
  lines?: boolean;
}

const WHOLE = { x: 0, y: 0, width: 5.8, layer: 'gold', paths: 12 } as const;

export const MOTIFS: Record<number, Motif> = {
  1: { step: 2, x: -0.75, y: -0.35, width: 3.9, layer: 'gold', paths: 1, compass: true },
  2: { ...WHOLE, step: 3, paths: 0, value: true },
  3: { ...WHOLE, step: 0, x: -0.5, y: -0.2, width: 4.6, paths: 8 },
  4: { step: 0, x: -0.6, y: -0.1, width: 3.4, layer: 'gold', paths: 4 },
  5: { step: 1, x: -1.6, y: -1.1, width: 2.2, layer: 'gold', paths: 6, compass: true },
  6: { ...WHOLE, step: 2, lines: true },
  7: { ...WHOLE, step: 0, paths: 8, x: -0.4, width: 4.8 },
  8: { ...WHOLE, step: 1, paths: 10, corridor: true },
  9: { ...WHOLE, step: 2, layer: 'proxy', x: 0.6, y: -0.2, width: 4.8 },
  10: { ...WHOLE, step: 2 },
  11: { ...WHOLE, step: 2, layer: 'proxy', paths: 0, pair: true },
  12: { ...WHOLE, step: 2, lines: true },
};
