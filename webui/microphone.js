// The microphone through a model, as a tab shows it: its button, devices, levels, the delay by stages, both sides recorded.
import { blocked, RATE } from "./capture.js";
import { DUE, Live } from "./live.js";
import { level, say, server, tell, within } from "./page.js";
import { Spectrogram } from "./spectrogram.js";
import { wav } from "./wav.js";

const STAGES = { lookahead: "look-ahead", transport: "to server", wait: "wait", compute: "compute", send: "send", buffer: "buffer" };
const CALM = 5000; // ms without a sign of haste until a machine is no longer called too slow
let running = null; // the one tab's whose microphone is on: what two say at once, nobody understands

export class Microphone {
  // `wanted` gives the model and the request.
  constructor({ prefix, wanted }) {
    const $ = (this.$ = within(prefix));
    Object.assign(this, { wanted, live: null, before: new Spectrogram($("before")), after: new Spectrogram($("after")) });
    $("microphone").onclick = () => (this.live ? this.stop() : this.start());
    $("record").onclick = () => this.record();
    $("monitor").onclick = () => {
      $("monitor").setAttribute("aria-pressed", String(!this.monitors));
      this.monitor();
    };
    $("monitor-gain").oninput = () => this.monitor();
    navigator.mediaDevices?.addEventListener("devicechange", () => this.devices());
    this.devices();
  }

  async start() {
    const { $ } = this;
    const live = (this.live = new Live(this.volume));
    this.calm();
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
    on("event", (event) => this.event(event));
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
    this.calm();
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

  event({ name, ticks, less }) {
    if (name === "overrun") this.slow(`${((this.lost += ticks) / RATE).toFixed(2)} s of what you said were left out`);
    if (name === "degraded" && less.length) this.slow(`it does with less ${less.join(" and ")}`);
  }

  delay(figures) {
    if (!("total" in figures)) return;
    const { $ } = this;
    $("total").textContent = Math.round(figures.total);
    const late = figures.wait + figures.compute;
    if (late > 1000 * DUE) this.slow(`sound is done ${Math.round(late)} ms after it came, and should be within ${1000 * DUE}`);
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

  slow(sign) {
    const { $ } = this;
    $("slow").textContent = `The server's machine is too slow now: ${sign}. Let other programs and streams on it end, or use a faster one.`;
    $("slow").hidden = false;
    clearTimeout(this.calming);
    this.calming = setTimeout(() => this.calm(), CALM);
  }

  calm() {
    this.$("slow").hidden = true;
    this.lost = 0; // ticks
  }

  record(live = this.live) {
    const { $ } = this;
    const on = $("record").getAttribute("aria-pressed") !== "true";
    $("record").setAttribute("aria-pressed", String(on));
    $("record").textContent = on ? "Stop recording" : "Record";
    const made = live?.record(on);
    if (on || !made) return;
    for (const [id, sound] of [["download-in", made.before], ["download-out", made.after]]) {
      URL.revokeObjectURL($(id).href);
      $(id).href = URL.createObjectURL(wav([sound], RATE));
      $(id).hidden = false;
    }
    say("both sides are ready to download");
  }

  get monitors() {
    return this.$("monitor").getAttribute("aria-pressed") === "true";
  }

  get volume() {
    return this.monitors ? Number(this.$("monitor-gain").value) : 0;
  }

  monitor() {
    const { $ } = this;
    $("monitor").textContent = this.monitors ? "On" : "Off";
    $("monitor-value").textContent = Number($("monitor-gain").value).toFixed(2);
    if (this.live) this.live.volume = this.volume;
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
