// What is on the screen, as a program.
export function snippet(language, { origin, model, strength, file }) {
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
