// The tab that shows: a prompt that may change while its pictures are watched, and the clips that became of it.
import * as clips from "./clips.js";
import { settings } from "./mp4.js";
import { say, server, tell, within } from "./page.js";
import { Program, shown } from "./snippets.js";
import { Watch } from "./watch.js";

const PIXELS = 20e6; // of a picture that is taken
const LARGE = 250_000; // characters of a picture in a request, from which on it is coded with losses
const CLIP = 1 << 28; // bytes of a clip that is read
const $ = within("show-");

const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;

export class Show {
  constructor() {
    this.picture = "";
    this.program = new Program("show-", (language) => shown(language, { origin: location.origin, model: this.model?.id ?? "", ...this.asked }));
    $("start").onclick = () => (this.watch ? this.stop() : this.start());
    $("change").onclick = () => this.change();
    $("pause").onclick = () => this.pause(!this.watch.paused);
    $("prompt").oninput = () => this.show();
    for (const id of ["seconds", "seed"]) $(id).oninput = () => this.show();
    $("dice").onclick = () => {
      $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
      this.show();
    };
    $("prompt").onkeydown = (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      if (this.watch) this.change();
      else this.start();
    };
    $("file").onchange = () => $("file").files[0] && this.take($("file").files[0]);
    $("drop-picture").onclick = () => this.begin("");
    this.dropping();
    this.show();
  }

  // What the server can do.
  offer(models) {
    this.model = models.find(({ shows }) => shows);
    if (!this.model) return;
    [$("picture").height, $("picture").width] = this.model.size;
    if (!this.kept) this.gallery().catch(() => ($("none").textContent = "This browser keeps nothing here: download what you want to keep."));
    this.show();
  }

  get asked() {
    const seed = Math.max(0, Math.trunc(Number($("seed").value) || 0));
    return { prompt: $("prompt").value.trim(), seconds: Number($("seconds").value), seed, ...(this.picture && { picture: this.picture }) };
  }

  start() {
    if (!this.asked.prompt) {
      tell("There is no prompt: write what is to be seen.");
      return $("prompt").focus();
    }
    tell("", "starting");
    for (const id of ["first", "pace", "time"]) $(id).textContent = "–";
    $("slow").hidden = true;
    this.at = 0; // seconds up to the picture that is seen
    const watch = (this.watch = new Watch({ video: $("video"), model: this.model, request: this.asked, transport: $("transport").value, pressed: performance.now() }));
    const on = (type, act) => watch.addEventListener(type, ({ detail }) => act(detail));
    on("first", (ms) => {
      $("first").textContent = Math.round(ms);
      $("video").closest("figure").removeAttribute("data-empty");
      say("showing");
    });
    on("prompts", () => this.show());
    on("less", (less) => { $("slow").hidden = !less.some((what) => what.startsWith("steps")); });
    on("time", (seconds) => this.seen(seconds));
    on("error", (message) => tell(message));
    on("state", (name) => {
      if (name === "lost") server("lost", "reconnecting");
      else server("ready", "live");
    });
    on("over", ({ why, clip }) => this.over(why, clip));
    this.show();
  }

  change() {
    const { prompt } = this.asked;
    if (!this.watch || prompt === this.watch.prompts.at(-1).text) return;
    if (!prompt) return tell("There is no prompt: write what is to be seen.");
    tell("", "changed");
    this.watch.change(prompt);
    this.show();
  }

  pause(on) {
    this.watch.pause(on);
    say(on ? "paused" : "going on");
    this.show();
  }

  stop() {
    this.watch.finish();
    $("start").disabled = true;
  }

  async over(why, clip) {
    this.last = this.watch;
    this.watch = null;
    $("slow").hidden = true;
    server("ready", "ready");
    if (why) tell(why);
    this.show();
    if (!clip) return;
    say("kept among your clips");
    try {
      this.add(await clips.keep(clip.blob, clip.made));
    } catch {
      this.add({ id: 0, ...clip }); // until the page is left
    }
  }

  seen(seconds) {
    const { watch } = this;
    $("pace").textContent = watch.paused ? "–" : watch.pace.toFixed(1);
    $("time").textContent = clock(seconds);
    this.at = seconds;
    this.timeline();
  }

  // The prompts, each with when it was shown; how long, on the bar.
  timeline() {
    const seconds = this.at;
    const watch = this.watch ?? this.last;
    if (!watch) return;
    const begins = watch.prompts.map(({ tick }) => (tick === null ? Infinity : tick / watch.rate));
    const now = begins.findLastIndex((begin) => begin <= seconds);
    const key = JSON.stringify([watch.prompts, now, !this.watch]);
    if (key !== this.drawn) {
      this.drawn = key;
      $("prompts").replaceChildren(...watch.prompts.map(({ text, tick }, i) => {
        const item = document.createElement("li");
        const [mark, time, said] = ["i", "time", "span"].map((kind) => document.createElement(kind));
        mark.className = `c${i % 6}`;
        time.textContent = tick === null ? "waits" : clock(begins[i]);
        said.textContent = text;
        item.append(mark, time, said);
        if (this.watch && i === now) item.setAttribute("aria-current", "true");
        return item;
      }));
      $("now").textContent = now >= 0 ? watch.prompts[now].text : "Live";
      $("prompts").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
    }
    const shown = begins.filter((begin) => begin < seconds);
    $("bar").replaceChildren(...shown.map((begin, i) => {
      const part = document.createElement("i");
      part.className = `c${i % 6}`;
      part.style.width = `${(100 * ((shown[i + 1] ?? seconds) - begin)) / seconds}%`;
      return part;
    }));
  }

  // First pictures, and settings of clips

  dropping() {
    const drop = $("drop");
    for (const type of ["dragover", "dragenter"]) document.addEventListener(type, () => drop.classList.add("over"));
    document.addEventListener("dragleave", () => drop.classList.remove("over"));
    document.addEventListener("drop", (event) => {
      drop.classList.remove("over");
      if (drop.checkVisibility() && event.dataTransfer.files[0]) this.take(event.dataTransfer.files[0]);
    });
  }

  async take(file) {
    $("file").value = "";
    try {
      if (file.type.startsWith("image/")) await this.still(file);
      else this.use(await made(file));
    } catch (error) {
      tell(error.message);
    }
  }

  // A picture cut to what the model gives.
  async still(file) {
    const bitmap = await createImageBitmap(file).catch(() => { throw new Error(`${file.name} cannot be read: it is damaged, or no picture.`); });
    const { width, height } = bitmap;
    if (width * height > PIXELS) throw new Error(`${file.name} has ${width} × ${height} pixels, the limit is ${PIXELS / 1e6} million: make it smaller.`);
    const canvas = $("picture");
    const scale = Math.max(canvas.width / width, canvas.height / height);
    const [w, h] = [canvas.width / scale, canvas.height / scale];
    canvas.getContext("2d").drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h, 0, 0, canvas.width, canvas.height);
    const exact = canvas.toDataURL("image/png");
    this.begin(exact.length < LARGE ? exact : canvas.toDataURL("image/jpeg", 0.9));
    tell("", `begins with ${file.name}`);
  }

  begin(picture) {
    this.picture = picture;
    for (const id of ["picture", "drop-picture"]) $(id).hidden = !picture;
  }

  use({ prompt, seconds, seed }) {
    $("prompt").value = prompt ?? "";
    $("seconds").value = seconds ?? 0;
    $("seed").value = seed ?? 0;
    tell("", "settings are back");
    this.show();
    $("prompt").focus();
  }

  // The gallery

  async gallery() {
    this.kept = true;
    for (const clip of (await clips.list()).reverse()) this.add(clip);
  }

  add({ id, blob, made }) {
    const part = document.getElementById("clip-part").content.cloneNode(true).firstElementChild;
    const url = URL.createObjectURL(blob);
    const [video, title, hint, link] = ["video", ".title", ".hint", "a"].map((one) => part.querySelector(one));
    video.src = link.href = url;
    video.setAttribute("aria-label", (title.textContent = made.prompts?.map(({ prompt }) => prompt).join(" → ") || made.prompt));
    hint.textContent = [made.length && `${made.length.toFixed(1)} s`, `seed ${made.seed}`, made.model].filter(Boolean).join(" · ");
    link.download = `${made.prompt.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40) || "clip"}.mp4`;
    part.querySelector("[data-do=use]").onclick = () => this.use(made);
    part.querySelector("[data-do=forget]").onclick = async () => {
      if (id) await clips.remove(id);
      part.remove();
      URL.revokeObjectURL(url);
      this.show();
    };
    $("clips").prepend(part);
    this.show();
  }

  show() {
    const { watch } = this;
    const seconds = Number($("seconds").value);
    $("seconds-value").textContent = seconds ? `${seconds} s` : "until you stop";
    $("start").setAttribute("aria-pressed", String(!!watch));
    $("start").disabled = !this.model;
    $("start-label").textContent = watch ? "Stop" : "Show";
    $("pause").disabled = !watch;
    $("pause").textContent = watch?.paused ? "Go on" : "Pause";
    $("pause").setAttribute("aria-pressed", String(!!watch?.paused));
    $("change").disabled = !watch || this.asked.prompt === watch.prompts.at(-1).text;
    for (const id of ["seconds", "seed", "dice", "transport", "file", "drop-picture"]) $(id).disabled = !!watch;
    $("none").hidden = $("clips").children.length > 0;
    this.timeline();
    this.program.show();
  }
}

// How a clip was made. Throws if it does not say so.
async function made(file) {
  const found = file.size < CLIP ? settings(new Uint8Array(await file.arrayBuffer())) : null;
  if (!found?.prompt) throw new Error(`${file.name} does not say how it was made: drop a clip that was downloaded here.`);
  return found;
}
