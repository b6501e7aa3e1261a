// A live stream that outlives its connections: what the server has not acknowledged is sent again.
import { protocols } from "./server.js";
import { pack, unpack } from "./wire.js";

const AGAIN = [250, 500, 1000, 2000, 4000]; // ms between attempts
const DONE = new Set([1000, 1001, 1008, 4000, 4001, 4004, 4009, 4010, 4029]);

export class Stream extends EventTarget {
  constructor(open) {
    super();
    this.open = open;
    this.unsafe = []; // frames that are not acknowledged: {seq, data}
    this.seq = this.pts = 0;
    this.received = -1;
    this.offset = 0; // microseconds from this clock to the server's
    this.quickest = Infinity;
    this.tries = 0;
    this.buffered = 0;
    this.over = false;
    this.connect();
  }

  now() {
    return 1000 * performance.now() + this.offset;
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = (this.socket = new WebSocket(`${scheme}://${location.host}/v1/stream`, protocols()));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.say(this.session ? { type: "resume", session: this.session, token: this.token, received: this.received } : { type: "open", ...this.open });
      if (!this.session) this.emit("open"); // what is said now needs not wait for the answer
    };
    socket.onmessage = (event) => (typeof event.data === "string" ? this.told(JSON.parse(event.data)) : this.heard(unpack(event.data)));
    socket.onclose = (event) => this.lost(event);
  }

  // Whether it could be sent.
  say(message) {
    const able = this.socket.readyState === WebSocket.OPEN;
    if (able) this.socket.send(JSON.stringify(message));
    return able;
  }

  told(message) {
    if (message.type === "opened") {
      this.session = message.session;
      this.token = message.token;
      this.resume = message.resume;
      this.ready = true;
      this.tries = 0;
      this.forget(message.input - 1);
      for (const frame of this.unsafe) this.socket.send(frame.data);
      this.say({ type: "stats", every: 0.5 });
      this.emit("opened", message);
      for (let i = 0; i < 5; i++) setTimeout(() => this.say({ type: "clock", at: Math.round(1000 * performance.now()) }), 100 * i);
      this.emit("state", "live");
    } else if (message.type === "ack") this.forget(message.seq);
    else if (message.type === "clock") {
      const now = 1000 * performance.now();
      if (now - message.at < this.quickest) {
        this.quickest = now - message.at;
        this.offset = message.server - (now + message.at) / 2;
      }
    } else {
      if (message.type === "ended") this.over = true;
      this.emit(message.type, message);
    }
  }

  heard(frame) {
    if (frame.seq !== this.received + 1 && frame.seq <= this.received) return;
    this.received = frame.seq;
    if (frame.payload) return this.emit("picture", frame);
    if (frame.sound.length) this.emit("sound", frame);
    if (frame.seq % 10 === 0) this.acknowledge();
  }

  // What came is here, and so much of it was not played yet.
  acknowledge() {
    this.say({ type: "ack", seq: this.received, buffered: this.buffered });
  }

  forget(seq) {
    while (this.unsafe.length && this.unsafe[0].seq <= seq) this.unsafe.shift();
  }

  send(sound, captured) {
    const frame = { seq: this.seq, data: pack(this.seq, this.pts, captured, false, sound) };
    this.seq += 1;
    this.pts += sound.length;
    this.unsafe.push(frame);
    if (this.ready && this.socket.readyState === WebSocket.OPEN) this.socket.send(frame.data);
  }

  update(request, id = "") {
    Object.assign(this.open.request, request);
    this.say({ type: "update", request, id });
  }

  close() {
    this.over = true;
    this.say({ type: "cancel" });
    setTimeout(() => this.socket.close(), 200);
  }

  lost(event) {
    this.ready = false;
    if (this.over || DONE.has(event.code)) return this.emit("state", "over");
    if (event.code === 1013 && !this.session) return this.emit("state", "full");
    const wait = AGAIN[Math.min(this.tries++, AGAIN.length - 1)];
    if (this.tries > 12) return this.emit("state", "gone");
    this.emit("state", "lost");
    setTimeout(() => this.over || this.connect(), wait);
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
