// Float samples as a WAV file of 16 bits.
export function wav(parts, rate) {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const data = new DataView(new ArrayBuffer(44 + 2 * length));
  const word = (at, text) => [...text].forEach((c, i) => data.setUint8(at + i, c.charCodeAt(0)));
  word(0, "RIFF");
  data.setUint32(4, 36 + 2 * length, true);
  word(8, "WAVEfmt ");
  data.setUint32(16, 16, true);
  data.setUint16(20, 1, true);
  data.setUint16(22, 1, true);
  data.setUint32(24, rate, true);
  data.setUint32(28, 2 * rate, true);
  data.setUint16(32, 2, true);
  data.setUint16(34, 16, true);
  word(36, "data");
  data.setUint32(40, 2 * length, true);
  let at = 44;
  for (const part of parts) for (const value of part) {
    data.setInt16(at, Math.max(-32768, Math.min(32767, Math.round(value * 32768))), true);
    at += 2;
  }
  return new Blob([data.buffer], { type: "audio/wav" });
}
