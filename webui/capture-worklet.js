// Collects the microphone into frames of 20 ms and says when the last sample of each was captured.
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.frame = new Float32Array(Math.round(sampleRate / 50));
    this.filled = 0;
  }

  process([input]) {
    const sound = input[0];
    if (!sound) return true;
    for (let start = 0; start < sound.length; ) {
      const part = sound.subarray(start, start + this.frame.length - this.filled);
      this.frame.set(part, this.filled);
      this.filled += part.length;
      start += part.length;
      if (this.filled === this.frame.length) {
        this.port.postMessage({ sound: this.frame, at: currentTime + start / sampleRate }, [this.frame.buffer]);
        this.frame = new Float32Array(Math.round(sampleRate / 50));
        this.filled = 0;
      }
    }
    return true;
  }
}
registerProcessor("capture", Capture);
