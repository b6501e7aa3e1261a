// Voices: those that the model knows, and one's own, which are recorded here under a spoken consent.
import { told } from "./server.js";
import { wav } from "./wav.js";

const MOST = 15; // seconds of a recording
const TAKES = { consent: "Record the consent", sample: "Record the voice" };
const BLOCKED = {
  NotAllowedError: "The microphone is blocked. Allow it in the address bar of the browser, then press Record again.",
  NotFoundError: "There is no microphone. Plug one in, then press Record again.",
  NotReadableError: "Another program holds the microphone. Close it there, then press Record again.",
};

export class Voices {
  constructor({ $, tell, changed }) {
    Object.assign(this, { $, tell, changed, own: [], made: {}, taking: null });
    $("voice").onchange = () => this.chosen();
    $("forget").onclick = () => this.forget();
    for (const take of Object.keys(TAKES)) $(take).onclick = () => this.toggle(take);
    $("own-form").onsubmit = (event) => {
      event.preventDefault();
      this.add();
    };
  }

  async list(known = this.known, wanted = this.$("voice").value) {
    const { $ } = this;
    this.known = known;
    try {
      this.own = (await told("/v1/audio/voices")).data.filter((voice) => voice.object);
    } catch (error) {
      this.tell(error.message);
    }
    const group = (label, voices) => {
      const made = document.createElement("optgroup");
      made.label = label;
      made.append(...voices.map(({ id, name }) => new Option(name, id)));
      return made;
    };
    const builtin = known.map((name) => ({ id: name, name }));
    const groups = [["The model's", builtin], ["Your own", this.own]].filter(([, voices]) => voices.length);
    $("voice").replaceChildren(...groups.map(([label, voices]) => group(label, voices)));
    if ([...$("voice").options].some((option) => option.value === wanted)) $("voice").value = wanted;
    this.chosen();
  }

  chosen() {
    this.$("forget").hidden = !this.own.some((voice) => voice.id === this.$("voice").value);
    this.changed();
  }

  // Begin a take, or end the one that is made.
  async toggle(take) {
    if (this.taking) return this.taking.stop();
    const { $ } = this;
    const parts = [];
    let context, media, timer;
    const ended = new Promise((stop) => (this.taking = { stop }));
    $(take).setAttribute("aria-pressed", "true");
    $(take).textContent = "Stop";
    for (const other of [...Object.keys(TAKES), "own-add"]) $(other).disabled = other !== take;
    try {
      if (!navigator.mediaDevices) throw new Error("This page needs a secure address: open it over https or on 127.0.0.1.");
      media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true } });
      context = new AudioContext({ sampleRate: 48000 });
      await context.audioWorklet.addModule("/static/capture-worklet.js");
      const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
      let length = 0;
      node.port.onmessage = ({ data: { sound } }) => {
        parts.push(sound);
        length += sound.length / context.sampleRate;
        $(`${take}-length`).textContent = `${length.toFixed(1)} s`;
        const peak = sound.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        $(`${take}-level`).value = Math.max(peak, $(`${take}-level`).value * 0.85);
      };
      context.createMediaStreamSource(media).connect(node);
      timer = setTimeout(this.taking.stop, 1000 * MOST);
      await ended;
      this.made[take] = wav(parts, context.sampleRate);
      $(`${take}-heard`).src = URL.createObjectURL(this.made[take]);
      $(`${take}-heard`).hidden = false;
      $("live").textContent = "recorded";
    } catch (error) {
      this.tell(BLOCKED[error.name] || error.message);
    }
    clearTimeout(timer);
    media?.getTracks().forEach((track) => track.stop());
    await context?.close();
    this.taking = null;
    $(`${take}-level`).value = 0;
    $(take).setAttribute("aria-pressed", "false");
    $(take).textContent = this.made[take] ? "Record again" : TAKES[take];
    for (const other of Object.keys(TAKES)) $(other).disabled = false;
    $("own-add").disabled = !this.made.consent;
  }

  // Hand both recordings in; a consent that no voice came of is not kept.
  async add() {
    const { $, made } = this;
    const name = $("own-name").value.trim();
    $("own-add").disabled = true;
    let consent;
    try {
      consent = await this.send("voice_consents", { name, language: "en-US", recording: made.consent });
      const voice = await this.send("voices", { name, consent: consent.id, audio_sample: made.sample ?? made.consent });
      this.tell("", `the voice ${name} is added and chosen`);
      this.clear();
      await this.list(this.known, voice.id);
      $("voice").focus();
    } catch (error) {
      this.tell(error.message);
      $("own-add").disabled = false;
      if (consent) told(`/v1/audio/voice_consents/${consent.id}`, { method: "DELETE" }).catch(() => {});
    }
  }

  send(what, fields) {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) value instanceof Blob ? form.append(name, value, `${name}.wav`) : form.append(name, value);
    return told(`/v1/audio/${what}`, { method: "POST", body: form });
  }

  clear() {
    const { $ } = this;
    this.made = {};
    for (const take of Object.keys(TAKES)) {
      URL.revokeObjectURL($(`${take}-heard`).src);
      $(`${take}-heard`).removeAttribute("src");
      $(`${take}-heard`).hidden = true;
      $(`${take}-length`).textContent = "";
      $(take).textContent = TAKES[take];
    }
    $("own").open = false;
  }

  // Erase the chosen voice, and its consent unless another voice was made under it.
  async forget() {
    const { $, own } = this;
    const voice = own.find(({ id }) => id === $("voice").value);
    if (!voice || !confirm(`Erase the voice “${voice.name}” and its recordings from the server?`)) return;
    const shared = own.some(({ id, consent }) => id !== voice.id && consent === voice.consent);
    try {
      await told(shared ? `/v1/audio/voices/${voice.id}` : `/v1/audio/voice_consents/${voice.consent}`, { method: "DELETE" });
      this.tell("", `the voice ${voice.name} is erased`);
    } catch (error) {
      this.tell(error.message);
    }
    await this.list();
    $("voice").focus();
  }
}
