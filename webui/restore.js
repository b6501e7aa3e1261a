// The tab that restores: the microphone live, a file, and what another program sends.
import { Files } from "./files.js";
import { Microphone } from "./microphone.js";
import { $, tell } from "./page.js";
import { listen } from "./rtc.js";
import { Program, restored } from "./snippets.js";

export class Restore {
  constructor() {
    this.model = "restore-lite";
    this.file = "";
    this.microphone = new Microphone({ prefix: "", wanted: () => ({ model: this.model, request: this.request }) });
    this.files = new Files({
      prefix: "", before: this.microphone.before, after: this.microphone.after, path: "/v1/audio/restorations", doing: "restoring", done: "restored",
      fields: () => ({ model: this.model, strength: this.request.strength }),
      original: () => this.request.bypass,
      chosen: (name) => { this.file = name; this.show(); },
    });
    this.program = new Program("", (language) => restored(language, { origin: location.origin, model: this.model, strength: this.request.strength, file: this.file }));
    $("strength").oninput = () => this.change();
    for (const radio of document.querySelectorAll("input[name=heard]")) radio.onchange = () => this.change();
    $("listen").onclick = () => this.listen();
    $("cast").oninput = () => this.show();
    this.show();
  }

  // What the server can do.
  offer(models) {
    this.model = models.find(({ tasks }) => tasks.includes("restore"))?.id ?? this.model;
    this.show();
  }

  get request() {
    return { strength: $("strength").value / 100, bypass: document.querySelector("input[name=heard]:checked").value === "original" };
  }

  change() {
    this.microphone.update(this.request);
    this.files.hear();
    this.show();
  }

  async listen() {
    if (this.cast) {
      this.cast.stop();
      this.speaker.srcObject = this.cast = null;
    } else {
      try {
        this.cast = await listen($("cast").value);
        this.speaker = new Audio();
        this.speaker.srcObject = this.cast.stream;
        await this.speaker.play();
        tell("", `listening to ${$("cast").value}`);
      } catch (error) {
        tell(error.message);
      }
    }
    $("listen").setAttribute("aria-pressed", String(!!this.cast));
    $("listen").textContent = this.cast ? "Stop listening" : "Listen";
  }

  show() {
    $("strength-value").textContent = `${$("strength").value} %`;
    $("whip").textContent = `${location.origin}/v1/whip/${this.model}?stream=${encodeURIComponent($("cast").value)}`;
    this.program.show();
  }
}
