// Clips that are kept in this browser: {id, blob, made}, newest first.
const STORE = "clips";
const MOST = 60; // clips, then the oldest goes

const done = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

async function store(mode) {
  const opening = indexedDB.open("riverrun", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "id", autoIncrement: true });
  return (await done(opening)).transaction(STORE, mode).objectStore(STORE);
}

export async function list() {
  return (await done((await store("readonly")).getAll())).reverse();
}

export async function keep(blob, made) {
  const clips = await store("readwrite");
  const id = await done(clips.add({ blob, made }));
  const ids = await done(clips.getAllKeys());
  for (const old of ids.slice(0, Math.max(0, ids.length - MOST))) clips.delete(old);
  return { id, blob, made };
}

export async function remove(id) {
  await done((await store("readwrite")).delete(id));
}
