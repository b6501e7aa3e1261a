// Both sides of a live stream, tick by tick: they begin and end together, and what is missing of one is silence there.
const MOST = 120; // seconds

export class Recording {
  constructor(rate) {
    this.most = MOST * rate;
    this.sides = { before: [], after: [] };
  }

  add(side, pts, sound) {
    if (side === "before") this.start ??= pts;
    if (this.start === undefined || pts + sound.length - this.start > this.most) return;
    this.sides[side].push({ pts, sound: sound.slice() });
  }

  // As far as both have come.
  get made() {
    const ends = Object.values(this.sides).map((parts) => parts.reduce((end, { pts, sound }) => Math.max(end, pts + sound.length), this.start));
    return Object.fromEntries(Object.entries(this.sides).map(([side, parts]) => [side, this.joined(parts, Math.min(...ends))]));
  }

  joined(parts, end) {
    const whole = new Float32Array(end - this.start || 0);
    for (const { pts, sound } of parts.filter(({ pts }) => pts < end)) {
      const from = pts - this.start;
      const kept = sound.subarray(Math.max(0, -from), Math.max(0, end - pts));
      whole.set(kept, Math.max(0, from));
    }
    return whole;
  }
}
