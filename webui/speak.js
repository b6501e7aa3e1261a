// The tab that speaks: text, voice and speed in; sound, the word that is heard, and files out.
import { $, say, tell } from "./page.js";
import { answer } from "./server.js";
import { Program, spoken } from "./snippets.js";
import { Spectrogram } from "./spectrogram.js";
import { loudspeaker, SOON, Speech } from "./speech.js";
import { wav } from "./wav.js";

const PAUSE = 300; // ms without typing after which what was typed is sent
const KEPT = 1200; // seconds of speech that are held here as they were heard
const TEXT = "riverrun.text"; // where the text is kept while the browser's tab is open

export class Speak {
  constructor(voices) {
    Object.assign(this, { kept: [], held: 0 });
    this.picker = voices.picker("", () => this.show());
    this.program = new Program("speech-", (language) => spoken(language, { origin: location.origin, model: this.model?.id ?? "", text: $("text").value, ...this.asked }));
    $("text").value = sessionStorage.getItem(TEXT) ?? $("text").value;
    $("text").oninput = () => this.typing();
    $("text").onscroll = () => ($("mirror").scrollTop = $("text").scrollTop);
    $("text").onkeydown = (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      this.toggle();
    };
    $("say").onclick = () => this.toggle();
    $("speed").oninput = () => {
      this.speech?.update({ speed: this.asked.speed });
      this.show();
    };
    $("seed").oninput = () => this.show();
    for (const button of document.querySelectorAll("[data-form]")) button.onclick = () => this.download(button.dataset.form);
    this.show();
  }

  // What the server can do.
  offer(models) {
    this.model = models.find((model) => model.speaks);
    $("mute").hidden = !!this.model;
    for (const control of $("speak-panel").querySelectorAll("[data-form], #say")) control.disabled = !this.model;
    if (this.model) this.spectrogram = new Spectrogram($("spoken"), this.model.rate);
    this.picker.known = this.model?.voices ?? [];
    this.picker.any = this.model && !this.picker.known.length;
    this.show();
  }

  get asked() {
    const seed = Math.max(0, Math.trunc(Number($("seed").value) || 0));
    return { voice: this.picker.value, speed: Number($("speed").value), seed };
  }

  toggle() {
    return this.speech ? this.stop() : this.start();
  }

  async start() {
    if (!this.model) return;
    if (!$("text").value.trim()) {
      tell("There is no text: type some.");
      return $("text").focus();
    }
    tell("", "");
    $("said").hidden = true;
    $("first").textContent = "–";
    $("first-server").textContent = "";
    this.base = this.held = 0;
    this.kept = [];
    this.spectrogram.clear();
    this.mark(0, 0);
    $("say").setAttribute("aria-pressed", "true");
    $("say-label").textContent = "Stop";
    await this.say(performance.now());
  }

  // Say the text from character `base` on.
  async say(pressed, live = SOON) {
    const { base } = this;
    this.points = Array.from($("text").value);
    this.given = $("text").value;
    this.drawn = this.part = 0; // ticks, and parts, that are on the screen
    this.saying = this.shown = -1; // words
    const speech = (this.speech = new Speech({ model: this.model.id, rate: this.model.rate, request: this.asked, points: this.points.slice(base), pressed, live }));
    const on = (type, act) => speech.addEventListener(type, ({ detail }) => act(detail));
    on("heard", (tick) => this.heard(tick));
    on("first", ({ total, server }) => {
      if (base) return; // what was typed later was not asked for by pressing Speak
      $("first").textContent = Math.round(total);
      $("first-server").textContent = `, of which the server took ${Math.round(server)}`;
    });
    on("error", (message) => tell(message));
    on("lost", () => tell((this.cut = "The connection is lost. Reconnecting.")));
    on("live", () => {
      if (this.cut) tell((this.cut = ""), "connected");
    });
    on("over", (why) => {
      if (!speech.refused || live === null) return this.over(why);
      tell("The server has no time to speak live now, so there may be pauses.");
      this.say(pressed, null);
    });
    try {
      this.speaker ??= await loudspeaker(this.model.rate);
      await this.speaker.context.resume();
      speech.play(this.speaker);
    } catch (error) {
      speech.end(error.message);
    }
  }

  typing() {
    sessionStorage.setItem(TEXT, $("text").value);
    clearTimeout(this.waiting);
    if (this.speech && !this.fits) this.mark(0, 0);
    this.waiting = setTimeout(() => {
      this.show();
      this.more();
    }, PAUSE);
  }

  // Whether what is in the field goes on with what was given to be said.
  get fits() {
    return $("text").value.startsWith(this.given);
  }

  more() {
    const { speech } = this;
    if (!speech) return;
    if (this.fits && !speech.finishing && $("text").value.length > this.given.length) {
      this.given = $("text").value;
      this.points = Array.from(this.given);
      speech.type(this.points.slice(this.base));
    }
    $("typing").textContent = this.fits ? "What you type now is said, too." : "The text has changed where it was said already: press Stop, then Speak, to hear it.";
  }

  // Draw what became heard since the last time, and mark the word.
  heard(tick) {
    const { speech } = this;
    for (let part; (part = speech.kept[this.part]) && part.pts < tick; this.part += 1) {
      const from = Math.max(this.drawn, part.pts);
      this.drawn = Math.min(tick, part.pts + part.sound.length);
      this.spectrogram.push(part.sound.subarray(from - part.pts, this.drawn - part.pts));
      if (this.drawn === tick) break;
    }
    while (tick && speech.words[this.saying + 1]?.begins <= tick) this.saying += 1;
    if (this.saying === this.shown || !this.fits) return;
    this.shown = this.saying;
    const { start, end } = speech.words[this.saying];
    this.mark(this.base + start, this.base + end);
  }

  mark(start, end) {
    const [before, word, after] = $("mirror").children;
    const text = (...places) => (this.points ?? []).slice(...places).join("");
    before.textContent = text(0, start);
    word.textContent = text(start, end);
    after.textContent = `${text(end)}\n`;
    $("mirror").scrollTop = $("text").scrollTop;
  }

  async stop() {
    const { speech } = this;
    if (this.stopping) return;
    this.stopping = true;
    const words = await speech.stop();
    this.stopping = false;
    const text = words.length ? this.points.slice(0, this.base + words.at(-1).end).join("") : "";
    if (words.length && this.fits) this.mark(this.base + words.at(-1).end, this.base + words.at(-1).end);
    $("said").hidden = false;
    $("said").textContent = text ? `Heard: “${text.trim()}”` : "Stopped before a word was heard.";
    say($("said").textContent);
  }

  over(why) {
    const { speech } = this;
    this.keep(speech.kept);
    this.speech = null;
    if (why) tell(why);
    if (speech.ended && !speech.stopped && this.fits && $("text").value.length > this.given.length) {
      this.base = this.points.length;
      return this.say(performance.now()); // typed when the stream was about to end
    }
    if (speech.ended && !speech.stopped && this.fits) this.mark(this.points.length, this.points.length);
    $("say").setAttribute("aria-pressed", "false");
    $("say-label").textContent = "Speak";
    $("typing").textContent = "Ctrl+Enter speaks and stops.";
    this.speaker?.context.suspend();
  }

  keep(parts) {
    for (const { sound } of parts) {
      this.held += sound.length;
      this.kept.push(sound);
    }
  }

  // What was heard, as it was; or made anew, in another form or because it was too long to be held.
  async download(form) {
    $("making").hidden = false;
    try {
      let made;
      if (form === "wav" && !this.speech && this.held && this.held < KEPT * this.model.rate) made = wav(this.kept, this.model.rate);
      else {
        const asked = { model: this.model.id, input: $("text").value, response_format: form, ...this.asked };
        const reply = await answer("/v1/audio/speech", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(asked) });
        made = await reply.blob();
      }
      const link = document.createElement("a");
      link.href = URL.createObjectURL(made);
      link.download = `speech.${form}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    } catch (error) {
      tell(error.message);
    }
    $("making").hidden = true;
  }

  show() {
    $("speed-value").textContent = `${Number($("speed").value).toFixed(2)} ×`;
    this.program.show();
  }
}
