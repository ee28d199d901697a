// Labels that never overlap: greedy placement, the important first.

export interface Anchor {
  x: number;
  y: number;
  width: number;
  height: number;
  /** Larger is placed earlier. */
  priority: number;
  /** Distance from the anchor. */
  gap: number;
}

export interface Box {
  left: number;
  top: number;
}

/** A box for each anchor, or null where there is no room. Boxes stay inside width x height. */
export function place(anchors: Anchor[], width: number, height: number, taken: (Box & { width: number; height: number })[] = []): (Box | null)[] {
  const order = anchors.map((_, i) => i).sort((a, b) => anchors[b].priority - anchors[a].priority || a - b);
  const used = taken.slice();
  const out: (Box | null)[] = anchors.map(() => null);
  for (const i of order) {
    const anchor = anchors[i];
    for (const box of candidates(anchor)) {
      if (box.left < 2 || box.top < 2 || box.left + anchor.width > width - 2 || box.top + anchor.height > height - 2) continue;
      const clear = used.every(
        (other) =>
          box.left + anchor.width + 3 <= other.left ||
          other.left + other.width + 3 <= box.left ||
          box.top + anchor.height + 2 <= other.top ||
          other.top + other.height + 2 <= box.top,
      );
      if (!clear) continue;
      out[i] = box;
      used.push({ ...box, width: anchor.width, height: anchor.height });
      break;
    }
  }
  return out;
}

/** Right, left, above, below, then the corners. */
function candidates({ x, y, width, height, gap }: Anchor): Box[] {
  if (gap === 0) return [{ left: x - width / 2, top: y - height / 2 }];
  const middle = y - height / 2;
  return [
    { left: x + gap, top: middle },
    { left: x - gap - width, top: middle },
    { left: x - width / 2, top: y - gap - height },
    { left: x - width / 2, top: y + gap },
    { left: x + gap * 0.8, top: y - gap * 0.8 - height },
    { left: x + gap * 0.8, top: y + gap * 0.8 },
    { left: x - gap * 0.8 - width, top: y - gap * 0.8 - height },
    { left: x - gap * 0.8 - width, top: y + gap * 0.8 },
  ];
}

/** Width of a label in pixels, without asking the layout engine. */
export function textWidth(text: string, size: number): number {
  let units = 0;
  for (const letter of text) units += 'iljt.,:;|!\' '.includes(letter) ? 0.32 : letter >= 'A' && letter <= 'Z' ? 0.68 : 0.58;
  return Math.ceil(units * size) + 2;
}
