// A ring of sound: starts when enough is there, grows a little after each underrun, drops the oldest when too much is.
const FADE = 96;

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.ring = new Float32Array(2 * sampleRate);
    this.read = this.held = 0;
    this.start = 0.06 * sampleRate;
    this.playing = false;
    this.underruns = this.fade = this.ticks = 0;
    this.port.onmessage = ({ data }) => this.push(data);
  }

  push(sound) {
    const most = this.start + 0.1 * sampleRate;
    for (const value of sound) this.ring[(this.read + this.held++) % this.ring.length] = value;
    if (this.held > most && this.playing) {
      const drop = this.held - Math.round(this.start);
      this.read = (this.read + drop) % this.ring.length;
      this.held -= drop;
      this.fade = 0;
    }
  }

  process(_, [[out]]) {
    if (!this.playing && this.held >= this.start) {
      this.playing = true;
      this.fade = 0;
    }
    if (this.playing && this.held < out.length) {
      this.playing = false;
      this.underruns += 1;
      this.start = Math.min(this.start + 0.005 * sampleRate, 0.25 * sampleRate);
    }
    if (this.playing)
      for (let i = 0; i < out.length; i++) {
        out[i] = this.ring[this.read] * Math.min(1, this.fade++ / FADE);
        this.read = (this.read + 1) % this.ring.length;
        this.held -= 1;
      }
    if (++this.ticks % 40 === 0) this.port.postMessage({ buffered: this.held / sampleRate, underruns: this.underruns });
    return true;
  }
}
registerProcessor("playback", Playback);
