// The tab that converts: the microphone live, or a file, in another voice.
import { Files } from "./files.js";
import { Microphone } from "./microphone.js";
import { within } from "./page.js";
import { converted, Program } from "./snippets.js";

export class Convert {
  constructor(voices) {
    const prefix = "convert-";
    const $ = (this.$ = within(prefix));
    this.file = "";
    this.bypass = false;
    this.picker = voices.picker(prefix, (voice) => this.change({ voice }));
    this.microphone = new Microphone({ prefix, wanted: () => ({ model: this.model.id, request: { ...this.asked, bypass: this.bypass } }) });
    this.files = new Files({
      prefix, before: this.microphone.before, after: this.microphone.after, path: "/v1/audio/conversions", doing: "converting", done: "converted",
      fields: () => ({ model: this.model.id, ...this.asked }),
      original: () => this.bypass,
      chosen: (name) => { this.file = name; this.show(); },
    });
    this.program = new Program(prefix, (language) => converted(language, { origin: location.origin, model: this.model?.id ?? "", file: this.file, ...this.asked }));
    $("model").onchange = () => this.choose($("model").value);
    $("pitch").oninput = () => this.change({ pitch: this.asked.pitch });
    $("bypass").onclick = () => {
      this.bypass = !this.bypass;
      this.change({ bypass: this.bypass });
      this.files.hear();
    };
    this.show();
  }

  // What the server can do.
  offer(models) {
    this.models = models.filter(({ tasks }) => tasks.includes("convert"));
    this.$("model").replaceChildren(...this.models.map(({ id, latency }) => new Option(`${id}, ${Math.round(1000 * latency)} ms`, id)));
    this.choose(this.models.some(({ id }) => id === this.model?.id) ? this.model.id : this.models[0]?.id);
  }

  // Convert by another model from now on; a stream is of one, so a new one is begun.
  async choose(wanted) {
    const { live } = this.microphone;
    if (live) await this.microphone.stop();
    this.model = this.models.find(({ id }) => id === wanted);
    this.$("model").value = wanted;
    this.picker.known = this.model?.voices ?? [];
    this.picker.show(this.picker.own);
    this.show();
    if (live) await this.microphone.start();
  }

  get asked() {
    return { voice: this.picker.value, pitch: Number(this.$("pitch").value) };
  }

  change(request) {
    this.microphone.update(request);
    this.show();
  }

  show() {
    const { $ } = this;
    const { pitch } = this.asked;
    $("pitch-value").textContent = `${pitch > 0 ? "+" : ""}${pitch} semitones`.replace("-", "−");
    $("bypass").setAttribute("aria-checked", String(this.bypass));
    $("bypass-state").textContent = this.bypass ? "on: you are heard as you are" : "off: you are heard in the voice below";
    this.fit();
    this.program.show();
  }

  // How the model does on the server's machine, as it was timed when the server started.
  fit() {
    const line = this.$("fit");
    const fit = this.model?.fit;
    line.hidden = !fit;
    if (!fit) return;
    const { preset, latency, p95, hop, fits } = fit;
    const ms = (seconds) => `${Math.round(1000 * seconds)} ms`;
    const took = `${ms(p95)} for a window of ${ms(hop)}`;
    line.className = fits ? "hint" : "slow";
    line.textContent = fits
      ? `${preset && `Preset ${preset}. `}${ms(latency)} of delay before computing; the server's machine takes ${took}.`
      : `The server's machine is too slow to convert live: ${preset ? `the preset ${preset} comes nearest and` : "it"} takes ${took}.`;
  }
}
