// The typed client of the HTTP API (contract section 5). Every failure is an ApiError with a sentence to show.
import { decode, type Container } from './blocks';

export type RunState = 'running' | 'finished' | 'interrupted' | 'failed' | 'damaged';

export interface StudioState {
  version: string;
  root: string;
  terrains: string[];
  lessons: number;
  demo_command: string;
}

export interface StageSummary {
  id: string;
  name: string;
  type: string;
  state: string;
  steps_done: number;
  steps: number | null;
  headline: string | null;
  has: { samples: boolean; landscape: boolean; traces: boolean };
}

export interface RunSummary {
  id: string;
  name: string;
  state: RunState;
  problem: string | null;
  started: number | null;
  updated: number | null;
  model: string | null;
  seed: number | null;
  kind: 'run' | 'world';
  stages: StageSummary[];
}

export interface RunEvent {
  time: number;
  kind: string;
  stage?: string;
  [key: string]: unknown;
}

export interface RunDetail extends RunSummary {
  recipe: string | null;
  environment: Record<string, unknown> | null;
  summary: unknown;
  events: RunEvent[];
}

export interface Series {
  step: number[];
  mean: (number | null)[];
  low: (number | null)[] | null;
  high: (number | null)[] | null;
}

export interface SeriesAnswer {
  steps_total: number;
  series: Record<string, Series>;
}

export interface OverPoint {
  step: number;
  kl: number | null;
  sqrt_kl: number | null;
  proxy: number | null;
  gold: number | null;
  [bound: string]: number | null;
}

export interface OverAnswer {
  points: OverPoint[];
  best_of_n: { n: number; kl: number }[];
  peak: { step: number; gold?: number; sqrt_kl?: number; kl?: number } | null;
  note: string | null;
}

export interface Alert {
  step: number;
  kind: string;
  severity: 'warning' | 'critical';
  text: string;
}

/** "step", "evaluation", or the name of another kind of samples ("sft/part"). */
export type StepKind = string;

export interface SampleStep {
  kind: StepKind;
  step: number;
  samples: number;
  has_trace: boolean;
}

export interface Completion {
  index: number;
  text: string;
  length: number;
  stop_reason: string;
  rewards: Record<string, number | null>;
  advantage: number | null;
  kl: number | null;
  discarded: string | null;
}

export interface PromptGroup {
  prompt_id: string;
  prompt: string;
  completions: Completion[];
}

export interface GroupsAnswer {
  total: number;
  groups: PromptGroup[];
}

export interface Token {
  piece: string;
  id: number;
  generated: boolean;
  logp: number | null;
  ref_logp: number | null;
  old_logp: number | null;
  kl: number | null;
  advantage: number | null;
  ratio: number | null;
  value: number | null;
  clipped: boolean | null;
}

export interface TokensAnswer {
  tokens: Token[];
  objective: { name: string | null; formulas: Record<string, string>; settings?: Record<string, unknown> } | null;
  text: string;
  missing: Record<string, string>;
}

export interface ReferenceAnswer {
  text: string | null;
  where: string | null;
}

export interface CompareRow {
  name: string;
  a: number | null;
  b: number | null;
  difference: number | null;
  interval: [number, number] | null;
}

export interface CompareAnswer {
  names: string[];
  table: CompareRow[];
  config: { key: string; a: unknown; b: unknown }[];
}

/** A request that failed, with the server's sentence and, where it gave one, the command that mends it. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly mend: string | null = null,
  ) {
    super(message);
  }
}

type Query = Record<string, string | number | null | undefined | string[]>;

/** The address of an API path; a null, undefined or empty parameter is left out. */
export function apiUrl(path: string, query: Query = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (Array.isArray(value)) value.forEach((each) => parameters.append(name, each));
    else if (value !== null && value !== undefined && value !== '') parameters.set(name, String(value));
  }
  const tail = parameters.toString();
  return `api${path}${tail ? `?${tail}` : ''}`;
}

async function request(path: string, query: Query, options: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(apiUrl(path, query), { credentials: 'same-origin', ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError('The studio does not answer; is "ridgeline studio" still running?', 0);
  }
  if (response.ok) return response;
  const body = (await response.json().catch(() => ({}))) as { error?: string; mend?: string };
  const told = body.error ?? (response.status === 401 ? signIn : `The studio answered ${response.status}.`);
  throw new ApiError(told, response.status, body.mend ?? null);
}

const signIn = 'This browser has no access: open the address with the token that "ridgeline studio" printed.';

export async function getJson<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  return (await (await request(path, query, { signal: signal ?? null })).json()) as T;
}

export async function getBlocks<Meta>(path: string, signal?: AbortSignal): Promise<Container<Meta>> {
  return decode<Meta>(await (await request(path, {}, { signal: signal ?? null })).arrayBuffer());
}

const part = encodeURIComponent;
const stagePath = (run: string, stage: string): string => `/runs/${part(run)}/stages/${part(stage)}`;

export const api = {
  state: () => getJson<StudioState>('/state'),
  runs: () => getJson<RunSummary[]>('/runs'),
  run: (run: string, signal?: AbortSignal) => getJson<RunDetail>(`/runs/${part(run)}`, {}, signal),
  series: (
    run: string,
    stage: string,
    query: { names?: string[]; points?: number; from?: number; to?: number } = {},
    signal?: AbortSignal,
  ) => getJson<SeriesAnswer>(`${stagePath(run, stage)}/series`, query, signal),
  over: (run: string, stage: string, signal?: AbortSignal) =>
    getJson<OverAnswer>(`${stagePath(run, stage)}/over`, {}, signal),
  alerts: (run: string, stage: string, signal?: AbortSignal) =>
    getJson<Alert[]>(`${stagePath(run, stage)}/alerts`, {}, signal),
  steps: (run: string, stage: string, signal?: AbortSignal) =>
    getJson<SampleStep[]>(`${stagePath(run, stage)}/steps`, {}, signal),
  groups: (
    run: string,
    stage: string,
    query: { kind: StepKind; step: number; offset: number; limit: number; search?: string; sort?: string },
    signal?: AbortSignal,
  ) => getJson<GroupsAnswer>(`${stagePath(run, stage)}/groups`, query, signal),
  tokens: (
    run: string,
    stage: string,
    query: { kind: StepKind; step: number; prompt_id: string; index: number },
    signal?: AbortSignal,
  ) => getJson<TokensAnswer>(`${stagePath(run, stage)}/tokens`, query, signal),
  reference: (run: string, stage: string, prompt: string, signal?: AbortSignal) =>
    getJson<ReferenceAnswer>(`${stagePath(run, stage)}/reference`, { prompt_id: prompt }, signal),
  compare: (a: string, b: string, signal?: AbortSignal) =>
    getJson<CompareAnswer>('/compare', { a, b }, signal),
  landscapeManifest: <T>(run: string, stage: string, signal?: AbortSignal) =>
    getJson<T>(`${stagePath(run, stage)}/landscape/manifest.json`, {}, signal),
  landscapeFile: <Meta>(run: string, stage: string, file: string, signal?: AbortSignal) =>
    getBlocks<Meta>(`${stagePath(run, stage)}/landscape/${file}`, signal),
  terrain: <T>(name: string) => getJson<T>(`/terrains/${part(name)}`),
  parseTerrain: async <T>(toml: string): Promise<T> =>
    (await (await request('/terrains/parse', {}, { method: 'POST', body: toml })).json()) as T,
  lessons: <T>() => getJson<T>('/lessons'),
  lesson: <T>(number: number) => getJson<T>(`/lessons/${number}`),
  lessonFrames: <Meta>(number: number) => getBlocks<Meta>(`/lessons/${number}/frames`),
};
