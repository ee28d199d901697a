import { describe, expect, it } from 'vitest';
import { decode, floats, halfToFloat } from '../src/lib/blocks';

function container(meta: unknown, blocks: { name: string; dtype: string; shape: number[]; bytes: Uint8Array }[]): ArrayBuffer {
  let offset = 0;
  const listed = blocks.map(({ name, dtype, shape, bytes }) => {
    const entry = { name, dtype, shape, offset };
    offset += Math.ceil(bytes.length / 8) * 8;
    return entry;
  });
  let header = JSON.stringify({ meta, blocks: listed });
  while ((8 + new TextEncoder().encode(header).length) % 8) header += ' ';
  const head = new TextEncoder().encode(header);
  const out = new Uint8Array(8 + head.length + offset);
  out.set(new TextEncoder().encode('RDG1'));
  new DataView(out.buffer).setUint32(4, head.length, true);
  out.set(head, 8);
  blocks.forEach((block, index) => out.set(block.bytes, 8 + head.length + listed[index]!.offset));
  return out.buffer;
}

const bytes = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer);

describe('decode', () => {
  const data = container({ step: 3, name: 'hügel' }, [
    { name: 'odd', dtype: 'uint8', shape: [3], bytes: new Uint8Array([1, 2, 255]) },
    { name: 'points', dtype: 'float32', shape: [2, 2], bytes: bytes(new Float32Array([0.5, -1, NaN, 3])) },
    { name: 'half', dtype: 'float16', shape: [3], bytes: bytes(new Uint16Array([0x3c00, 0xc000, 0x7e00])) },
    { name: 'ids', dtype: 'int32', shape: [1], bytes: bytes(new Int32Array([-7])) },
  ]);

  it('reads every kind of block at its own offset', () => {
    const { meta, blocks, shapes } = decode(data);
    expect(meta).toEqual({ step: 3, name: 'hügel' });
    expect([...blocks.odd!]).toEqual([1, 2, 255]);
    expect([...blocks.points!]).toEqual([0.5, -1, NaN, 3]);
    expect([...blocks.half!]).toEqual([1, -2, NaN]);
    expect([...blocks.ids!]).toEqual([-7]);
    expect(shapes.points).toEqual([2, 2]);
  });

  it('tells floats from other blocks', () => {
    const got = decode(data);
    expect(floats(got, 'half')).toBeInstanceOf(Float32Array);
    expect(floats(got, 'ids')).toBeNull();
    expect(floats(got, 'nothing')).toBeNull();
  });

  it('refuses damaged containers', () => {
    expect(() => decode(new ArrayBuffer(4))).toThrow(/shorter/);
    expect(() => decode(new Uint8Array(16).buffer)).toThrow(/RDG1/);
    expect(() => decode(data.slice(0, 20))).toThrow(/header/);
    expect(() => decode(data.slice(0, data.byteLength - 16))).toThrow(/cut short inside the block/);
  });
});

describe('halfToFloat', () => {
  it('agrees with the standard at its corners', () => {
    expect(halfToFloat(0x0001)).toBe(2 ** -24);
    expect(halfToFloat(0x03ff)).toBeCloseTo(6.097555160522461e-5, 12);
    expect(halfToFloat(0x7bff)).toBe(65504);
    expect(halfToFloat(0xfc00)).toBe(-Infinity);
    expect(halfToFloat(0x3555)).toBeCloseTo(1 / 3, 3);
  });
});
