// Where the rows of a long list of groups lie: heights are known for fetched groups and guessed for the others.

export const HEAD = 40;
export const ROW = 30;
export const GAP = 10;

export interface Layout {
  /** Top of every group, and one entry more: the height of the whole list. */
  tops: Float64Array;
}

/** Tops of `total` groups; `size(place)` is the number of completions of a fetched group, null otherwise. */
export function layout(total: number, size: (place: number) => number | null): Layout {
  const tops = new Float64Array(total + 1);
  let guess = 1;
  for (let place = 0; place < total; place++) {
    const known = size(place);
    if (known !== null) guess = known;
    tops[place + 1] = tops[place]! + HEAD + ROW * (known ?? guess) + GAP;
  }
  return { tops };
}

/** The first and last group that touch the window from `top` to `top + height`; [0, -1] for an empty list. */
export function visibleRange({ tops }: Layout, top: number, height: number): [number, number] {
  const total = tops.length - 1;
  if (total === 0) return [0, -1];
  const find = (y: number): number => {
    let low = 0;
    let high = total - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (tops[middle]! <= y) low = middle;
      else high = middle - 1;
    }
    return low;
  };
  return [find(Math.max(0, top)), find(Math.max(0, top + height))];
}
