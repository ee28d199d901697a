// A recorded lesson: what the live world would have told, step by step.
import type { Container } from '../blocks';
import type { LessonScene, RecordedMeta } from './types';

/** The scene of a step; blocks that a step shares with an earlier one are taken from there. */
export function recordedScene(recording: Container<RecordedMeta>, step: number): Container<LessonScene> {
  const steps = recording.meta.steps;
  const shown = Math.max(0, Math.min(steps.length - 1, step));
  const { same, ...meta } = steps[shown]!;
  const out: Container<LessonScene> = { meta: { ...meta, id: null, type: 'lesson', ok: true }, blocks: {}, shapes: {} };
  const take = (name: string, source: string): void => {
    out.blocks[name] = recording.blocks[source]!;
    out.shapes[name] = recording.shapes[source]!;
  };
  const own = `${shown}/`;
  for (const name of Object.keys(recording.blocks)) if (name.startsWith(own)) take(name.slice(own.length), name);
  for (const [name, source] of Object.entries(same)) if (source in recording.blocks) take(name, source);
  return out;
}
