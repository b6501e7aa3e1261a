// The page: ties what is on it to the live stream, to files and to the snippets.
import { Files } from "./files.js";
import { Live } from "./live.js";
import { Spectrogram } from "./spectrogram.js";
import { listen } from "./rtc.js";
import { ask, key } from "./server.js";
import { snippet } from "./snippets.js";
import { Speak } from "./speak.js";
import { wav } from "./wav.js";

const $ = (id) => document.getElementById(id);
const STAGES = { lookahead: "look-ahead", transport: "to server", wait: "wait", compute: "compute", send: "send", buffer: "buffer" };
const before = new Spectrogram($("before"));
const after = new Spectrogram($("after"));
const state = { model: "restore-lite", strength: 1, bypass: false, code: "curl", live: null };

function tell(text, spoken = text) {
  $("message").hidden = !text;
  $("message").textContent = text;
  if (spoken) $("live").textContent = spoken;
}

function server(name, text) {
  $("server").dataset.state = name;
  $("server").textContent = text;
}

async function models() {
  try {
    const reply = await ask("/v1/status");
    $("key").hidden = reply.status !== 401;
    if (reply.status === 401) return server("lost", "locked");
    if ((await reply.json()).state === "starting") {
      server("lost", "starting"); // its models are not known yet
      return setTimeout(models, 1000);
    }
    const { data } = await (await ask("/v1/models")).json();
    await speak.offer(data);
    const restore = data.find((model) => model.tasks.includes("restore"));
    if (restore) state.model = restore.id;
    server("ready", "ready");
    code();
  } catch {
    server("lost", "no server");
    setTimeout(models, 2000);
  }
}

const why = (error) =>
  ({
    NotAllowedError: "The microphone is blocked. Allow it in the address bar of the browser, then press Microphone again.",
    NotFoundError: "There is no microphone. Plug one in, then press Microphone again.",
    NotReadableError: "Another program holds the microphone. Close it there, then press Microphone again.",
    OverconstrainedError: "That microphone is gone. Choose another one.",
  })[error.name] || error.message;

async function toggle() {
  if (state.live) return stop();
  const live = (state.live = new Live());
  $("microphone").setAttribute("aria-pressed", "true");
  $("microphone-label").textContent = "Stop";
  tell("", "listening");
  before.clear();
  after.clear();
  live.addEventListener("spoken", ({ detail }) => { before.push(detail); level("level-in", detail); });
  live.addEventListener("heard", ({ detail }) => { after.push(detail); level("level-out", detail); });
  live.addEventListener("stats", ({ detail }) => delay(detail.delay));
  live.addEventListener("unplugged", () => { tell("The microphone was unplugged."); stop(); });
  live.addEventListener("state", ({ detail }) => connection(detail));
  live.addEventListener("error", ({ detail }) => tell(detail.error.message));
  live.addEventListener("event", ({ detail }) => detail.name === "overrun" && ($("live").textContent = "the server cannot keep up"));
  try {
    await live.start({ input: $("input").value, output: $("output").value, model: state.model, transport: $("transport").value, request: { strength: state.strength, bypass: state.bypass } });
    $("record").disabled = false;
    devices();
  } catch (error) {
    tell(why(error));
    stop();
  }
}

function connection(name) {
  if (!state.live) return;
  if (name === "live") { server("ready", "live"); tell("", "connected"); return; }
  server("lost", name === "lost" ? "reconnecting" : "not connected");
  if (name === "lost") return tell($("transport").value === "ws" ? "The connection is lost. Reconnecting; what you say is kept." : "The connection is lost. Calling again.");
  if (name === "full") tell("The server is full. Try again in a moment.");
  if (name === "gone") tell($("transport").value === "ws" ? "The server did not come back. Press Microphone to start again." : "No call gets through. Choose WebSocket as the connection, then press Microphone.");
  stop();
}

async function stop() {
  const live = state.live;
  state.live = null;
  $("microphone").setAttribute("aria-pressed", "false");
  $("microphone-label").textContent = "Microphone";
  $("record").disabled = true;
  if (live?.recording) record();
  await live?.stop();
  server("ready", "ready");
}

// The tab that the address names, the first where it names none.
function tab() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const chosen = tabs.find((one) => one.dataset.hash === location.hash) || tabs[0];
  for (const one of tabs) {
    one.setAttribute("aria-selected", String(one === chosen));
    one.tabIndex = one === chosen ? 0 : -1;
    $(one.getAttribute("aria-controls")).hidden = one !== chosen;
  }
  return chosen;
}

// Arrow keys go from tab to tab, as WAI-ARIA has it.
function walk(event) {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const at = tabs.indexOf(event.target);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  tabs[to % tabs.length].focus();
  location.hash = tabs[to % tabs.length].dataset.hash;
}

async function hear() {
  if (state.cast) {
    state.cast.stop();
    state.speaker.srcObject = state.cast = null;
  } else {
    try {
      state.cast = await listen($("cast").value);
      state.speaker = new Audio();
      state.speaker.srcObject = state.cast.stream;
      await state.speaker.play();
      tell("", `listening to ${$("cast").value}`);
    } catch (error) {
      tell(error.message);
    }
  }
  $("listen").setAttribute("aria-pressed", String(!!state.cast));
  $("listen").textContent = state.cast ? "Stop listening" : "Listen";
}

function level(id, sound) {
  let peak = 0;
  for (const value of sound) peak = Math.max(peak, Math.abs(value));
  const meter = $(id);
  meter.value = Math.max(peak, meter.value * 0.85);
}

function delay(figures) {
  if (!("total" in figures)) return;
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

function record() {
  const live = state.live;
  const on = $("record").getAttribute("aria-pressed") !== "true";
  $("record").setAttribute("aria-pressed", String(on));
  $("record").textContent = on ? "Stop recording" : "Record";
  const made = live?.record(on);
  if (on || !made) return;
  for (const [id, parts] of [["download-in", made.before], ["download-out", made.after]]) {
    $(id).href = URL.createObjectURL(wav(parts, 48000));
    $(id).hidden = false;
  }
  $("live").textContent = "both sides are ready to download";
}

async function devices() {
  const all = (await navigator.mediaDevices?.enumerateDevices()) || [];
  for (const [id, kind] of [["input", "audioinput"], ["output", "audiooutput"]]) {
    const chosen = $(id).value;
    const options = all.filter((d) => d.kind === kind && d.deviceId && d.deviceId !== "default").map((d, i) => new Option(d.label || `${kind} ${i + 1}`, d.deviceId));
    $(id).replaceChildren(new Option("Default", ""), ...options);
    $(id).value = [...$(id).options].some((o) => o.value === chosen) ? chosen : "";
  }
}

function change() {
  state.strength = $("strength").value / 100;
  state.bypass = document.querySelector("input[name=heard]:checked").value === "original";
  $("strength-value").textContent = `${$("strength").value} %`;
  state.live?.stream?.update({ strength: state.strength, bypass: state.bypass });
  files.hear(state.bypass);
  code();
}

function code() {
  $("whip").textContent = `${location.origin}/v1/whip/${state.model}?stream=${encodeURIComponent($("cast").value)}`;
  $("code").textContent = snippet(state.code, { ...state, origin: location.origin, file: files.name });
}

function theme() {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
}

const speak = new Speak({ $, tell });
const files = new Files({ $, before, after, tell, wanted: () => state, code });
$("microphone").onclick = toggle;
$("record").onclick = record;
$("theme").onclick = theme;
for (const one of document.querySelectorAll("[role=tab]")) one.onclick = () => (location.hash = one.dataset.hash);
document.querySelector("[role=tablist]").onkeydown = walk;
addEventListener("hashchange", tab);
tab();
$("strength").oninput = change;
for (const radio of document.querySelectorAll("input[name=heard]")) radio.onchange = change;
for (const button of document.querySelectorAll("[data-code]"))
  button.onclick = () => {
    state.code = button.dataset.code;
    for (const other of document.querySelectorAll("[data-code]")) other.setAttribute("aria-pressed", String(other === button));
    code();
  };
$("listen").onclick = hear;
$("cast").oninput = code;
$("key").onsubmit = (event) => {
  event.preventDefault();
  key.set($("secret").value);
  models();
};
$("copy").onclick = async () => {
  await navigator.clipboard.writeText($("code").textContent);
  $("live").textContent = "copied";
};
navigator.mediaDevices?.addEventListener("devicechange", devices);
devices();
models();
code();
window.riverrun = { state, speak, spectrograms: { before, after } }; // for whoever looks in from the console
