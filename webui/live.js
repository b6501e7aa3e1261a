// The microphone through the server and back to the ear, over a WebSocket or a call.
import { capture, RATE, release, tap } from "./capture.js";
import { Call } from "./rtc.js";
import { Stream } from "./stream.js";

const KEEP = 120; // seconds of recording

export class Live extends EventTarget {
  constructor() {
    super();
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
    this.stream = new Stream({ model, request, rate: RATE, channels: 1, format: "pcm16", live: 0.1 });
    this.stream.addEventListener("sound", ({ detail }) => {
      this.heard(detail.sound);
      playback.port.postMessage({ sound: detail.sound });
    });
    playback.port.onmessage = ({ data }) => {
      this.playback = data;
      this.stream.buffered = data.buffered + (this.context.outputLatency || 0);
    };
    playback.connect(this.context.destination);
  }

  call({ model, request }) {
    this.stream = new Call({ model, request }, this.media);
    this.stream.addEventListener("track", ({ detail }) => {
      this.speaker ??= new Audio();
      this.speaker.srcObject = detail;
      if (this.output && this.speaker.setSinkId) this.speaker.setSinkId(this.output);
      this.speaker.play();
      this.stream.output = this.context.outputLatency || 0;
      tap(this.context, detail, ({ sound }) => this.heard(sound));
    });
  }

  spoken({ sound, at }) {
    this.keep("before", sound);
    if (this.stream.send) {
      const { contextTime, performanceTime } = this.context.getOutputTimestamp();
      const since = contextTime ? performanceTime + 1000 * (at - contextTime) : performance.now();
      this.stream.send(sound, 1000 * Math.min(since, performance.now()) + this.stream.offset);
    }
    this.dispatchEvent(new CustomEvent("spoken", { detail: sound }));
  }

  heard(sound) {
    this.keep("after", sound);
    this.dispatchEvent(new CustomEvent("heard", { detail: sound.slice() }));
  }

  // Begin a recording, or end it and give both sides.
  record(on) {
    const made = this.recording;
    this.recording = on ? { before: [], after: [] } : null;
    return made;
  }

  keep(side, sound) {
    if (this.recording && this.recording[side].length < KEEP * 50 * 4) this.recording[side].push(sound.slice());
  }

  async stop() {
    this.stream?.close();
    if (this.speaker) this.speaker.srcObject = null;
    await release(this);
  }
}
