// Numbers, durations and hostile text as they are shown.

const MINUS = '−';

/** A number with about four significant digits: 0.0314, 12.4, 1,234, 1.2e-5; "n/a" for what is not a number. */
export function number(value: number | null | undefined, digits = 3): string {
  if (value === null || value === undefined || Number.isNaN(value)) return 'n/a';
  if (!Number.isFinite(value)) return value > 0 ? '∞' : `${MINUS}∞`;
  const size = Math.abs(value);
  let text: string;
  if (size === 0) text = '0';
  else if (size >= 1e6 || size < 1e-3) text = value.toExponential(Math.max(0, digits - 1)).replace('e+', 'e');
  else if (Number.isInteger(value)) text = value.toLocaleString('en-US');
  else {
    const decimals = Math.max(0, Math.min(6, digits - 1 - Math.floor(Math.log10(size))));
    text = value.toLocaleString('en-US', { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  }
  return text.replaceAll('-', MINUS);
}

/** A number with its sign always written. */
export function signed(value: number | null | undefined, digits = 3): string {
  const text = number(value, digits);
  return value !== null && value !== undefined && value > 0 ? `+${text}` : text;
}

export function percent(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return 'n/a';
  const share = value * 100;
  return `${share.toFixed(share !== 0 && Math.abs(share) < 10 ? 1 : 0).replace('-', MINUS)} %`;
}

/** Seconds as "12 s", "3 min 5 s", "2 h 14 min", "3 d 4 h". */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return 'n/a';
  const whole = Math.round(seconds);
  const two = (a: number, aUnit: string, b: number, bUnit: string): string =>
    b ? `${a} ${aUnit} ${b} ${bUnit}` : `${a} ${aUnit}`;
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(Math.floor(whole / 60), 'min', whole % 60, 's');
  if (whole < 86400) return two(Math.floor(whole / 3600), 'h', Math.floor((whole % 3600) / 60), 'min');
  return two(Math.floor(whole / 86400), 'd', Math.floor((whole % 86400) / 3600), 'h');
}

/** How long ago an epoch second was: "just now", "5 min ago", or the date when it is more than a week. */
export function ago(epoch: number | null | undefined, now = Date.now() / 1000): string {
  if (epoch === null || epoch === undefined) return '';
  const seconds = now - epoch;
  if (seconds < 45) return 'just now';
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
  if (seconds < 604800) return `${Math.round(seconds / 86400)} days ago`;
  return new Date(epoch * 1000).toLocaleDateString('en-GB', { day: 'numeric', month: 'short', year: 'numeric' });
}

export function clock(epoch: number): string {
  return new Date(epoch * 1000).toLocaleTimeString('en-GB', { hour12: false });
}

/** "1 step", "5 steps". */
export function count(amount: number, one: string, many = `${one}s`): string {
  return `${amount.toLocaleString('en-US')} ${amount === 1 ? one : many}`;
}

/** A function of a file by its last part ("/data/gold.py:gold" -> "gold.py:gold"), any other name as it is. */
export function lastPart(name: string): string {
  return name.replace(/^.*\/(?=[^/:]+\.py:\w+$)/, '');
}

/** A name from a file (snake case, slashes) as words: "reward/random_coin" -> "reward / random coin". */
export function words(name: string): string {
  const short = lastPart(name);
  return /\.py:\w+$/.test(short) ? short : short.replaceAll('_', ' ').replaceAll('/', ' / ');
}

// Control, format (bidirectional overrides, zero-width), surrogate and line-separator characters, and tags.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\u2028\u2029]/u;

const CONTROL_NAMES =
  'NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US'.split(' ');

/** What to write for a character that would otherwise be invisible or act on the text around it; null if plain. */
export function controlPicture(character: string): string | null {
  if (character === '\n') return '↵';
  if (character === '\t') return '⇥';
  if (!HIDDEN.test(character)) return null;
  const code = character.codePointAt(0)!;
  return `‹${CONTROL_NAMES[code] ?? (code === 0x7f ? 'DEL' : `U+${code.toString(16).toUpperCase().padStart(4, '0')}`)}›`;
}

export interface TextPiece {
  text: string;
  /** True for the picture of a control character, which is styled apart from the text. */
  control: boolean;
}

/** Splits hostile text into plain pieces and pictures of control characters. Line breaks stay when `breaks`. */
export function visible(text: string, breaks = true): TextPiece[] {
  const pieces: TextPiece[] = [];
  let plain = '';
  const flush = (): void => {
    if (plain) pieces.push({ text: plain, control: false });
    plain = '';
  };
  for (const character of text) {
    const picture = controlPicture(character);
    if (picture === null) plain += character;
    else {
      flush();
      pieces.push({ text: picture, control: true });
      if (character === '\n' && breaks) plain = '\n';
    }
  }
  flush();
  return pieces;
}

/** One line of hostile text for a list, at most `limit` characters. */
export function snippet(text: string, limit = 160): string {
  let out = '';
  let length = 0;
  for (const character of text) {
    if (++length > limit) return `${out}…`;
    out += controlPicture(character) ?? character;
  }
  return out;
}
