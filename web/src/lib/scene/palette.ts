// The colours of the map (contract, section 7), the same in 3-D, in 2-D and in matplotlib.

export type Theme = 'light' | 'dark';

export interface Palette {
  paper: string;
  surface: string;
  ink: string;
  muted: string;
  line: string;
  accent: string;
  cool: string;
  mint: string;
  pin: string;
  value: string;
  proxy: string;
  /** Sides of the relief model, top and bottom. */
  plinth: [string, string];
  ramp: string[];
}

export const PALETTES: Record<Theme, Palette> = {
  light: {
    paper: '#FAF8F4',
    surface: '#FFFFFF',
    ink: '#1B1F24',
    muted: '#5B6470',
    line: '#E3DED5',
    accent: '#B4411F',
    cool: '#2B6CB0',
    mint: '#1E8E6E',
    pin: '#D7263D',
    value: '#6B4FBB',
    proxy: '#B7791F',
    plinth: ['#E9E2D3', '#CFC5B1'],
    ramp: ['#2F4858', '#3F6B6E', '#6E9075', '#B5B682', '#E4D3A2', '#F3E9D2', '#FFFFFF'],
  },
  dark: {
    paper: '#11151A',
    surface: '#181D24',
    ink: '#E8E6E1',
    muted: '#9BA5B1',
    line: '#2A313A',
    accent: '#F0875A',
    cool: '#6FA8E8',
    mint: '#4FC3A1',
    pin: '#FF5C6C',
    value: '#A894F0',
    proxy: '#E3B341',
    plinth: ['#2A323C', '#161B21'],
    ramp: ['#0E2230', '#1C4148', '#3B6454', '#7C8A5B', '#BFA872', '#E6D5B0', '#FFF8EA'],
  },
};

export type Rgb = [number, number, number];

/** '#RRGGBB' as three numbers from 0 to 1. */
export function rgb(hex: string): Rgb {
  const number = parseInt(hex.slice(1), 16);
  return [((number >> 16) & 255) / 255, ((number >> 8) & 255) / 255, (number & 255) / 255];
}

/** The ramp as a table of bytes (rgba), low to high. */
export function rampTable(ramp: string[], size = 256): Uint8Array {
  const stops = ramp.map(rgb);
  const table = new Uint8Array(size * 4);
  for (let i = 0; i < size; i++) {
    const place = (i / (size - 1)) * (stops.length - 1);
    const base = Math.min(stops.length - 2, Math.floor(place));
    const t = place - base;
    for (let c = 0; c < 3; c++) table[i * 4 + c] = Math.round(255 * (stops[base][c] * (1 - t) + stops[base + 1][c] * t));
    table[i * 4 + 3] = 255;
  }
  return table;
}

/** Colour of an advantage: accent when positive, cool when negative; strength from 0 to 1 blends from grey. */
export function advantageColour(palette: Palette, advantage: number): Rgb {
  return rgb(advantage >= 0 ? palette.accent : palette.cool);
}
