// A recording through the server: before and after, played at the same place.
import { answer } from "./server.js";
import { say, tell, within } from "./page.js";

export class Files {
  // `fields` gives what is asked for of the server at `path`, `original` whether what went in is heard; `chosen` is called with a name.
  constructor({ prefix, before, after, path, doing, done, fields, original, chosen }) {
    const $ = (this.$ = within(prefix));
    Object.assign(this, { before, after, path, doing, done, fields, original, chosen });
    $("file").onchange = () => $("file").files[0] && this.send($("file").files[0]);
    const drop = $("drop");
    for (const type of ["dragover", "dragenter"]) document.addEventListener(type, (event) => { event.preventDefault(); drop.classList.add("over"); });
    document.addEventListener("dragleave", () => drop.classList.remove("over"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      if (drop.checkVisibility() && event.dataTransfer.files[0]) this.send(event.dataTransfer.files[0]);
    });
    $("play").onclick = () => (this.sources ? this.pause() : this.play());
    $("seek").oninput = () => this.jump();
  }

  async send(file) {
    const { $ } = this;
    this.pause();
    this.chosen(file.name);
    tell("", this.doing);
    $("progress").hidden = false;
    $("progress").removeAttribute("value");
    $("player").hidden = true;
    const form = new FormData();
    form.append("file", file);
    for (const [name, value] of Object.entries(this.fields())) form.append(name, value);
    form.append("response_format", "wav");
    try {
      const blob = await (await answer(this.path, { method: "POST", body: form })).blob();
      URL.revokeObjectURL($("save").href);
      $("save").href = URL.createObjectURL(new Blob([blob], { type: "audio/wav" }));
      $("save").download = `${file.name.replace(/\.[^.]*$/, "")}.${this.done}.wav`;
      this.context ||= new AudioContext({ sampleRate: 48000 });
      this.sounds = await Promise.all([file, blob].map(async (b) => this.context.decodeAudioData(await b.arrayBuffer())));
      this.length = this.sounds[1].duration;
      this.before.whole(this.sounds[0].getChannelData(0));
      this.after.whole(this.sounds[1].getChannelData(0));
      $("player").hidden = false;
      say(`${this.done}, ${this.length.toFixed(1)} seconds`);
    } catch (error) {
      tell(error.message);
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
    this.hear(0);
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

  // Fade to what is to be heard.
  hear(fade = 0.02) {
    if (!this.sources) return;
    const now = this.context.currentTime;
    this.gains.forEach((gain, i) => gain.gain.setTargetAtTime((i === 0) === this.original() ? 1 : 0, now, Math.max(fade / 3, 1e-4)));
  }

  label(text, pressed) {
    this.$("play").textContent = text;
    this.$("play").setAttribute("aria-pressed", pressed);
  }
}
