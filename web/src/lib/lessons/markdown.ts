// The markdown of lesson texts: paragraphs, lists, **strong**, *emphasis*, `code`, $math$, $$display math$$.
// The result is a tree of plain text; nothing becomes HTML.

export type Inline = { kind: 'text' | 'strong' | 'emphasis' | 'code' | 'math'; text: string };
export type Block =
  | { kind: 'paragraph'; inlines: Inline[] }
  | { kind: 'list'; items: Inline[][] }
  | { kind: 'display'; text: string };

const TOKEN = /\*\*(?<strong>[^*]+)\*\*|\*(?<emphasis>[^*\s][^*]*)\*|`(?<code>[^`]+)`|\$(?<math>[^$]+)\$/g;

export function inlines(text: string): Inline[] {
  const out: Inline[] = [];
  let from = 0;
  for (const found of text.matchAll(TOKEN)) {
    if (found.index > from) out.push({ kind: 'text', text: text.slice(from, found.index) });
    const [kind, inner] = Object.entries(found.groups!).find(([, value]) => value !== undefined)!;
    out.push({ kind: kind as Inline['kind'], text: inner! });
    from = found.index + found[0].length;
  }
  if (from < text.length) out.push({ kind: 'text', text: text.slice(from) });
  return out;
}

export function markdown(source: string): Block[] {
  return source
    .split(/\n\s*\n/)
    .map((part) => part.trim())
    .filter(Boolean)
    .map((part) => {
      if (part.startsWith('$$') && part.endsWith('$$') && part.length > 4) return { kind: 'display', text: part.slice(2, -2).trim() };
      const lines = part.split('\n').map((line) => line.trim());
      if (lines.every((line) => line.startsWith('- '))) return { kind: 'list', items: lines.map((line) => inlines(line.slice(2))) };
      return { kind: 'paragraph', inlines: inlines(lines.join(' ')) };
    });
}
