// What is on the screen, as a program.
export function snippet(language, { origin, model, strength, file }) {
  const name = file || "noisy.wav";
  if (language === "curl")
    return [`curl ${origin}/v1/audio/restorations`, `  -F file=@${name}`, `  -F model=${model}`, `  -F strength=${strength}`, "  -F response_format=flac -o clean.flac"].join(" \\\n");
  return [
    "import httpx",
    "",
    `with open(${JSON.stringify(name)}, "rb") as noisy, open("clean.flac", "wb") as clean:`,
    `    asked = {"model": "${model}", "strength": ${strength}, "response_format": "flac"}`,
    `    with httpx.stream("POST", "${origin}/v1/audio/restorations", files={"file": noisy}, data=asked, timeout=None) as reply:`,
    "        reply.raise_for_status()",
    "        for piece in reply.iter_raw():",
    "            clean.write(piece)",
  ].join("\n");
}
