// A terrain as the TOML text that the library reads (landscape/world/terrain_file.py).
import type { TerrainDict } from './client';

function literal(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`;
  return String(value);
}

/** Scalars first, then one table per layer; null keys are left out, since TOML has no null. */
export function terrainToml(terrain: TerrainDict): string {
  const lines: string[] = [];
  for (const [key, value] of Object.entries(terrain)) {
    if (key === 'layers' || value === null || value === undefined) continue;
    lines.push(`${key} = ${literal(value)}`);
  }
  for (const [name, layer] of Object.entries(terrain.layers)) {
    lines.push('', `[layers.${name}]`);
    for (const [key, value] of Object.entries(layer)) {
      if (value === null || value === undefined) continue;
      const rows = value as unknown[];
      lines.push(rows.length ? `${key} = [\n${rows.map((row) => `  ${literal(row)},`).join('\n')}\n]` : `${key} = []`);
    }
  }
  return `${lines.join('\n')}\n`;
}
