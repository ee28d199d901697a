/// <reference types="svelte" />
/// <reference types="vite/client" />

interface Window {
  /** What tests read and drive: `ready` turns true when the page shows what its address asks for. */
  __studio: import('./lib/testing').StudioProbe;
}
