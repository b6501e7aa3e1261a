// A recording through the server: before and after, played at the same place.
import { ask } from "./server.js";

export class Files {
  constructor({ $, before, after, tell, wanted, code }) {
    Object.assign(this, { $, before, after, tell, wanted, code, name: "" });
    $("file").onchange = () => $("file").files[0] && this.restore($("file").files[0]);
    const drop = $("drop");
    for (const type of ["dragover", "dragenter"]) document.addEventListener(type, (event) => { event.preventDefault(); drop.classList.add("over"); });
    document.addEventListener("dragleave", () => drop.classList.remove("over"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      if (event.dataTransfer.files[0]) this.restore(event.dataTransfer.files[0]);
    });
    $("play").onclick = () => (this.sources ? this.pause() : this.play());
    $("seek").oninput = () => this.jump(($("seek").value / 1000) * this.length);
  }

  async restore(file) {
    const { $, tell } = this;
    this.pause();
    this.name = file.name;
    this.code();
    tell("", "restoring");
    $("progress").hidden = false;
    $("progress").removeAttribute("value");
    $("player").hidden = true;
    const { model, strength } = this.wanted();
    const form = new FormData();
    form.append("file", file);
    form.append("model", model);
    form.append("strength", strength);
    form.append("response_format", "wav");
    try {
      const reply = await ask("/v1/audio/restorations", { method: "POST", body: form });
      if (!reply.ok) throw new Error((await reply.json()).error.message);
      const blob = await reply.blob();
      $("save").href = URL.createObjectURL(new Blob([blob], { type: "audio/wav" }));
      $("save").download = `${file.name.replace(/\.[^.]*$/, "")}.restored.wav`;
      this.context ||= new AudioContext({ sampleRate: 48000 });
      this.sounds = await Promise.all([file, blob].map(async (b) => this.context.decodeAudioData(await b.arrayBuffer())));
      this.length = this.sounds[1].duration;
      this.before.whole(this.sounds[0].getChannelData(0));
      this.after.whole(this.sounds[1].getChannelData(0));
      $("player").hidden = false;
      $("live").textContent = `restored, ${this.length.toFixed(1)} seconds`;
    } catch (error) {
      tell(error instanceof TypeError ? "The server cannot be reached." : error.message);
    } finally {
      $("progress").hidden = true;
      $("file").value = "";
    }
  }

  play() {
    if (!this.sounds) return;
    const start = ((this.$("seek").value % 1000) / 1000) * this.length;
    this.gains = this.sounds.map(() => this.context.createGain());
    this.sources = this.sounds.map((buffer, i) => {
      const source = this.context.createBufferSource();
      source.buffer = buffer;
      source.connect(this.gains[i]).connect(this.context.destination);
      source.start(0, start);
      return source;
    });
    this.hear(this.wanted().bypass, 0);
    this.begun = this.context.currentTime - start;
    this.sources[1].onended = () => this.sources && this.context.currentTime - this.begun >= this.length - 0.05 && this.pause();
    this.timer = setInterval(() => (this.$("seek").value = (1000 * (this.context.currentTime - this.begun)) / this.length), 100);
    this.label("Pause", "true");
    this.context.resume();
  }

  pause() {
    clearInterval(this.timer);
    const sources = this.sources;
    this.sources = null;
    sources?.forEach((source) => source.stop());
    this.label("Play", "false");
  }

  jump() {
    if (this.sources) { this.pause(); this.play(); }
  }

  hear(original, fade = 0.02) {
    if (!this.sources) return;
    const now = this.context.currentTime;
    this.gains.forEach((gain, i) => gain.gain.setTargetAtTime((i === 0) === original ? 1 : 0, now, Math.max(fade / 3, 1e-4)));
  }

  label(text, pressed) {
    this.$("play").textContent = text;
    this.$("play").setAttribute("aria-pressed", pressed);
  }
}
