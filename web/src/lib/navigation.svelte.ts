// The current route as reactive state, and the only functions that move it.
import { changed, parse, path, type PageName, type Route } from './router';

const base = new URL(document.baseURI).pathname;

function read(): Route {
  return parse(location.pathname, location.search, base);
}

class Navigation {
  route = $state.raw<Route>(read());

  constructor() {
    addEventListener('popstate', () => (this.route = read()));
    document.addEventListener('click', (event) => this.follow(event));
  }

  /** An address inside the studio, for href. Parameters that belong to every page (theme, still) are kept. */
  href(
    page: PageName,
    run: string | null = null,
    stage: string | null = null,
    query: Record<string, string | number | boolean | null | undefined> = {},
  ): string {
    const kept = new URLSearchParams();
    for (const name of ['theme', 'still']) {
      const value = this.route.query.get(name);
      if (value !== null) kept.set(name, value);
    }
    const tail = changed(kept, query).toString();
    return `${base}${path(page, run, stage)}${tail ? `?${tail}` : ''}`;
  }

  go(address: string, replace = false): void {
    const before = location.pathname;
    history[replace ? 'replaceState' : 'pushState'](null, '', address);
    this.route = read();
    if (location.pathname !== before) document.querySelector('main')?.scrollTo(0, 0);
  }

  /** Changes the query only. `replace` (the default) for sliders, so that Back leaves the page. */
  set(
    changes: Record<string, string | number | boolean | null | undefined>,
    options: { replace?: boolean } = {},
  ): void {
    const tail = changed(this.route.query, changes).toString();
    this.go(`${location.pathname}${tail ? `?${tail}` : ''}`, options.replace ?? true);
  }

  text(name: string, otherwise = ''): string {
    return this.route.query.get(name) ?? otherwise;
  }

  number(name: string): number | null {
    const value = this.route.query.get(name);
    if (value === null || value.trim() === '') return null;
    return Number.isFinite(Number(value)) ? Number(value) : null;
  }

  private follow(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    const link = (event.target as Element | null)?.closest('a');
    if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
    if (!link.pathname.startsWith(base) || link.getAttribute('href')?.startsWith('#')) return;
    if (/\.(html|txt|json|png|csv)$/.test(link.pathname)) return;
    event.preventDefault();
    this.go(link.href);
  }
}

export const navigation = new Navigation();
