// From a point of the map to the completion it stands for.
import { api, type Completion, type PromptGroup, type SampleStep } from '../api';

export interface Found {
  kind: string;
  group: PromptGroup;
  completion: Completion;
}

const PAGE = 100;
const PAGES = 8;

/** The completion of a prompt at a step, looked for in every kind of samples stored for it; null when there is none. */
export async function findCompletion(
  run: string,
  stage: string,
  steps: SampleStep[],
  step: number,
  promptId: string,
  index: number,
  signal: AbortSignal,
): Promise<Found | null> {
  for (const { kind } of steps.filter((each) => each.step === step)) {
    for (let page = 0; page < PAGES; page++) {
      const query = { kind, step, offset: page * PAGE, limit: PAGE, search: promptId };
      const answer = await api.groups(run, stage, query, signal);
      const group = answer.groups.find((each) => each.prompt_id === promptId);
      const completion = group?.completions.find((each) => each.index === index);
      if (group && completion) return { kind, group, completion };
      if (group || (page + 1) * PAGE >= answer.total) break;
    }
  }
  return null;
}
