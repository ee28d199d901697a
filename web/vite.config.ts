// The studio's application: src/main.ts and its lazy pages, written to the Python package's static folder.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { resolve } from 'node:path';
import license from 'rollup-plugin-license';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

const server = process.env.RIDGELINE_SERVER ?? 'http://127.0.0.1:7421';

/** KaTeX names its fonts in three formats; every browser that runs the studio takes the smallest. */
function woff2Only(): Plugin {
  return {
    name: 'woff2-only',
    generateBundle(_options, bundle) {
      for (const name of Object.keys(bundle)) if (/\.(ttf|woff)$/.test(name)) delete bundle[name];
    },
  };
}

export default defineConfig({
  base: './',
  plugins: [
    svelte(),
    woff2Only(),
    license({
      thirdParty: {
        includePrivate: false,
        output: { file: resolve(import.meta.dirname, '../src/ridgeline/studio/static/THIRD_PARTY_LICENSES.txt') },
      },
    }),
  ],
  build: {
    outDir: '../src/ridgeline/studio/static',
    emptyOutDir: true,
    target: 'es2022',
    chunkSizeWarningLimit: 700,
    assetsInlineLimit: 0,
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            { name: 'three', test: /node_modules[\\/]three[\\/]/ },
            { name: 'katex', test: /node_modules[\\/]katex[\\/]/ },
            { name: 'uplot', test: /node_modules[\\/]uplot[\\/]/ },
          ],
        },
      },
    },
  },
  server: { proxy: { '/api': { target: server, ws: true } } },
  test: { include: ['test/**/*.test.ts'], environment: 'node' },
});
