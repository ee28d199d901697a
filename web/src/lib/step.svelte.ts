// The one step of a stage that charts, map and completions share. It lives in the address (?step=).
import { nearest } from './smoothing';
import { navigation } from './navigation.svelte';
import { calm } from './testing';

class StepState {
  /** The steps that the open page can show, ascending. */
  steps = $state.raw<number[]>([]);
  playing = $state(false);
  /** Steps per second while playing. */
  speed = $state(2);
  private timer: ReturnType<typeof setInterval> | undefined;

  readonly wanted = $derived(navigation.number('step'));

  /** The place in `steps`; the last one when the address names none, -1 when there are no steps. */
  readonly index = $derived(
    this.wanted === null ? this.steps.length - 1 : nearest(this.steps, this.wanted),
  );

  readonly value = $derived(this.index < 0 ? null : this.steps[this.index]!);

  /** True when the page follows the newest step of a run being written. */
  readonly following = $derived(this.wanted === null);

  to(step: number | null): void {
    navigation.set({ step });
  }

  by(places: number): void {
    if (this.index < 0) return;
    const next = Math.max(0, Math.min(this.steps.length - 1, this.index + places));
    this.to(this.steps[next]!);
  }

  play(on = !this.playing): void {
    clearInterval(this.timer);
    this.playing = on && this.steps.length > 1;
    if (!this.playing) return;
    if (this.index >= this.steps.length - 1) this.to(this.steps[0]!);
    this.timer = setInterval(() => {
      if (this.index >= this.steps.length - 1) this.play(false);
      else this.by(1);
    }, 1000 / this.speed);
  }

  faster(factor: number): void {
    this.speed = Math.max(0.5, Math.min(32, this.speed * factor));
    if (this.playing) this.play(true);
  }

  /** Whether moving by itself is welcome; a press of play always is. */
  readonly still = calm();
}

export const step = new StepState();
