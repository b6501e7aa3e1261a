// A text that is said while it is still typed: what was told of it, what of it is heard by now, and how soon it was.
import { Stream } from "./stream.js";

const PIECE = 4000; // characters of a message
const AHEAD = 20000; // characters that are sent before the server tells of them
const REST = 1500; // ms without typing after which what is no sentence yet is said, too
export const SOON = 0.3; // seconds within which the first sound is wanted of live speech
const ANSWER = 1500; // ms that the server has to say what was heard

// Where speech is played: made once, and quiet in between.
export async function loudspeaker(rate) {
  const context = new AudioContext({ sampleRate: rate, latencyHint: "interactive" });
  await context.audioWorklet.addModule("/static/playback-worklet.js");
  const options = { numberOfInputs: 0, outputChannelCount: [1], processorOptions: { ahead: true } };
  const node = new AudioWorkletNode(context, "playback", options);
  node.connect(context.destination);
  return { context, node, rounds: 0 };
}

export class Speech extends EventTarget {
  // `points` are the characters as the server counts them; without `live` there may be pauses.
  constructor({ model, rate, request, points, pressed, live }) {
    super();
    Object.assign(this, { rate, points, pressed });
    this.sent = this.told = 0; // characters
    this.flushed = false;
    this.typed = -Infinity; // when, in ms
    this.words = [];
    this.made = 0; // ticks that came
    this.kept = []; // {pts, sound}
    this.stream = new Stream({ model, request, rate, channels: 1, format: "pcm16", live });
    const on = (type, act) => this.stream.addEventListener(type, ({ detail }) => act(detail));
    on("open", () => this.send(true));
    on("sound", (frame) => this.came(frame));
    on("words", ({ words }) => this.hear(words));
    on("stats", ({ symbols }) => this.rest(symbols));
    on("error", ({ error, fatal }) => (fatal ? (this.why = error.message) : this.emit("error", error.message)));
    on("cleared", ({ words }) => this.cleared?.(words));
    on("ended", () => (this.ended = true));
    on("state", (name) => this.state(name));
    this.timer = setInterval(() => this.look(), 25);
  }

  // The loudspeaker may come later than the stream: neither waits for the other.
  play(speaker) {
    this.speaker = speaker;
    this.round = ++speaker.rounds;
    speaker.node.port.onmessage = ({ data }) => data.round === this.round && this.report(data);
    for (const { pts, sound } of this.kept) this.push(pts, sound);
  }

  // More of the text was typed.
  type(points) {
    this.points = points;
    this.flushed = false;
    this.typed = performance.now();
    this.send();
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.send(true), REST);
  }

  update(request) {
    this.stream.update(request);
  }

  send(flush = this.typed === -Infinity) {
    if (this.finishing || this.stopped) return;
    while (this.sent < this.points.length && this.sent - this.told < AHEAD) {
      const piece = this.points.slice(this.sent, this.sent + PIECE);
      if (!this.stream.say({ type: "text", text: piece.join("") })) return;
      this.asked ??= performance.now();
      this.sent += piece.length;
    }
    if (flush && !this.flushed && this.sent === this.points.length) this.flushed = this.stream.say({ type: "text", flush: true });
  }

  came({ pts, at, sound }) {
    if (this.stopped) return;
    this.firstAt ??= at;
    this.made = pts + sound.length;
    this.kept.push({ pts, sound });
    if (this.speaker) this.push(pts, sound);
  }

  push(pts, sound) {
    this.speaker.node.port.postMessage({ sound, pts, round: this.round });
  }

  hear(words) {
    this.words.push(...words);
    if (words.length) this.told = words.at(-1).end;
    this.send();
  }

  report(report) {
    this.latest = report;
    const { context } = this.speaker;
    this.stream.buffered = report.buffered + (context.outputLatency || 0);
    if (this.first || !report.playing) return;
    const { contextTime, performanceTime } = context.getOutputTimestamp();
    const heard = contextTime ? performanceTime + 1000 * (report.time - contextTime) : performance.now();
    const server = (this.firstAt - this.stream.offset) / 1000 - this.asked;
    this.first = { total: heard - this.pressed, server };
    this.emit("first", this.first);
  }

  // The tick that is heard now.
  get played() {
    if (!this.latest) return 0;
    const { tick, time, playing } = this.latest;
    const { currentTime, outputLatency } = this.speaker.context;
    const since = playing ? currentTime - time - (outputLatency || 0) : 0;
    return Math.max(0, Math.min(this.made, Math.floor(tick + since * this.rate)));
  }

  // When all is heard, and nothing was typed for a while, the stream is not held for longer.
  rest(symbols) {
    if (!symbols) this.told = this.sent;
    this.send();
    if (symbols || !this.flushed || this.finishing || performance.now() - this.typed < 2 * REST) return;
    const over = this.words.length ? this.played >= this.words.at(-1).ends : performance.now() - this.asked > 2 * REST;
    if (over) this.finishing = this.stream.say({ type: "finish" });
  }

  look() {
    this.emit("heard", this.played);
    if (this.ended && this.played >= this.made) this.end();
  }

  state(name) {
    if (name === "live") {
      this.send();
      this.emit("live");
    } else if (name === "lost") this.emit("lost");
    else if (name === "gone") this.end("The server did not come back. Press Speak to try again.");
    else if (name === "full" || !this.ended) {
      this.refused = name === "full";
      this.end();
    }
  }

  // Be quiet, and give the words that were heard.
  async stop() {
    const played = this.played;
    this.stopped = true;
    clearTimeout(this.resting);
    this.speaker?.node.port.postMessage("clear");
    this.kept = this.kept.filter(({ pts }) => pts < played).map(({ pts, sound }) => ({ pts, sound: sound.subarray(0, played - pts) }));
    const answer = new Promise((done) => {
      this.cleared = done;
      setTimeout(done, this.stream.say({ type: "clear", played }) ? ANSWER : 0);
    });
    const words = (await answer) ?? this.words.filter((word) => word.ends <= played);
    this.end();
    return words;
  }

  end(why = this.stopped ? "" : this.why) {
    if (this.over) return;
    this.over = true;
    clearInterval(this.timer);
    clearTimeout(this.resting);
    this.cleared?.();
    if (!this.ended) this.stream.close();
    this.emit("over", why);
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
