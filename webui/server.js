// The server, with the API key of this browser tab where it wants one.
const STORED = "riverrun.key";
export const key = {
  get: () => sessionStorage.getItem(STORED) || "",
  set: (value) => sessionStorage.setItem(STORED, value),
};

export function ask(path, { headers = {}, ...options } = {}) {
  return fetch(path, { ...options, headers: key.get() ? { ...headers, authorization: `Bearer ${key.get()}` } : headers });
}

// The answer as JSON. Throws what the server says is wrong.
export async function told(path, options) {
  const reply = await answer(path, options);
  return reply.json();
}

export async function answer(path, options) {
  const reply = await ask(path, options).catch(() => { throw new Error("The server cannot be reached."); });
  if (!reply.ok) throw new Error((await reply.json()).error.message);
  return reply;
}

// What a WebSocket offers: the protocol, and the key, since it cannot send headers.
export const protocols = () => ["riverrun.v1", ...(key.get() ? [`riverrun.key.${key.get()}`] : [])];
