// Pictures that are watched while they are made: as fragments over a WebSocket, or in a call.
import { finished } from "./mp4.js";
import { Call } from "./rtc.js";
import { Stream } from "./stream.js";

const BEHIND = 30; // seconds of what was seen that the browser holds
const MOST = 1 << 28; // bytes of a clip that are kept
const OFTEN = 100; // ms between two reports of what was seen
const WINDOW = 2000; // ms over which the rate of pictures is counted
const RECORDED = "video/mp4;codecs=avc1.42E01E"; // how a call is kept, where the browser can

// Fragments of MP4 on a video element, as a MediaSource takes them.
class Film {
  constructor(video, { mime, head }) {
    this.video = video;
    this.waiting = [Uint8Array.from(atob(head), (c) => c.charCodeAt(0))];
    this.source = new MediaSource();
    this.source.onsourceopen = () => {
      URL.revokeObjectURL(video.src);
      this.buffer = this.source.addSourceBuffer(mime);
      this.buffer.onupdateend = () => this.pump();
      this.pump();
    };
    video.srcObject = null;
    video.src = URL.createObjectURL(this.source);
  }

  add(part) {
    this.waiting.push(part);
    this.pump();
  }

  end() {
    this.over = true;
    this.pump();
  }

  // Seconds that are there and were not seen.
  get ahead() {
    const { buffered, currentTime } = this.video;
    return buffered.length ? Math.max(0, buffered.end(buffered.length - 1) - currentTime) : 0;
  }

  pump() {
    if (!this.buffer || this.buffer.updating || this.source.readyState !== "open") return;
    const { buffered, currentTime } = this.video;
    if (buffered.length && buffered.start(0) < currentTime - 2 * BEHIND) this.buffer.remove(0, currentTime - BEHIND);
    else if (this.waiting.length) this.buffer.appendBuffer(this.waiting.shift());
    else if (this.over) this.source.endOfStream();
  }
}

export class Watch extends EventTarget {
  constructor({ video, model, request, transport, pressed }) {
    super();
    Object.assign(this, { video, model: model.id, request, rate: model.rate, pressed });
    this.prompts = [{ id: "", text: request.prompt, tick: null }];
    this.parts = [];
    this.bytes = this.made = 0; // of the clip; ticks that came
    this.drawn = []; // when pictures were, in ms
    this.anchor = { tick: 0, at: Infinity }; // of a call: which picture was sent when
    this.paused = false;
    this.call = transport === "webrtc";
    const open = { model: model.id, request: { ...request } };
    this.stream = this.call ? new Call(open, null) : new Stream({ ...open, format: "mp4" });
    const on = (type, act) => this.stream.addEventListener(type, ({ detail }) => act(detail));
    on("opened", (told) => this.opened(told));
    on("picture", (frame) => this.came(frame));
    on("track", (media) => this.called(media));
    on("shown", (told) => this.shown(told));
    on("event", ({ name, tick, less }) => {
      if (name === "playing") this.anchor = { tick, at: performance.now() };
      if (name === "degraded") this.emit("less", less);
    });
    on("error", ({ error, fatal, id }) => (fatal === false ? this.refused(error, id) : (this.why = error.message)));
    on("ended", () => this.ended());
    on("state", (name) => this.state(name));
    this.timer = setInterval(() => this.look(), OFTEN);
    this.counting = video.requestVideoFrameCallback((now) => this.draw(now));
  }

  opened({ mime, head }) {
    if (!head || this.film) return;
    if (!MediaSource.isTypeSupported(mime)) return this.end("This browser plays no H.264: choose WebRTC as the connection.");
    this.head = Uint8Array.from(atob(head), (c) => c.charCodeAt(0));
    this.film = new Film(this.video, { mime, head });
  }

  came({ pts, last, payload }) {
    if (payload.length) this.film.add(payload);
    if (payload.length && this.bytes + payload.length < MOST) {
      this.parts.push(payload);
      this.bytes += payload.length;
    }
    if (!this.made && !this.paused) this.play();
    this.made = pts + 1;
    if (last) this.film.end();
  }

  called(media) {
    this.video.removeAttribute("src"); // which is gone, and would be looked for afterwards
    this.video.srcObject = media;
    this.play();
    if (!MediaRecorder.isTypeSupported(RECORDED)) return;
    this.recorder = new MediaRecorder(media, { mimeType: RECORDED });
    this.recorder.ondataavailable = ({ data }) => data.size && this.parts.push(data);
    this.recorder.start();
  }

  play() {
    this.video.play().catch(() => {}); // until somebody presses something, where that is the rule
  }

  // A picture is on the screen.
  draw(now) {
    if (!this.drawn.length) this.emit("first", now - this.pressed);
    this.drawn.push(now);
    while (this.drawn[0] < now - WINDOW) this.drawn.shift();
    this.counting = this.video.requestVideoFrameCallback((at) => this.draw(at));
  }

  // Pictures a second, of late.
  get pace() {
    const { drawn } = this;
    return drawn.length > 1 ? (1000 * (drawn.length - 1)) / (drawn.at(-1) - drawn[0]) : 0;
  }

  // Seconds up to the picture that is seen.
  get time() {
    if (this.film) return this.video.currentTime;
    const { tick, at } = this.anchor;
    return tick / this.rate + (this.paused || at === Infinity ? 0 : (performance.now() - at) / 1000);
  }

  look() {
    if (this.film) {
      this.stream.buffered = this.film.ahead;
      this.stream.acknowledge();
    }
    this.emit("time", this.time);
    if (this.finished && (!this.film || this.video.ended)) this.end();
  }

  change(text) {
    const id = String(this.prompts.length);
    this.prompts.push({ id, text, tick: null });
    this.stream.update({ prompt: text }, id);
    this.emit("prompts");
  }

  // From which picture on a prompt counts; those before it that were never shown were overtaken.
  shown({ id, tick }) {
    const at = this.prompts.findIndex((prompt) => prompt.id === id);
    if (at < 0) return;
    this.prompts[at].tick = tick;
    this.prompts = this.prompts.filter((prompt, i) => i >= at || prompt.tick !== null);
    this.emit("prompts");
  }

  refused(error, id) {
    this.prompts = this.prompts.filter((prompt) => prompt.id !== id);
    this.emit("prompts");
    this.emit("error", error.message);
  }

  pause(on) {
    if (on && !this.film) this.anchor = { tick: Math.round(this.time * this.rate), at: Infinity };
    this.paused = on;
    this.stream.say({ type: "pause", on });
    if (on) this.video.pause();
    else this.play();
  }

  // End with the chunk that is being made.
  finish() {
    if (this.paused) this.pause(false);
    this.finishing = true;
    this.stream.say({ type: "finish" });
  }

  // Say again what may have been lost with the connection.
  again() {
    const last = this.prompts.at(-1);
    if (last.id && last.tick === null) this.stream.update({ prompt: last.text }, last.id);
    this.stream.say({ type: "pause", on: this.paused });
    if (this.finishing) this.finish();
  }

  ended() {
    this.finished = true;
    this.film?.end();
  }

  state(name) {
    if (name === "full") this.end("The server has no room for more now: try again in a moment.");
    else if (name === "gone") this.end("The server did not come back.");
    else if (name === "over" && !this.finished) this.end(this.why);
    else if (name === "lost" && this.call) this.end("The call was lost."); // another one would begin anew
    else this.emit("state", name);
    if (name === "live" && this.made) this.again();
  }

  async end(why = "") {
    if (this.over) return;
    this.over = true;
    clearInterval(this.timer);
    this.video.cancelVideoFrameCallback(this.counting);
    if (!this.finished) this.stream.close();
    const clip = await this.clip();
    this.emit("over", { why, clip });
  }

  // What was seen as a file that says how it was made; null if nothing was.
  async clip() {
    const shown = this.prompts.filter(({ tick }) => tick !== null);
    const prompts = shown.map(({ text, tick }) => ({ prompt: text, at: tick / this.rate }));
    const { picture, ...asked } = this.request;
    const made = { model: this.model, ...asked, prompts };
    if (this.recorder) {
      const stopped = new Promise((resolve) => (this.recorder.onstop = resolve));
      this.recorder.stop();
      await stopped;
      const whole = new Uint8Array(await new Blob(this.parts).arrayBuffer());
      this.parts = whole.length ? [finished(whole, 0, asked.prompt, made)] : [];
    } else if (this.parts.length) {
      const { buffered } = this.video;
      made.length = buffered.length ? buffered.end(buffered.length - 1) : 0;
      this.parts.unshift(finished(this.head, made.length, asked.prompt, made));
    }
    return this.parts.length ? { blob: new Blob(this.parts, { type: "video/mp4" }), made } : null;
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
