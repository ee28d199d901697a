// The difference of two texts by words: the longest common subsequence, with both ends trimmed first.

export interface DiffPiece {
  kind: 'same' | 'added' | 'removed';
  text: string;
}

const LIMIT = 4_000_000;

function pieces(text: string): string[] {
  return text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];
}

/** What has to be taken from `before` and put in to get `after`. Texts too long to align come whole. */
export function diff(before: string, after: string): DiffPiece[] {
  const a = pieces(before);
  const b = pieces(after);
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const out: DiffPiece[] = [];
  const push = (kind: DiffPiece['kind'], text: string): void => {
    const last = out[out.length - 1];
    if (!text) return;
    if (last?.kind === kind) last.text += text;
    else out.push({ kind, text });
  };
  push('same', a.slice(0, head).join(''));
  middle(a.slice(head, a.length - tail), b.slice(head, b.length - tail), push);
  push('same', a.slice(a.length - tail).join(''));
  return out;
}

function middle(a: string[], b: string[], push: (kind: DiffPiece['kind'], text: string) => void): void {
  if (a.length * b.length > LIMIT) {
    push('removed', a.join(''));
    push('added', b.join(''));
    return;
  }
  const width = b.length + 1;
  const common = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      common[i * width + j] =
        a[i] === b[j]
          ? common[(i + 1) * width + j + 1]! + 1
          : Math.max(common[(i + 1) * width + j]!, common[i * width + j + 1]!);
    }
  }
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      push('same', a[i]!);
      i++;
      j++;
    } else if (j >= b.length || (i < a.length && common[(i + 1) * width + j]! >= common[i * width + j + 1]!)) {
      push('removed', a[i++]!);
    } else {
      push('added', b[j++]!);
    }
  }
}
