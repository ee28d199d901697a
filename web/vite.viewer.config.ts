// The self-contained viewer: one page with script, style and font inlined, to which Python adds a record.
import { mkdirSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { defineConfig, type Plugin, type Rolldown } from 'vite';

type OutputBundle = Rolldown.OutputBundle;

const OUT = process.env.RIDGELINE_VIEWER_OUT ?? resolve(import.meta.dirname, '../src/ridgeline/studio/static');

/** Puts every chunk and style into the page and writes that page alone. */
function onePage(): Plugin {
  return {
    name: 'one-page',
    enforce: 'post',
    generateBundle: { order: 'post', handler: writePage },
  };
}

function writePage(_: unknown, bundle: OutputBundle): void {
  let page = '';
  let style = '';
  let script = '';
  for (const file of Object.values(bundle)) {
    if (file.type === 'chunk') script += file.code.replaceAll('__VITE_PRELOAD__', 'void 0');
    else if (file.fileName.endsWith('.html')) page = String(file.source);
    else if (file.fileName.endsWith('.css')) style += String(file.source);
  }
  page = page.replace(/<script type="module"[^>]*><\/script>/, '').replace(/<link rel="stylesheet"[^>]*>/, '');
  // A function as replacement: the code may hold "$&" and its like.
  page = page.replace('</head>', () => `<style>${style}</style></head>`);
  page = page.replace('</body>', () => `<script type="module">${script.replaceAll('</script', '<\\/script')}</script></body>`);
  mkdirSync(OUT, { recursive: true });
  writeFileSync(resolve(OUT, 'viewer.html'), page);
  for (const name of Object.keys(bundle)) delete bundle[name];
}

export default defineConfig({
  base: './',
  plugins: [onePage()],
  publicDir: false,
  build: {
    outDir: OUT,
    emptyOutDir: false,
    target: 'es2022',
    assetsInlineLimit: 1_000_000,
    cssCodeSplit: false,
    chunkSizeWarningLimit: 2000,
    modulePreload: false,
    rolldownOptions: { input: resolve(import.meta.dirname, 'viewer.html'), output: { codeSplitting: false } },
  },
});
