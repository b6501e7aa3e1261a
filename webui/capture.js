// A microphone, as frames of 20 ms at 48 kHz.
export const RATE = 48000;

export async function capture({ device, autoGainControl = false }) {
  if (!navigator.mediaDevices) throw new Error("This page needs a secure address: open it over https or on 127.0.0.1.");
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl, channelCount: 1 };
  if (device) audio.deviceId = { exact: device };
  const media = await navigator.mediaDevices.getUserMedia({ audio });
  const context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
  try {
    await context.audioWorklet.addModule("/static/capture-worklet.js");
  } catch {
    await release({ media, context });
    throw new Error("The server cannot be reached.");
  }
  return { media, context };
}

// Let the microphone go.
export async function release({ media, context }) {
  media?.getTracks().forEach((track) => track.stop());
  await context?.close();
}

// Have the frames of any sound that comes in: `take` is given {sound, at}.
export function tap(context, media, take) {
  const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
  context.createMediaStreamSource(media).connect(node);
  node.port.onmessage = ({ data }) => take(data);
}

// Why there is no microphone, and what to do before a button is pressed again.
export const blocked = (error, button) =>
  ({
    NotAllowedError: `The microphone is blocked. Allow it in the address bar of the browser, then press ${button} again.`,
    NotFoundError: `There is no microphone. Plug one in, then press ${button} again.`,
    NotReadableError: `Another program holds the microphone. Close it there, then press ${button} again.`,
    OverconstrainedError: "That microphone is gone. Choose another one.",
  })[error.name] || error.message;
