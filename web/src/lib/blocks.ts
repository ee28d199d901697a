// The binary container of contract section 1: a JSON header, then named little-endian arrays in C order.

export type BlockArray = Float32Array | Int32Array | Uint16Array | Uint8Array;

export interface Container<Meta = Record<string, unknown>> {
  meta: Meta;
  blocks: Record<string, BlockArray>;
  shapes: Record<string, number[]>;
}

interface BlockHeader {
  name: string;
  dtype: string;
  shape: number[];
  offset: number;
}

const ITEM_SIZE: Record<string, number> = { float32: 4, float16: 2, int32: 4, uint16: 2, uint8: 1 };

/** The value of an IEEE 754 half-precision number given by its 16 bits. */
export function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function view(bytes: ArrayBuffer, dtype: string, length: number): BlockArray {
  switch (dtype) {
    case 'float32':
      return new Float32Array(bytes, 0, length);
    case 'int32':
      return new Int32Array(bytes, 0, length);
    case 'uint16':
      return new Uint16Array(bytes, 0, length);
    case 'uint8':
      return new Uint8Array(bytes, 0, length);
    case 'float16':
      return Float32Array.from(new Uint16Array(bytes, 0, length), halfToFloat);
    default:
      throw new Error(`The container holds a block of the unknown type "${dtype}".`);
  }
}

/** Decodes a container; throws an Error with one sentence when it is damaged. */
export function decode<Meta = Record<string, unknown>>(buffer: ArrayBuffer): Container<Meta> {
  if (buffer.byteLength < 8) throw new Error('The container is shorter than its own header.');
  const head = new DataView(buffer);
  const magic = String.fromCharCode(head.getUint8(0), head.getUint8(1), head.getUint8(2), head.getUint8(3));
  if (magic !== 'RDG1') throw new Error('The data are not a RDG1 container.');
  const headerLength = head.getUint32(4, true);
  const start = 8 + headerLength;
  if (start > buffer.byteLength) throw new Error('The container is cut short inside its header.');
  const text = new TextDecoder().decode(new Uint8Array(buffer, 8, headerLength));
  const header = JSON.parse(text) as { meta: Meta; blocks: BlockHeader[] };
  const blocks: Record<string, BlockArray> = {};
  const shapes: Record<string, number[]> = {};
  for (const { name, dtype, shape, offset } of header.blocks) {
    const length = shape.reduce((product, size) => product * size, 1);
    const from = start + offset;
    const to = from + length * (ITEM_SIZE[dtype] ?? 0);
    if (to > buffer.byteLength) throw new Error(`The container is cut short inside the block "${name}".`);
    blocks[name] = view(buffer.slice(from, to), dtype, length);
    shapes[name] = shape;
  }
  return { meta: header.meta, blocks, shapes };
}

/** A block as floats, or null when the container does not carry it. */
export function floats(container: Container<unknown>, name: string): Float32Array | null {
  const block = container.blocks[name];
  return block instanceof Float32Array ? block : null;
}
