// A ring of sound between two clocks: what the server sends and what the loudspeaker takes. It holds as little as
// arrives unevenly, plays up to 0.5 % faster or slower to keep it so, and skips only what is far too much.
const MOST = 0.005; // of the speed, which nobody hears
const FADE = 0.004; // seconds
const WINDOW = 0.5; // seconds that the least level is looked for in
const FAR = 0.08; // seconds too much, from which on it skips
const EARLY = 0.01; // the same while little was played: what piled up during connecting

export class Ring {
  constructor(rate) {
    this.rate = rate;
    this.data = new Float32Array(4 * rate);
    this.end = 0; // ticks written
    this.at = 0; // ticks read, with a fraction
    this.spare = 0.008; // seconds that should be left when least is
    this.start = 0.03;
    this.speed = 1;
    this.playing = false;
    this.underruns = this.skipped = this.gain = 0;
    this.least = Infinity;
    this.looked = 0;
    this.over = null; // what is left behind by a skip: where it goes on, to fade out
    this.needs = 3; // ticks to make one of
  }

  get held() {
    return this.end - this.at;
  }

  get buffered() {
    return this.held / this.rate;
  }

  get due() {
    return this.held >= this.start * this.rate;
  }

  push(sound) {
    for (const value of sound) this.data[this.end++ % this.data.length] = value;
    if (this.held > this.data.length - this.rate) this.skip(this.held - this.start * this.rate);
  }

  pull(out) {
    if (!this.playing && this.due) {
      this.playing = true;
      this.gain = 0;
      this.watch();
    }
    if (!this.playing) return out.fill(0);
    const fade = 1 / (FADE * this.rate);
    for (let i = 0; i < out.length; i++) {
      if (this.held < this.needs) {
        this.starve(out, i);
        return;
      }
      this.gain = Math.min(1, this.gain + fade);
      out[i] = this.gain * this.sample(this.at);
      if (this.over !== null) {
        out[i] += (1 - this.gain) * this.sample(this.over);
        this.over += this.speed;
        if (this.gain === 1) this.over = null;
      }
      this.at += this.speed;
    }
    this.steer(out.length);
  }

  // Between four samples: a cubic (Catmull-Rom), exact on the samples themselves.
  sample(at) {
    const i = Math.floor(at);
    const t = at - i;
    const size = this.data.length;
    const b = this.data[i % size];
    if (!t) return b;
    const a = this.data[(i + size - 1) % size];
    const c = this.data[(i + 1) % size];
    const d = this.data[(i + 2) % size];
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
  }

  starve(out, from) {
    const last = from ? out[from - 1] : 0;
    for (let i = from; i < out.length; i++) out[i] = last * Math.max(0, 1 - (i - from) / 64);
    this.playing = false;
    this.over = null;
    this.underruns += 1;
    this.spare = Math.min(this.spare + 0.005, 0.06);
    this.start = Math.min(this.start + 0.005, 0.15);
  }

  // Once a window: the least that was held in it, not the mean, is what could go.
  steer(ticks) {
    this.least = Math.min(this.least, this.held / this.rate);
    this.looked += ticks / this.rate;
    if (this.looked < WINDOW) return;
    const extra = this.least - this.spare;
    this.watch();
    this.spare = Math.max(0.008, this.spare - 0.0001);
    if (extra > (this.at < 2 * this.rate ? EARLY : FAR)) this.skip(extra * this.rate);
    const wanted = Math.abs(extra) < 0.002 ? 0 : extra / WINDOW / 2;
    this.speed = 1 + Math.max(-MOST, Math.min(MOST, wanted));
    if (this.speed === 1) this.at = Math.round(this.at);
  }

  skip(ticks) {
    const whole = Math.floor(ticks);
    this.over = this.at;
    this.at += whole;
    this.skipped += whole;
    this.gain = 0;
    this.watch();
  }

  watch() {
    this.least = Infinity;
    this.looked = 0;
  }
}

// For speech, which comes well ahead: all of it is played, at its own speed, and which tick of its stream is known.
const PATIENCE = 0.3; // seconds that more is waited for before less than `start` is played

export class Ahead extends Ring {
  constructor(rate) {
    super(rate);
    this.needs = 1;
    this.start = 0.06;
    this.shift = 0; // from ticks of the ring to those of the stream
    this.waited = 0; // ticks since sound came
  }

  get tick() {
    return this.at + this.shift;
  }

  get due() {
    return super.due || (this.held > 0 && this.waited > PATIENCE * this.rate);
  }

  push(sound, pts) {
    this.shift = pts - this.end;
    this.waited = 0;
    while (this.held + sound.length > this.data.length - this.rate) this.grow();
    super.push(sound);
  }

  pull(out) {
    this.waited += out.length;
    super.pull(out);
  }

  steer() {}

  clear() {
    const left = Math.min(this.held, Math.round(FADE * this.rate));
    for (let i = 0; i < left; i++) this.data[(this.at + i) % this.data.length] *= 1 - i / left;
    this.end = this.at + left;
  }

  grow() {
    const data = new Float32Array(2 * this.data.length);
    for (let i = this.at; i < this.end; i++) data[i % data.length] = this.data[i % this.data.length];
    this.data = data;
  }
}
