// The stream protocol's frames: 24 bytes of header, then 16-bit samples, or pictures. Mirrors streaming/PROTOCOL.md.
export const HEADER = 24;
const SOUND = 1; // the kind of 16-bit samples

export function pack(seq, pts, at, last, sound) {
  const data = new ArrayBuffer(HEADER + 2 * sound.length);
  const view = new DataView(data);
  view.setUint8(0, SOUND);
  view.setUint8(1, last ? 1 : 0);
  view.setUint32(4, seq, true);
  view.setBigInt64(8, BigInt(pts), true);
  view.setBigInt64(16, BigInt(Math.round(at)), true);
  const samples = new Int16Array(data, HEADER);
  for (let i = 0; i < sound.length; i++) samples[i] = Math.max(-32768, Math.min(32767, Math.round(sound[i] * 32768)));
  return data;
}

export function unpack(data) {
  const view = new DataView(data);
  const frame = {
    last: (view.getUint8(1) & 1) === 1,
    seq: view.getUint32(4, true),
    pts: Number(view.getBigInt64(8, true)),
    at: Number(view.getBigInt64(16, true)),
  };
  if (view.getUint8(0) !== SOUND) return { ...frame, payload: new Uint8Array(data, HEADER) };
  const samples = new Int16Array(data, HEADER);
  const sound = new Float32Array(samples.length);
  for (let i = 0; i < samples.length; i++) sound[i] = samples[i] / 32768;
  return { ...frame, sound };
}
