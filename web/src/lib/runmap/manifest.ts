// What a recorded landscape says about itself, beside what the views need (contract, section 2; changes.md [M]).
import type { Manifest } from '../scene/adapt';

export interface MapDetails {
  start?: [number, number];
  route?: [number, number][];
  goal?: [number, number, number] | null;
  horizon?: number;
  pin?: [number, number];
  /** Names by prompt number. */
  prompts?: string[];
  /** The reward's name by layer. */
  layers?: Record<string, string>;
  encoder?: string;
  centred?: string;
  judged_on?: string;
  advantage?: string;
  axis_fit_r2?: number | null;
  plane_share_of_reference_variance?: number | null;
  samples?: number;
  reference_samples?: number;
  share_of_samples_with_traced_advantage?: number;
  raw_altitude?: boolean;
}

export type MapManifest = Omit<Manifest, 'axes' | 'details'> & {
  axes: Manifest['axes'] & { fitted_on: string | null; samples: number | null };
  details?: MapDetails;
  seeds?: number[];
  created?: string;
};

export type Scalars = Record<string, number | null>;

/** Below these a map shows hardly anything; the same bounds as landscape/maps/words.py. */
const LOW_R2 = 0.1;
const LOW_SHOWN = 0.05;

export interface Verdict {
  /** "little" when hills or drift are not to be believed, "care" when the record warns, otherwise "fair". */
  kind: 'little' | 'care' | 'fair';
  title: string;
  sentences: string[];
}

/** How far the map is to be trusted, at a frame. */
export function verdict(manifest: MapManifest, scalars: Scalars): Verdict {
  const r2 = manifest.altitude.r2[manifest.altitude.active] ?? null;
  const shown = scalars.shown ?? null;
  const sentences = [...manifest.warnings];
  const flat = manifest.kind === 'lm' && r2 !== null && r2 < LOW_R2;
  const blind = manifest.kind === 'lm' && shown !== null && shown < LOW_SHOWN;
  if (flat && !sentences.some((each) => each.startsWith('Altitude'))) {
    sentences.unshift(`Altitude: places explain almost nothing of the reward (held-out R² ${r2.toFixed(2)}).`);
  }
  if (blind && !sentences.some((each) => each.startsWith('Drift'))) {
    sentences.unshift(`Drift: this step's picture shows ${(100 * shown).toFixed(0)} % of it.`);
  }
  if (flat || blind) return { kind: 'little', title: 'This map says little', sentences };
  if (sentences.length) return { kind: 'care', title: 'Read this map with care', sentences };
  return { kind: 'fair', title: '', sentences };
}

export interface Outside {
  level: number;
  now: number;
  low: number | null;
  high: number | null;
  /** The most that the measured KL allows; null when the KL was not measured. */
  allowed: number | null;
  /** A bound of (nearly) everything forbids nothing. */
  vacuous: boolean;
}

/** Mass outside the reference's contours against the data-processing bound. */
export function outside(scalars: Scalars): Outside[] {
  const out: Outside[] = [];
  for (const level of [90, 99]) {
    const now = scalars[`outside_${level}`];
    if (now === null || now === undefined) continue;
    const allowed = scalars[`allowed_${level}`] ?? null;
    out.push({
      level,
      now,
      low: scalars[`outside_${level}_low`] ?? null,
      high: scalars[`outside_${level}_high`] ?? null,
      allowed,
      vacuous: allowed !== null && allowed >= 0.995,
    });
  }
  return out;
}

/** Names short enough to stand at the edge of the picture; the whole ones are in the panel. */
export function axisNames(manifest: MapManifest): { x: string; y: string } | undefined {
  if (manifest.kind !== 'lm') return undefined;
  const x = { reward_axis: 'reward axis, σ', drift: 'drift axis, σ', pca: 'first axis, σ' }[manifest.axes.method];
  return { x: x ?? manifest.axes.x.name, y: 'main axis of the rest, σ' };
}

const CHARTS_LM = ['kl', 'shown', 'outside_99', 'outside_90', 'length'];
const CHARTS_EXACT = ['return_gold', 'return_proxy', 'kl', 'entropy', 'clip_fraction', 'gradient_cosine', 'success'];

/** The scalars drawn over the frames, in order; those that never have a value are left out. */
export function charted(manifest: MapManifest): string[] {
  const altitudes = manifest.scalars.filter((name) => name.startsWith('altitude_'));
  const wanted = manifest.kind === 'lm' ? [...altitudes, ...CHARTS_LM] : CHARTS_EXACT;
  return wanted.filter((name) => manifest.frames.some((frame) => typeof frame.scalars[name] === 'number'));
}

const SHARES = /^(shown|outside_|allowed_|clip_fraction|success|dead_groups)/;
const NAMES: Record<string, string> = {
  kl: 'KL',
  shown: 'drift shown',
  outside_99: 'outside 99 %',
  outside_90: 'outside 90 %',
  length: 'length, tokens',
  return_gold: 'J gold',
  return_proxy: 'J proxy',
  clip_fraction: 'clipped',
  gradient_cosine: 'cosine to exact gradient',
};

export function scalarName(manifest: MapManifest, name: string): string {
  const layer = name.startsWith('altitude_') ? name.slice('altitude_'.length) : null;
  if (layer !== null) return `mean ${rewardName(manifest.details?.layers?.[layer] ?? layer)}`;
  return NAMES[name] ?? name.replaceAll('_', ' ');
}

export function isShare(name: string): boolean {
  return SHARES.test(name);
}

/** A sentence of the record as it is printed: R², ±, and a true minus before numbers. */
export function typeset(text: string): string {
  return text
    .replace(/\bR2\b/g, 'R²')
    .replaceAll('+-', '±')
    .replace(/(^|[\s(=[])-(?=[\d.])/g, '$1−')
    .replace(/(\w) - (?=\w)/g, '$1 − ');
}

/** What a layer is and which reward that was: "proxy: judge few". */
export function layerWords(manifest: MapManifest | null, layer: string): string {
  const name = rewardName(manifest?.details?.layers?.[layer] ?? layer);
  return name === layer ? name : `${layer}: ${name}`;
}

/** A reward's name as it is shown; one given as "folder/gold.py:function" goes by its file. */
function rewardName(name: string): string {
  const file = /([^/\\]+\.py)(:\w+)?$/.exec(name);
  return file ? file[1]! : name.replaceAll('_', ' ');
}
