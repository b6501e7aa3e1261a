// Plays what is pushed, and says how much it holds, whether it plays, and, of what comes ahead, which tick and when.
import { Ahead, Ring } from "./ring.js";

class Playback extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.ring = new (processorOptions?.ahead ? Ahead : Ring)(sampleRate);
    this.blocks = 0;
    this.port.onmessage = ({ data }) => {
      if (!data.sound) return this.ring.clear();
      this.round = data.round;
      this.ring.push(data.sound, data.pts);
    };
  }

  process(_, [[out]]) {
    const { tick, playing } = this.ring;
    this.ring.pull(out);
    if (++this.blocks % 40 === 0 || playing !== this.ring.playing) {
      const { buffered, underruns, skipped } = this.ring;
      const now = this.ring.playing ? tick : this.ring.tick;
      this.port.postMessage({ buffered, underruns, skipped, playing: this.ring.playing, tick: now, time: currentTime, round: this.round });
    }
    return true;
  }
}
registerProcessor("playback", Playback);
