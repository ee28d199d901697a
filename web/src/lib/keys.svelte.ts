// Single-key shortcuts. Pages register theirs while they are open; the help panel lists what is registered.
import { untrack } from 'svelte';

export interface Shortcut {
  /** What is typed: "j", "?", " ", "ArrowLeft", "Shift+ArrowLeft", or a sequence "g r". */
  keys: string[];
  label: string;
  group: string;
  run: (event: KeyboardEvent) => void;
}

const EDITABLE = 'input:not([type=checkbox]):not([type=radio]):not([type=range]), textarea, select, [contenteditable]';
const SEQUENCE_MS = 900;

class Keys {
  registered = $state.raw<Shortcut[]>([]);
  /** WCAG 2.1.4: single-key shortcuts can be switched off. */
  enabled = $state(localStorageFlag('ridgeline.keys', true));
  private pending = '';
  private pendingSince = 0;

  constructor() {
    addEventListener('keydown', (event) => this.pressed(event));
  }

  /** Registers shortcuts; the answer takes them away again (return it from $effect). */
  register(shortcuts: Shortcut[]): () => void {
    // Called from effects, which must not come to depend on the list that they change.
    untrack(() => (this.registered = [...this.registered, ...shortcuts]));
    return () => untrack(() => (this.registered = this.registered.filter((each) => !shortcuts.includes(each))));
  }

  setEnabled(on: boolean): void {
    this.enabled = on;
    try {
      localStorage.setItem('ridgeline.keys', on ? '1' : '0');
    } catch {
      // Without storage the choice lasts for this page.
    }
  }

  private pressed(event: KeyboardEvent): void {
    if (!this.enabled || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target as Element | null;
    if (target?.closest(EDITABLE) || document.querySelector('dialog[open]')) return;
    // Space and the arrows belong to a focused control first: a button is pressed by space, a slider moved by arrows.
    if (event.key === ' ' && target?.closest('button, a, summary, [role=button], input')) return;
    if (event.key.startsWith('Arrow') && target?.closest('input, [role=slider], [role=tablist], [role=grid]')) return;
    const name = event.shiftKey && event.key.length > 1 ? `Shift+${event.key}` : event.key;
    const sequence = Date.now() - this.pendingSince < SEQUENCE_MS ? `${this.pending} ${name}` : '';
    // The page opened last wins, so that a page may give a key of the shell another meaning.
    const all = [...this.registered].reverse();
    const found =
      (sequence && all.find((each) => each.keys.includes(sequence))) || all.find((each) => each.keys.includes(name));
    this.pending = '';
    if (found) {
      event.preventDefault();
      found.run(event);
    } else if (all.some((each) => each.keys.some((keys) => keys.startsWith(`${name} `)))) {
      this.pending = name;
      this.pendingSince = Date.now();
    }
  }
}

function localStorageFlag(name: string, otherwise: boolean): boolean {
  try {
    const value = localStorage.getItem(name);
    return value === null ? otherwise : value === '1';
  } catch {
    return otherwise;
  }
}

export const keys = new Keys();
