// The microphone through a model, as a tab shows it: its button, devices, levels, the delay by stages, both sides recorded.
import { blocked, RATE } from "./capture.js";
import { Live } from "./live.js";
import { level, say, server, tell, within } from "./page.js";
import { Spectrogram } from "./spectrogram.js";
import { wav } from "./wav.js";

const STAGES = { lookahead: "look-ahead", transport: "to server", wait: "wait", compute: "compute", send: "send", buffer: "buffer" };
let running = null; // the one tab's whose microphone is on: what two say at once, nobody understands

export class Microphone {
  // `wanted` gives the model and the request.
  constructor({ prefix, wanted }) {
    const $ = (this.$ = within(prefix));
    Object.assign(this, { wanted, live: null, before: new Spectrogram($("before")), after: new Spectrogram($("after")) });
    $("microphone").onclick = () => (this.live ? this.stop() : this.start());
    $("record").onclick = () => this.record();
    navigator.mediaDevices?.addEventListener("devicechange", () => this.devices());
    this.devices();
  }

  async start() {
    const { $ } = this;
    const live = (this.live = new Live());
    const other = running;
    running = this;
    await other?.stop();
    const on = (type, act) => live.addEventListener(type, ({ detail }) => this.live === live && act(detail));
    $("microphone").setAttribute("aria-pressed", "true");
    $("microphone-label").textContent = "Stop";
    tell("", "listening");
    this.before.clear();
    this.after.clear();
    on("spoken", (sound) => { this.before.push(sound); level($("level-in"), sound); });
    on("heard", (sound) => { this.after.push(sound); level($("level-out"), sound); });
    on("stats", ({ delay }) => this.delay(delay));
    on("unplugged", () => { tell("The microphone was unplugged."); this.stop(); });
    on("state", (name) => this.connection(name));
    on("error", ({ error }) => tell(error.message));
    on("event", ({ name }) => name === "overrun" && say("the server cannot keep up"));
    try {
      await live.start({ input: $("input").value, output: $("output").value, transport: $("transport").value, ...this.wanted() });
      $("record").disabled = false;
      this.devices();
    } catch (error) {
      tell(blocked(error, "Microphone"));
      this.stop();
    }
  }

  async stop() {
    const { $, live } = this;
    this.live = null;
    if (running === this) running = null;
    $("microphone").setAttribute("aria-pressed", "false");
    $("microphone-label").textContent = "Microphone";
    $("record").disabled = true;
    if (live?.recording) this.record(live);
    await live?.stop();
    for (const id of ["level-in", "level-out"]) $(id).value = 0;
    server("ready", "ready");
  }

  // Change some values of the request while it is live.
  update(request) {
    this.live?.stream?.update(request);
  }

  connection(name) {
    if (!this.live) return;
    const socket = this.$("transport").value === "ws";
    if (name === "live") { server("ready", "live"); tell("", "connected"); return; }
    server("lost", name === "lost" ? "reconnecting" : "not connected");
    if (name === "lost") return tell(socket ? "The connection is lost. Reconnecting; what you say is kept." : "The connection is lost. Calling again.");
    if (name === "full") tell("The server is full. Try again in a moment.");
    if (name === "gone") tell(socket ? "The server did not come back. Press Microphone to start again." : "No call gets through. Choose WebSocket as the connection, then press Microphone.");
    this.stop();
  }

  delay(figures) {
    if (!("total" in figures)) return;
    const { $ } = this;
    $("total").textContent = Math.round(figures.total);
    const names = Object.keys(STAGES);
    const sum = names.reduce((total, name) => total + figures[name], 0) || 1;
    $("bar").replaceChildren(...names.map((name, i) => {
      const part = document.createElement("i");
      part.className = `c${i}`;
      part.style.width = `${(100 * figures[name]) / sum}%`;
      return part;
    }));
    $("stages").replaceChildren(...names.map((name, i) => {
      const row = document.createElement("div");
      row.innerHTML = `<i class="c${i}"></i><dt></dt><dd></dd>`;
      row.querySelector("dt").textContent = STAGES[name];
      row.querySelector("dd").textContent = `${figures[name].toFixed(1)} ms`;
      return row;
    }));
  }

  record(live = this.live) {
    const { $ } = this;
    const on = $("record").getAttribute("aria-pressed") !== "true";
    $("record").setAttribute("aria-pressed", String(on));
    $("record").textContent = on ? "Stop recording" : "Record";
    const made = live?.record(on);
    if (on || !made) return;
    for (const [id, parts] of [["download-in", made.before], ["download-out", made.after]]) {
      URL.revokeObjectURL($(id).href);
      $(id).href = URL.createObjectURL(wav(parts, RATE));
      $(id).hidden = false;
    }
    say("both sides are ready to download");
  }

  async devices() {
    const { $ } = this;
    const all = (await navigator.mediaDevices?.enumerateDevices()) || [];
    for (const [id, kind] of [["input", "audioinput"], ["output", "audiooutput"]]) {
      const chosen = $(id).value;
      const options = all.filter((d) => d.kind === kind && d.deviceId && d.deviceId !== "default").map((d, i) => new Option(d.label || `${kind} ${i + 1}`, d.deviceId));
      $(id).replaceChildren(new Option("Default", ""), ...options);
      $(id).value = [...$(id).options].some((o) => o.value === chosen) ? chosen : "";
    }
  }
}
