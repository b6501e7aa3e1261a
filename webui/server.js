// The server, with the API key of this browser tab where it wants one.
const STORED = "riverrun.key";
export const key = {
  get: () => sessionStorage.getItem(STORED) || "",
  set: (value) => sessionStorage.setItem(STORED, value),
};

export function ask(path, { headers = {}, ...options } = {}) {
  return fetch(path, { ...options, headers: key.get() ? { ...headers, authorization: `Bearer ${key.get()}` } : headers });
}

// What a WebSocket offers: the protocol, and the key, since it cannot send headers.
export const protocols = () => ["riverrun.v1", ...(key.get() ? [`riverrun.key.${key.get()}`] : [])];
