// What is on the screen, as a program.
import { say, within } from "./page.js";

const LONG = 240; // characters of a text that are shown
const LANGUAGES = ["curl", "python"];

// A card that shows it in the language that is chosen, and copies it. `write` is given the language.
export class Program {
  constructor(prefix, write) {
    Object.assign(this, { $: within(prefix), write, language: LANGUAGES[0] });
    for (const language of LANGUAGES) this.$(language).onclick = () => this.choose(language);
    this.$("copy").onclick = async () => {
      await navigator.clipboard.writeText(this.$("code").textContent);
      say("copied");
    };
  }

  choose(language) {
    this.language = language;
    for (const other of LANGUAGES) this.$(other).setAttribute("aria-pressed", String(other === language));
    this.show();
  }

  show() {
    this.$("code").textContent = this.write(this.language);
  }
}

// Of restoring.
export function restored(language, { origin, model, strength, file }) {
  const name = file || "noisy.wav";
  if (language === "curl")
    return [`curl ${origin}/v1/audio/restorations`, `  -F file=@${name}`, `  -F model=${model}`, `  -F strength=${strength}`, "  -F response_format=flac -o clean.flac"].join(" \\\n");
  return [
    "import riverrun",
    "",
    `with riverrun.Client("${origin}") as client:`,
    `    client.restore(${JSON.stringify(name)}, "clean.flac", model="${model}", strength=${strength})`,
    `    with client.stream("${model}", rate=48_000, live=0.1, strength=${strength}) as stream:`,
    "        for chunk in stream.through(microphone):  # an iterable of arrays",
    "            play(chunk.data)",
  ].join("\n");
}

// Of converting.
export function converted(language, { origin, model, voice, pitch, file }) {
  const name = file || "in.wav";
  if (language === "curl")
    return [`curl ${origin}/v1/audio/conversions`, `  -F file=@${name}`, `  -F model=${model}`, `  -F voice=${voice}`, ...(pitch ? [`  -F pitch=${pitch}`] : []), "  -F response_format=flac -o converted.flac"].join(" \\\n");
  const asked = `voice=${JSON.stringify(voice)}${pitch ? `, pitch=${pitch.toFixed(1)}` : ""}`;
  return [
    "import riverrun",
    "",
    `with riverrun.Client("${origin}") as client:`,
    `    client.convert(${JSON.stringify(name)}, "converted.flac", model="${model}", ${asked})`,
    `    with client.stream("${model}", rate=48_000, live=0.1, ${asked}) as stream:`,
    "        for chunk in stream.through(microphone):  # an iterable of arrays",
    "            play(chunk.data)",
  ].join("\n");
}

// Of showing.
export function shown(language, { origin, model, prompt, seconds, seed }) {
  const length = String(seconds || 4);
  if (language === "curl")
    return [`curl ${origin}/v1/videos`, `  -F model=${model}`, `  -F prompt='${prompt.replaceAll("'", "'\\''")}'`, `  -F seconds=${length}`, ...(seed ? [`  -F seed=${seed}`] : [])].join(" \\\n") + `\ncurl ${origin}/v1/videos/ID/content -o clip.mp4  # with the id that came`;
  return [
    "from openai import OpenAI  # pip install openai",
    "",
    `client = OpenAI(base_url="${origin}/v1", api_key="none")`,
    "video = client.videos.create_and_poll(",
    `    model=${JSON.stringify(model)},`,
    `    prompt=${JSON.stringify(prompt)},`,
    `    extra_body={"seconds": "${length}"${seed ? `, "seed": ${seed}` : ""}},`,
    ")",
    'client.videos.download_content(video.id).write_to_file("clip.mp4")',
  ].join("\n");
}

// Of speech.
export function spoken(language, { origin, model, voice, speed, seed, text }) {
  const input = text.length > LONG ? `${[...text].slice(0, LONG).join("").trimEnd()}...` : text;
  const asked = { model, voice, input, ...(speed !== 1 && { speed }), ...(seed && { seed }) };
  if (language === "curl")
    return [`curl ${origin}/v1/audio/speech`, "  -H 'Content-Type: application/json'", `  -d '${JSON.stringify(asked, null, 2).replaceAll("'", "'\\''").replaceAll("\n", "\n  ")}'`, "  -o speech.mp3"].join(" \\\n");
  const { seed: extra, ...known } = asked;
  return [
    "from openai import OpenAI  # pip install openai",
    "",
    `client = OpenAI(base_url="${origin}/v1", api_key="none")`,
    "with client.audio.speech.with_streaming_response.create(",
    ...Object.entries(known).map(([name, value]) => `    ${name}=${JSON.stringify(value)},`),
    '    response_format="wav",',
    ...(extra ? [`    extra_body={"seed": ${extra}},`] : []),
    ") as speech:",
    '    speech.stream_to_file("speech.wav")  # as it comes',
  ].join("\n");
}
