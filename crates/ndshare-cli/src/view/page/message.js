// Messages of the server, byte by byte as in docs/view.md.

const HEAD_BYTES = 72;
export const KINDS = { 1: "picture", 2: "spectrum", 3: "file", 4: "print" };
const HAS_NO_NUMBERS = 1;
const HAS_OVER = 2;

/** A binary message as an object. */
export function parse(buffer) {
  const head = new DataView(buffer);
  if (head.getUint32(0, false) !== 0x4e445356 || head.getUint8(4) !== 1) {
    throw new Error("expected a message of version 1, got another one: reload the page");
  }
  const word = (at) => head.getUint32(at, true);
  const json = word(64);
  const at = HEAD_BYTES + json;
  const bytes = head.getUint8(6);
  const flags = word(12);
  return {
    kind: KINDS[head.getUint8(5)],
    channels: head.getUint8(7),
    source: word(8),
    width: word(16),
    height: word(20),
    region: [word(24), word(28), word(32), word(36)],
    seq: Number(head.getBigUint64(40, true)),
    offset: head.getFloat64(48, true),
    scale: head.getFloat64(56, true),
    hasNoNumbers: (flags & HAS_NO_NUMBERS) !== 0,
    hasOver: (flags & HAS_OVER) !== 0,
    bytes,
    told: JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, HEAD_BYTES, json))),
    // Typed arrays are in the order of this machine, which is little-endian wherever browsers run.
    codes: bytes === 1 ? new Uint8Array(buffer, at) : new Uint16Array(buffer, at, (buffer.byteLength - at) / 2),
    payload: new Uint8Array(buffer, at),
  };
}
