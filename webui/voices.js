// Voices: those that models know, and one's own, which are recorded here, or handed in, under a spoken consent.
import { blocked, capture, release, tap } from "./capture.js";
import { $, level, say, tell, within } from "./page.js";
import { told } from "./server.js";
import { wav } from "./wav.js";

const MOST = 15; // seconds of a recording
const TAKES = { consent: "Record the consent", sample: "Record the voice" };

// Where a tab has one of them chosen; `known` are the names of its model's, and with `any` none need be chosen.
class Picker {
  constructor(prefix, voices, changed) {
    this.$ = within(prefix);
    Object.assign(this, { changed, known: [], own: [] });
    this.$("voice").onchange = () => this.chosen();
    this.$("forget").onclick = () => voices.forget(this.own.find(({ id }) => id === this.value));
  }

  get value() {
    return this.$("voice").value;
  }

  show(own, wanted = this.value) {
    const before = this.value;
    this.own = own;
    const group = (label, voices) => {
      const made = document.createElement("optgroup");
      made.label = label;
      made.append(...voices.map(({ id, name }) => new Option(name, id)));
      return made;
    };
    const builtin = this.known.map((name) => ({ id: name, name }));
    const groups = [["The model's", builtin], ["Your own", own]].filter(([, voices]) => voices.length);
    const any = this.any ? [new Option("One that the seed picks", "")] : [];
    this.$("voice").replaceChildren(...any, ...groups.map(([label, voices]) => group(label, voices)));
    if ([...builtin, ...own].some(({ id }) => id === wanted)) this.$("voice").value = wanted;
    this.chosen(before);
  }

  chosen(before) {
    this.$("forget").hidden = !this.own.some(({ id }) => id === this.value);
    if (this.value !== before) this.changed(this.value);
  }
}

export class Voices {
  constructor() {
    Object.assign(this, { own: [], made: {}, taking: null, pickers: [] });
    for (const take of Object.keys(TAKES)) {
      $(take).onclick = () => this.toggle(take);
      $(`${take}-file`).onchange = () => this.take(take, $(`${take}-file`).files[0]);
    }
    $("own-form").onsubmit = (event) => {
      event.preventDefault();
      this.add();
    };
  }

  // `changed` is called with the voice that is chosen from now on.
  picker(prefix, changed) {
    const picker = new Picker(prefix, this, changed);
    this.pickers.push(picker);
    return picker;
  }

  // What of them is on the screen.
  get shown() {
    return this.pickers.find((picker) => picker.$("voice").checkVisibility());
  }

  async list(wanted) {
    try {
      this.own = (await told("/v1/audio/voices")).data.filter((voice) => voice.object);
    } catch (error) {
      tell(error.message);
    }
    for (const picker of this.pickers) picker.show(this.own, picker === this.shown ? wanted : undefined);
  }

  // Begin a take, or end the one that is made.
  async toggle(take) {
    if (this.taking) return this.taking.stop();
    const parts = [];
    let context, media, timer;
    const ended = new Promise((stop) => (this.taking = { stop }));
    $(take).setAttribute("aria-pressed", "true");
    $(take).textContent = "Stop";
    for (const other of [...Object.keys(TAKES), "own-add"]) $(other).disabled = other !== take;
    try {
      ({ context, media } = await capture({ autoGainControl: true }));
      let length = 0;
      tap(context, media, ({ sound }) => {
        parts.push(sound);
        length += sound.length / context.sampleRate;
        $(`${take}-length`).textContent = `${length.toFixed(1)} s`;
        level($(`${take}-level`), sound);
      });
      timer = setTimeout(this.taking.stop, 1000 * MOST);
      await ended;
      this.take(take, wav(parts, context.sampleRate));
      say("recorded");
    } catch (error) {
      tell(blocked(error, "Record"));
    }
    clearTimeout(timer);
    await release({ media, context });
    this.taking = null;
    $(`${take}-level`).value = 0;
    $(take).setAttribute("aria-pressed", "false");
    $(take).textContent = this.made[take] ? "Record again" : TAKES[take];
    for (const other of Object.keys(TAKES)) $(other).disabled = false;
    $("own-add").disabled = !this.made.consent;
  }

  // Have a recording, to be heard before it is handed in.
  take(take, recording) {
    if (!recording) return;
    this.made[take] = recording;
    URL.revokeObjectURL($(`${take}-heard`).src);
    $(`${take}-heard`).src = URL.createObjectURL(recording);
    $(`${take}-heard`).hidden = false;
    $(`${take}-length`).textContent = recording.name ?? $(`${take}-length`).textContent;
    $("own-add").disabled = !this.made.consent;
  }

  // Hand both recordings in; a consent that no voice came of is not kept.
  async add() {
    const { made } = this;
    const name = $("own-name").value.trim();
    const transcript = $("own-transcript").value.trim();
    $("own-add").disabled = true;
    let consent;
    try {
      consent = await this.send("voice_consents", { name, language: "en-US", recording: made.consent });
      const voice = await this.send("voices", { name, consent: consent.id, transcript, audio_sample: made.sample ?? made.consent });
      const said = [`the voice ${name} is added and chosen`, ...voice.warnings].join("; ");
      tell(voice.warnings.length ? said : "", said);
      this.clear();
      await this.list(voice.id);
      this.shown.$("voice").focus();
    } catch (error) {
      tell(error.message);
      $("own-add").disabled = false;
      if (consent) told(`/v1/audio/voice_consents/${consent.id}`, { method: "DELETE" }).catch(() => {});
    }
  }

  send(what, fields) {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) value instanceof Blob ? form.append(name, value, value.name ?? `${name}.wav`) : form.append(name, value);
    return told(`/v1/audio/${what}`, { method: "POST", body: form });
  }

  clear() {
    this.made = {};
    $("own-transcript").value = "";
    for (const take of Object.keys(TAKES)) {
      URL.revokeObjectURL($(`${take}-heard`).src);
      $(`${take}-heard`).removeAttribute("src");
      $(`${take}-heard`).hidden = true;
      $(`${take}-file`).value = "";
      $(`${take}-length`).textContent = "";
      $(take).textContent = TAKES[take];
    }
    $("own").open = false;
  }

  // Erase a voice, and its consent unless another voice was made under it.
  async forget(voice) {
    const { own } = this;
    if (!voice || !confirm(`Erase the voice “${voice.name}” and its recordings from the server?`)) return;
    const shared = own.some(({ id, consent }) => id !== voice.id && consent === voice.consent);
    try {
      await told(shared ? `/v1/audio/voices/${voice.id}` : `/v1/audio/voice_consents/${voice.consent}`, { method: "DELETE" });
      tell("", `the voice ${voice.name} is erased`);
    } catch (error) {
      tell(error.message);
    }
    await this.list();
    this.shown.$("voice").focus();
  }
}
