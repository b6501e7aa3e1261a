// The microphone through the server and back to the ear, over a WebSocket or a call.
import { capture, RATE, release, tap } from "./capture.js";
import { Recording } from "./recording.js";
import { Call } from "./rtc.js";
import { Stream } from "./stream.js";

export const DUE = 0.1; // seconds that the server has for what it does

export class Live extends EventTarget {
  constructor(volume) {
    super();
    this.loudness = volume;
    this.recording = null;
  }

  async start({ input, output, request, model, transport }) {
    Object.assign(this, await capture({ device: input }));
    this.output = output;
    if (output && this.context.setSinkId) await this.context.setSinkId(output);
    if (transport === "webrtc") this.call({ model, request });
    else await this.socket({ model, request });
    for (const type of ["state", "stats", "error", "event", "ended"])
      this.stream.addEventListener(type, ({ detail }) => this.dispatchEvent(new CustomEvent(type, { detail })));
    tap(this.context, this.media, (frame) => this.spoken(frame));
    for (const track of this.media.getTracks()) track.onended = () => this.dispatchEvent(new CustomEvent("unplugged"));
  }

  async socket({ model, request }) {
    await this.context.audioWorklet.addModule("/static/playback-worklet.js");
    const playback = new AudioWorkletNode(this.context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
    this.stream = new Stream({ model, request, rate: RATE, channels: 1, format: "pcm16", live: DUE });
    this.stream.addEventListener("sound", ({ detail }) => {
      this.heard(detail.sound, detail.pts);
      playback.port.postMessage({ sound: detail.sound });
    });
    playback.port.onmessage = ({ data }) => {
      this.playback = data;
      this.stream.buffered = data.buffered + (this.context.outputLatency || 0);
    };
    this.monitor = new GainNode(this.context, { gain: this.loudness });
    playback.connect(this.monitor).connect(this.context.destination);
  }

  call({ model, request }) {
    this.stream = new Call({ model, request }, this.media);
    this.stream.addEventListener("track", ({ detail }) => {
      this.speaker ??= new Audio();
      this.speaker.srcObject = detail;
      this.speaker.volume = this.loudness;
      if (this.output && this.speaker.setSinkId) this.speaker.setSinkId(this.output);
      this.speaker.play();
      this.stream.output = this.context.outputLatency || 0;
      tap(this.context, detail, (frame) => this.heard(frame.sound, begin(frame)));
    });
  }

  // How loud what comes back is played, 0 to 1; as it is recorded it stays.
  set volume(volume) {
    this.loudness = volume;
    this.monitor?.gain.setTargetAtTime(volume, this.context.currentTime, 0.01);
    if (this.speaker) this.speaker.volume = volume;
  }

  spoken(frame) {
    const { sound, at } = frame;
    this.keep("before", sound, this.stream.send ? this.stream.pts : begin(frame));
    if (this.stream.send) {
      const { contextTime, performanceTime } = this.context.getOutputTimestamp();
      const since = contextTime ? performanceTime + 1000 * (at - contextTime) : performance.now();
      this.stream.send(sound, 1000 * Math.min(since, performance.now()) + this.stream.offset);
    }
    this.dispatchEvent(new CustomEvent("spoken", { detail: sound }));
  }

  heard(sound, pts) {
    this.keep("after", sound, pts);
    this.dispatchEvent(new CustomEvent("heard", { detail: sound.slice() }));
  }

  // Begin a recording, or end it and give both sides.
  record(on) {
    const made = this.recording?.made;
    this.recording = on ? new Recording(RATE) : null;
    return made;
  }

  keep(side, sound, pts) {
    this.recording?.add(side, pts, sound);
  }

  async stop() {
    this.stream?.close();
    if (this.speaker) this.speaker.srcObject = null;
    await release(this);
  }
}

// The tick of the page's own clock at which a frame begins: a call tells none.
const begin = ({ sound, at }) => Math.round(at * RATE) - sound.length;
