// History paths and the view state in the query: an address reproduces what is on the screen.

export type PageName =
  | 'home'
  | 'world'
  | 'lessons'
  | 'runs'
  | 'run'
  | 'map'
  | 'completions'
  | 'compare'
  | 'missing';

export interface Route {
  page: PageName;
  run: string | null;
  stage: string | null;
  query: URLSearchParams;
}

const WITH_STAGE: Record<string, PageName> = { map: 'map', completions: 'completions' };
const PLAIN = new Set(['world', 'lessons', 'compare']);

/** The page that a path names. `base` is the path that the studio is served under ("/" or "/proxy/7421/"). */
export function parse(pathname: string, search: string, base = '/'): Route {
  const inside = pathname.startsWith(base) ? pathname.slice(base.length) : pathname.replace(/^\//, '');
  const parts = inside.split('/').filter(Boolean).map(decode);
  const query = new URLSearchParams(search);
  const [page = 'home', run = null, stage = null] = parts;
  const route = (name: PageName): Route => ({ page: name, run, stage, query });
  if (page === 'home') return route('home');
  if (page === 'runs' && parts.length <= 3) return route(run ? 'run' : 'runs');
  if (PLAIN.has(page) && parts.length <= 2) return { page: page as PageName, run: null, stage: run, query };
  const staged = WITH_STAGE[page];
  if (staged && parts.length <= 3) return route(staged);
  return route('missing');
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The path of a page, without the query. */
export function path(page: PageName, run: string | null = null, stage: string | null = null): string {
  const name = page === 'run' ? 'runs' : page === 'home' ? '' : page;
  return [name, run, stage].filter((each) => each !== null && each !== '').map((each) => encodeURIComponent(each!)).join('/');
}

/** `query` with changes applied: null or "" removes a parameter. Order is kept, so that addresses stay stable. */
export function changed(
  query: URLSearchParams,
  changes: Record<string, string | number | boolean | null | undefined>,
): URLSearchParams {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === '' || value === false) next.delete(name);
    else next.set(name, value === true ? '1' : String(value));
  }
  return next;
}
