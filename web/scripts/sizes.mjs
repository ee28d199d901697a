// The gzip sizes of the build: what the first page loads (the shell), and every lazy chunk.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const folder = join(import.meta.dirname, '../../src/ridgeline/studio/static');
const size = (file) => gzipSync(readFileSync(join(folder, file))).length;
const assets = readdirSync(join(folder, 'assets')).map((name) => `assets/${name}`);
const html = readFileSync(join(folder, 'index.html'), 'utf8');

// The shell: what index.html names, and what those scripts import before they run.
const shell = new Set(['index.html', ...[...html.matchAll(/(?:src|href)="\.?\/?([^"]+\.(?:js|css))"/g)].map((m) => m[1])]);
for (const file of shell) {
  if (!file.endsWith('.js')) continue;
  const head = readFileSync(join(folder, file), 'utf8');
  for (const [, name] of head.matchAll(/(?:from|import)\s*"\.\/([^"]+\.js)"/g)) shell.add(`assets/${name}`);
}

const kB = (bytes) => `${(bytes / 1000).toFixed(1).padStart(7)} kB`;
const total = [...shell].reduce((sum, file) => sum + size(file), 0);
for (const file of assets.filter((name) => /\.(js|css)$/.test(name))) {
  console.log(`${kB(size(file))}  ${shell.has(file) ? 'shell' : 'lazy '}  ${file}`);
}
console.log(`${kB(total)}  shell, gzip (budget 120 kB)`);
const three = assets.filter((name) => /three-.*\.js$/.test(name)).reduce((sum, file) => sum + size(file), 0);
if (total > 120_000 || three > 170_000) {
  console.error('Over budget: the shell may take 120 kB, three.js 170 kB.');
  process.exit(1);
}
