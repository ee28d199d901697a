import { describe, expect, it } from 'vitest';
import { changed, parse, path, type PageName } from '../src/lib/router';

describe('parse', () => {
  it.each([
    ['/', 'home', null, null],
    ['/world', 'world', null, null],
    ['/lessons/3', 'lessons', null, '3'],
    ['/runs', 'runs', null, null],
    ['/runs/a~b', 'run', 'a~b', null],
    ['/runs/a~b/01-sums', 'run', 'a~b', '01-sums'],
    ['/map/a/01-sums', 'map', 'a', '01-sums'],
    ['/completions/a/01-sums', 'completions', 'a', '01-sums'],
    ['/compare', 'compare', null, null],
    ['/nowhere', 'missing', 'nowhere', null],
    ['/runs/a/b/c', 'missing', 'a', 'b'],
  ] as [string, PageName, string | null, string | null][])('%s is %s', (address, page, run, stage) => {
    const route = parse(address, '?step=4');
    expect(route.page).toBe(page);
    if (page !== 'missing') expect([route.run, route.stage]).toEqual([run, stage]);
    expect(route.query.get('step')).toBe('4');
  });

  it('is undone by path, also for names that need encoding', () => {
    const address = path('completions', 'a b~ü#1', '01-x?y');
    const route = parse(`/${address}`, '');
    expect([route.page, route.run, route.stage]).toEqual(['completions', 'a b~ü#1', '01-x?y']);
  });

  it('works below a proxy path and with a broken escape', () => {
    expect(parse('/user/proxy/7421/runs/r', '', '/user/proxy/7421/').page).toBe('run');
    expect(parse('/runs/%E0%A4%A', '').run).toBe('%E0%A4%A');
  });
});

describe('changed', () => {
  it('sets, removes and keeps', () => {
    const before = new URLSearchParams('a=1&b=2&c=3');
    expect(changed(before, { b: null, c: 0, d: 'x y', e: false, f: true }).toString()).toBe('a=1&c=0&d=x+y&f=1');
    expect(before.toString()).toBe('a=1&b=2&c=3');
  });
});
