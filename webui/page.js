// What the tabs share of the page: its elements, parts that several have, what is told, and the state of the server.
export const $ = (id) => document.getElementById(id);
// The elements of one tab, whose ids begin alike.
export const within = (prefix) => (id) => $(prefix + id);

const NAMES = ["id", "for", "aria-describedby"];

// Put each part where it is wanted, under the ids of the tab it is in.
export function lay() {
  for (const place of document.querySelectorAll("[data-part]")) {
    const { part, prefix } = place.dataset;
    const made = $(`${part}-part`).content.cloneNode(true);
    for (const name of NAMES) for (const one of made.querySelectorAll(`[${name}]`)) one.setAttribute(name, prefix + one.getAttribute(name));
    place.replaceWith(made);
  }
}

// To who listens to the screen.
export const say = (text) => ($("live").textContent = text);

export function tell(text, spoken = text) {
  $("message").hidden = !text;
  $("message").textContent = text;
  if (spoken) say(spoken);
}

export function server(name, text) {
  $("server").dataset.state = name;
  $("server").textContent = text;
}

// The peak of some sound, falling slowly.
export function level(meter, sound) {
  const peak = sound.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  meter.value = Math.max(peak, meter.value * 0.85);
}
