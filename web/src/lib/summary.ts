// What happened in a run, in a sentence made of what its folder says.
import type { RunEvent, RunSummary, StageSummary } from './api';
import { count } from './format';

/** "3 of 6 stages finished; working on policy, step 12 of 16." */
export function sentence(run: RunSummary): string {
  const done = run.stages.filter((stage) => stage.state === 'finished').length;
  const current = run.stages.find((stage) => stage.state === run.state && stage.state !== 'finished');
  const all = count(run.stages.length, 'stage');
  if (!run.stages.length) return run.state === 'running' ? 'Just started.' : 'No stage has begun.';
  if (run.state === 'finished') return done === 1 && run.stages.length === 1 ? 'Finished.' : `All ${all} finished.`;
  const far = `${done} of ${all} finished`;
  const where = current ? `${current.name}${progress(current)}` : null;
  if (run.state === 'running') return where ? `${far}; working on ${where}.` : `${far}; between stages.`;
  if (run.state === 'interrupted') return where ? `${far}; interrupted in ${where}.` : `${far}; interrupted.`;
  if (run.state === 'failed') return where ? `${far}; failed in ${where}.` : `${far}; failed.`;
  return `${far}; shown as far as the folder can be read.`;
}

function progress(stage: StageSummary): string {
  if (!stage.steps_done) return '';
  return stage.steps ? ` at step ${stage.steps_done} of ${stage.steps}` : ` at step ${stage.steps_done}`;
}

/** The headline that tells most: of the stage at work, else of the last finished stage that has one. */
export function leading(run: RunSummary): StageSummary | null {
  const told = run.stages.filter((stage) => stage.headline);
  return told.find((stage) => stage.state === 'running') ?? told[told.length - 1] ?? null;
}

/** The stage to open first. */
export function firstStage(run: RunSummary): StageSummary | null {
  const begun = run.stages.filter((stage) => stage.steps_done > 0 || stage.has.samples);
  return (
    run.stages.find((stage) => stage.state === 'running') ??
    begun.find((stage) => stage.has.samples && stage.type === 'rl') ??
    begun[begun.length - 1] ??
    run.stages[0] ??
    null
  );
}

/** An event of events.jsonl as words: its kind, and whatever else it carries. */
export function eventWords(event: RunEvent): string {
  const rest = Object.entries(event)
    .filter(([name]) => !['time', 'kind', 'stage'].includes(name))
    .map(([name, value]) => `${name.replaceAll('_', ' ')} ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`);
  return rest.join(', ');
}
