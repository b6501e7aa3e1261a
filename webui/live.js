// The microphone through the server and back to the ear.
import { Stream } from "./stream.js";

const RATE = 48000;
const KEEP = 120; // seconds of recording

export class Live extends EventTarget {
  constructor() {
    super();
    this.recording = null;
  }

  async start({ input, output, request, model }) {
    if (!navigator.mediaDevices) throw new Error("This page needs a secure address: open it over https or on 127.0.0.1.");
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
    if (input) audio.deviceId = { exact: input };
    this.media = await navigator.mediaDevices.getUserMedia({ audio });
    this.context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    if (output && this.context.setSinkId) await this.context.setSinkId(output);
    await this.context.audioWorklet.addModule("/static/capture-worklet.js");
    await this.context.audioWorklet.addModule("/static/playback-worklet.js");
    this.source = this.context.createMediaStreamSource(this.media);
    this.capture = new AudioWorkletNode(this.context, "capture", { numberOfOutputs: 0 });
    this.playback = new AudioWorkletNode(this.context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
    this.stream = new Stream({ model, request, rate: RATE, channels: 1, format: "pcm16", live: 0.1 });
    this.stream.addEventListener("sound", ({ detail }) => this.heard(detail.sound));
    for (const type of ["state", "stats", "error", "event", "ended"])
      this.stream.addEventListener(type, ({ detail }) => this.dispatchEvent(new CustomEvent(type, { detail })));
    this.capture.port.onmessage = ({ data }) => this.spoken(data);
    this.playback.port.onmessage = ({ data }) => (this.stream.buffered = data.buffered + (this.context.outputLatency || 0));
    this.playback.connect(this.context.destination);
    this.source.connect(this.capture);
    for (const track of this.media.getTracks()) track.onended = () => this.dispatchEvent(new CustomEvent("unplugged"));
  }

  spoken({ sound, at }) {
    const { contextTime, performanceTime } = this.context.getOutputTimestamp();
    const since = contextTime ? performanceTime + 1000 * (at - contextTime) : performance.now();
    this.stream.send(sound, 1000 * Math.min(since, performance.now()) + this.stream.offset);
    this.keep("before", sound);
    this.dispatchEvent(new CustomEvent("spoken", { detail: sound }));
  }

  heard(sound) {
    this.keep("after", sound);
    this.dispatchEvent(new CustomEvent("heard", { detail: sound.slice() }));
    this.playback.port.postMessage(sound);
  }

  record(on) {
    if (on) this.recording = { before: [], after: [] };
    const made = this.recording;
    if (!on) this.recording = null;
    return made;
  }

  keep(side, sound) {
    if (this.recording && this.recording[side].length < KEEP * 50 * 4) this.recording[side].push(sound.slice());
  }

  async stop() {
    this.media?.getTracks().forEach((track) => track.stop());
    this.stream?.close();
    await this.context?.close();
  }
}
