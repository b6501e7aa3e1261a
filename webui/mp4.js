// MP4 files in memory: what they say of how they were made, and saying so. Mirrors media/boxes.py.
const HOLDERS = new Set(["moov", "udta", "ilst", "©cmt"]);

const text = (bytes) => new TextDecoder().decode(bytes);
const name = (bytes, at) => String.fromCharCode(...bytes.subarray(at, at + 4));

// The boxes in some bytes: {kind, start, body, end}.
function* boxes(bytes, start = 0, end = bytes.length) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  while (start + 8 <= end) {
    let size = view.getUint32(start);
    let body = start + 8;
    if (size === 1 && body + 8 <= end) {
      size = Number(view.getBigUint64(body));
      body += 8;
    }
    if (size === 0) size = end - start;
    if (size < body - start || start + size > end) return;
    yield { kind: name(bytes, start + 4), start, body, end: start + size };
    start += size;
  }
}

function* comments(bytes, start, end) {
  for (const box of boxes(bytes, start, end)) {
    if (box.kind === "data") yield text(bytes.subarray(box.body + 8, box.end));
    else if (box.kind === "meta") yield* comments(bytes, box.body + (name(bytes, box.body + 4) === "hdlr" ? 0 : 4), box.end);
    else if (HOLDERS.has(box.kind)) yield* comments(bytes, box.body, box.end);
  }
}

// What a file says of how it was made; null if it does not.
export function settings(bytes) {
  for (const said of comments(bytes)) {
    try {
      const found = JSON.parse(said);
      if (found && typeof found === "object") return found;
    } catch {
      continue; // a comment of another program's
    }
  }
  return null;
}

function join(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const number = (value) => new Uint8Array([value >>> 24, value >>> 16, value >>> 8, value]);

function box(kind, ...parts) {
  const body = join(parts.map((part) => (typeof part === "string" ? new TextEncoder().encode(part) : part)));
  return join([number(8 + body.length), Uint8Array.from(kind, (c) => c.charCodeAt(0)), body]);
}

function tags(title, made) {
  const item = (kind, said) => box(kind, box("data", number(1), number(0), said));
  const handler = box("hdlr", new Uint8Array(8), "mdirappl", new Uint8Array(9));
  return box("udta", box("meta", number(0), handler, box("ilst", item("©nam", title), item("©cmt", JSON.stringify(made)))));
}

// The head of a file of fragments that is finished: it says how long it is, where that is known, and how it was made.
export function finished(head, seconds, title, made) {
  const parts = [];
  for (const outer of boxes(head)) {
    if (outer.kind !== "moov") {
      parts.push(head.slice(outer.start, outer.end));
      continue;
    }
    const inner = [...boxes(head, outer.body, outer.end)].filter(({ kind }) => kind !== "udta");
    const kept = inner.map(({ kind, start, body, end }) => (kind === "mvex" && seconds ? box("mvex", box("mehd", number(0), number(Math.round(1000 * seconds))), head.slice(body, end)) : head.slice(start, end)));
    parts.push(box("moov", ...kept, tags(title, made)));
  }
  return join(parts);
}
