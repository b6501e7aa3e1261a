// Calls over WebRTC. `Call` has the face of `Stream`: the same events, update and close; sound goes by the browser, and
// where there is none to be sent, pictures come.
import { ask } from "./server.js";

const PATIENCE = 10000; // ms until a call must be there
const AGAIN = [250, 1000, 3000];

// An offer with all its candidates, or those that are there after a second.
async function offer(peer) {
  await peer.setLocalDescription();
  if (peer.iceGatheringState !== "complete")
    await new Promise((done) => {
      peer.addEventListener("icegatheringstatechange", () => peer.iceGatheringState === "complete" && done());
      setTimeout(done, 1000);
    });
  return peer.localDescription.sdp;
}

async function connection() {
  return new RTCPeerConnection(await (await ask("/v1/webrtc")).json());
}

// How much the jitter buffer has held of late, in seconds.
class Held {
  constructor(receiver) {
    this.receiver = receiver;
    this.delay = this.count = 0;
  }

  async now() {
    for (const report of (await this.receiver.getStats()).values()) {
      if (report.type !== "inbound-rtp" || !report.jitterBufferEmittedCount) continue;
      const { jitterBufferDelay: delay, jitterBufferEmittedCount: count } = report;
      const held = (delay - this.delay) / (count - this.count || 1);
      this.delay = delay;
      this.count = count;
      return held;
    }
    return 0;
  }
}

export class Call extends EventTarget {
  constructor(open, media) {
    super();
    this.open = open;
    this.media = media;
    this.tries = 0;
    this.over = false;
    this.output = 0; // seconds behind the jitter buffer
    this.connect();
  }

  async connect() {
    try {
      const peer = (this.peer = await connection());
      if (!this.media) peer.addTransceiver("video", { direction: "recvonly" });
      for (const track of this.media?.getAudioTracks() ?? []) peer.addTrack(track, this.media);
      peer.ontrack = ({ track, receiver }) => this.hear(track, receiver);
      peer.onconnectionstatechange = () => this.changed(peer);
      this.channel = peer.createDataChannel("controls");
      this.channel.onmessage = ({ data }) => this.told(JSON.parse(data));
      const body = { sdp: await offer(peer), type: "offer", model: this.open.model, request: this.open.request };
      const reply = await ask("/v1/webrtc/offer", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
      const answer = await reply.json();
      if (this.over) return peer.close();
      if (!reply.ok) return this.refused(reply.status, answer);
      await peer.setRemoteDescription({ type: "answer", sdp: answer.sdp });
      setTimeout(() => peer === this.peer && peer.connectionState !== "connected" && this.lost(), PATIENCE);
    } catch {
      this.lost();
    }
  }

  hear(track, receiver) {
    this.held = new Held(receiver);
    this.emit("track", new MediaStream([track]));
  }

  told(message) {
    if (message.type === "opened") {
      this.tries = 0;
      this.say({ type: "stats", every: 0.5 });
      clearInterval(this.timer);
      this.timer = setInterval(() => this.report(), 500);
      this.emit("opened", message);
      this.emit("state", "live");
      return;
    }
    if (message.type === "ended" && message.reason !== "shutdown") this.over = true;
    this.emit(message.type, message);
  }

  async report() {
    if (this.held) this.say({ type: "ack", seq: 0, buffered: (await this.held.now()) + this.output });
  }

  say(message) {
    if (this.channel?.readyState === "open") this.channel.send(JSON.stringify(message));
  }

  update(request, id = "") {
    Object.assign(this.open.request, request);
    this.say({ type: "update", request, id });
  }

  refused(status, answer) {
    this.over = true;
    this.emit("error", { error: answer.error });
    this.emit("state", status === 503 ? "full" : "over");
  }

  changed(peer) {
    if (peer === this.peer && ["failed", "closed", "disconnected"].includes(peer.connectionState)) this.lost();
  }

  // Sound on a call is gone when it is late, so a new call takes the place of a lost one.
  lost() {
    const peer = this.peer;
    this.peer = null;
    clearInterval(this.timer);
    peer?.close();
    if (this.over) return this.emit("state", "over");
    if (this.tries >= AGAIN.length) return this.emit("state", "gone");
    this.emit("state", "lost");
    setTimeout(() => this.over || this.connect(), AGAIN[this.tries++]);
  }

  close() {
    this.over = true;
    clearInterval(this.timer);
    this.say({ type: "cancel" });
    const peer = this.peer;
    this.peer = null;
    setTimeout(() => peer?.close(), 100);
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

// Hear what a caller of another program sends. Gives the sound and how to stop.
export async function listen(name) {
  const peer = await connection();
  const { receiver } = peer.addTransceiver("audio", { direction: "recvonly" });
  const sdp = await offer(peer);
  const reply = await ask(`/v1/whep/${encodeURIComponent(name)}`, { method: "POST", headers: { "content-type": "application/sdp" }, body: sdp });
  if (!reply.ok) {
    peer.close();
    throw new Error((await reply.json()).error.message);
  }
  await peer.setRemoteDescription({ type: "answer", sdp: await reply.text() });
  const where = reply.headers.get("location");
  return {
    stream: new MediaStream([receiver.track]),
    peer,
    stop: () => {
      ask(where, { method: "DELETE", keepalive: true });
      peer.close();
    },
  };
}
