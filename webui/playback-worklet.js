// Plays what is pushed, and says how much it holds.
import { Ring } from "./ring.js";

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.ring = new Ring(sampleRate);
    this.blocks = 0;
    this.port.onmessage = ({ data }) => this.ring.push(data);
  }

  process(_, [[out]]) {
    this.ring.pull(out);
    if (++this.blocks % 40 === 0) {
      const { buffered, underruns, skipped } = this.ring;
      this.port.postMessage({ buffered, underruns, skipped });
    }
    return true;
  }
}
registerProcessor("playback", Playback);
