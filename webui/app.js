// The page: its tabs, and what the server has for each.
import { Convert } from "./convert.js";
import { $, lay, server } from "./page.js";
import { Restore } from "./restore.js";
import { ask, key } from "./server.js";
import { Show } from "./show.js";
import { Speak } from "./speak.js";
import { Voices } from "./voices.js";

lay();
const voices = new Voices();
const restore = new Restore();
const speak = new Speak(voices);
const convert = new Convert(voices);
const show = new Show();

async function models() {
  try {
    const reply = await ask("/v1/status");
    $("key").hidden = reply.status !== 401;
    if (reply.status === 401) return server("lost", "locked");
    if ((await reply.json()).state === "starting") {
      server("lost", "starting"); // its models are not known yet
      return setTimeout(models, 1000);
    }
    const { data } = await (await ask("/v1/models")).json();
    for (const one of [restore, speak, convert, show]) one.offer(data);
    $("tab-convert").hidden = !convert.model;
    $("tab-show").hidden = !show.model;
    $("own").hidden = !(speak.model || convert.model);
    if (!$("own").hidden) await voices.list();
    tab();
    server("ready", "ready");
  } catch {
    server("lost", "no server");
    setTimeout(models, 2000);
  }
}

const tabs = () => [...document.querySelectorAll("[role=tab]:not([hidden])")];

// The tab that the address names, the first where it names none.
function tab() {
  const chosen = tabs().find((one) => one.dataset.hash === location.hash) || tabs()[0];
  for (const one of tabs()) {
    one.setAttribute("aria-selected", String(one === chosen));
    one.tabIndex = one === chosen ? 0 : -1;
    const panel = $(one.getAttribute("aria-controls"));
    panel.hidden = one !== chosen;
    if (one === chosen && "voices" in panel.dataset) panel.querySelector(".columns").after($("own"));
  }
}

// Arrow keys go from tab to tab, as WAI-ARIA has it.
function walk(event) {
  const all = tabs();
  const at = all.indexOf(event.target);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + all.length, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  all[to % all.length].focus();
  location.hash = all[to % all.length].dataset.hash;
}

function theme() {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
}

$("theme").onclick = theme;
for (const one of document.querySelectorAll("[role=tab]")) one.onclick = () => (location.hash = one.dataset.hash);
document.querySelector("[role=tablist]").onkeydown = walk;
addEventListener("hashchange", tab);
tab();
$("key").onsubmit = (event) => {
  event.preventDefault();
  key.set($("secret").value);
  models();
};
models();
window.riverrun = { restore, speak, convert, show }; // for whoever looks in from the console
