// Puts the page together: which project is open, the top bar, and what the server tells.

/** @import {Facts, State} from "./types.js" */
import * as api from "./api.js";
import { CompareBar } from "./compare.js";
import { announce, attempt, byId, complain, h, iconButton, size, time } from "./dom.js";
import { Home } from "./home.js";
import { Jobs } from "./jobs.js";
import { keyListener, openHelp } from "./keys.js";
import { Objects } from "./objects.js";
import { Player } from "./player.js";
import { ResultPanel } from "./result.js";
import { Session } from "./session.js";
import { Settings } from "./settings.js";
import { Timeline } from "./timeline.js";
import { Tools } from "./tools.js";
import { View } from "./view.js";

/** @typedef {{session: Session, view: View, player: Player, tools: Tools, timeline: Timeline, objects: Objects,
 *   result: ResultPanel, bar: CompareBar, settings: Settings, jobs: Jobs}} Parts of the page while a project is open */

const jobs = new Jobs();
const home = new Home((name) => void open(name));
/** @type {Parts | null} */
let parts = null;
/** @type {State} */
let state;

/** @param {string} name @param {boolean} [remember] in the address, so that a reload comes back to it */
async function open(name, remember = true) {
  const project = await attempt(() => api.project(name));
  if (!project) return showHome(false);
  close();
  build(new Session(project));
  if (remember) history.pushState({ name }, "", `#${encodeURIComponent(name)}`);
}

/** @param {Session} session */
function build(session) {
  document.body.dataset.screen = "work";
  document.title = `${session.name} · layerlift`;
  jobs.session = session;
  const old = byId("stage");
  // A canvas of its own for each project: listeners go with it.
  const canvas = h("canvas", {
    id: "stage", tabindex: 0, role: "application", "aria-describedby": "stage-help",
    "aria-label": `Picture of ${session.name}`,
  });
  old.replaceWith(canvas);
  const view = new View(session, canvas);
  const player = new Player(session, view);
  const tools = new Tools(session, view);
  const timeline = new Timeline(session, view, player);
  const objects = new Objects(session, view, jobs);
  const result = new ResultPanel(session, jobs, state);
  const bar = new CompareBar(session, view);
  const settings = new Settings(session, state.options);
  parts = { session, view, player, tools, timeline, objects, result, bar, settings, jobs };
  session.on("saved", () => saved(session));
  session.on("doc", () => history_(session));
  byId("facts").replaceChildren(...facts(session.facts));
  byId("title").textContent = session.name;
  saved(session);
  history_(session);
  jobs.rows.clear();
  jobs.draw();
}

function close() {
  if (!parts) return;
  parts.player.pause();
  parts.session.close();
  parts.tools.close();
  parts.timeline.close();
  parts.view.close();
  jobs.session = null;
  parts = null;
}

/** @param {boolean} [remember] */
async function showHome(remember = true) {
  close();
  document.body.dataset.screen = "home";
  document.title = "layerlift";
  if (remember) history.pushState({}, "", "#");
  state = (await attempt(api.state)) ?? state;
  if (state) home.show(state);
}

/** @param {Facts} clip @returns {HTMLElement[]} */
function facts(clip) {
  const words = [
    `${clip.width} × ${clip.height}`, `${clip.frames} frame${clip.frames === 1 ? "" : "s"}`,
    `${Number((clip.rate[0] / clip.rate[1]).toFixed(2))} fps`, time(clip.seconds),
    clip.sound ? "sound" : "no sound", clip.codec, size(clip.bytes), ...clip.notes,
  ];
  return words.filter(Boolean).map((one) => h("li", {}, one));
}

/** @param {Session} session */
function saved(session) {
  const shown = byId("saved");
  shown.title = shown.textContent = session.saved;
  shown.classList.toggle("error", session.saved.startsWith("Not"));
}

/** @param {Session} session */
function history_(session) {
  /** @type {[string, {label: string} | undefined, string][]} */
  const buttons = [["undo", session.history.done.at(-1), "Undo"], ["redo", session.history.undone.at(-1), "Redo"]];
  for (const [id, step, word] of buttons) {
    const button = /** @type {HTMLButtonElement} */ (byId(id));
    button.disabled = !step;
    button.title = step ? `${word}: ${step.label}` : word;
    button.setAttribute("aria-label", button.title);
  }
}

/** Light, dark, or what the system says. */
function theme() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.dataset.theme || (dark ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  parts?.timeline.redraw();
  parts?.view.schedule();
}

function topBar() {
  byId("top-left").replaceChildren(
    iconButton("back", "Projects and clips", () => showHome(), { id: "to-home", text: "layerlift", class: "brand" }),
  );
  const settings = { id: "open-settings", class: "work-only", text: "Settings", key: "K" };
  byId("top-right").replaceChildren(
    h("span", { id: "saved", class: "muted work-only ellipsis", role: "status" }),
    iconButton("undo", "Undo", () => parts?.session.undo(), { id: "undo", class: "work-only" }),
    iconButton("redo", "Redo", () => parts?.session.redo(), { id: "redo", class: "work-only" }),
    iconButton("settings", "Settings", () => parts?.settings.open(), settings),
    iconButton("theme", "Light or dark", theme, { id: "theme" }),
    iconButton("help", "Help", () => openHelp(), { id: "open-help", key: "?" }),
  );
}

async function begin() {
  const kept = localStorage.getItem("theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  topBar();
  document.addEventListener("keydown", keyListener(() => parts));
  // After the mouse, keys mean the picture again and not the button that was clicked.
  document.addEventListener("pointerup", ({ target }) => {
    const used = target instanceof Element && target.closest("button, input[type=range], label.chip");
    setTimeout(() => {
      const active = document.activeElement;
      if (used && active instanceof HTMLElement && used.contains(active)) active.blur();
    });
  });
  addEventListener("pagehide", () => parts?.session.save.leave());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  addEventListener("popstate", () => void route());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => parts?.timeline.redraw());
  state = await api.state();
  api.listen({
    job: (job) => jobs.heard(job),
    project: ({ name, rev, tab }) => {
      if (tab !== api.TAB && parts?.session.name === name) void parts.session.save.heard(rev).catch(() => undefined);
    },
    results: ({ name, results }) => parts?.session.name === name && parts.session.made(results),
    note: ({ text }) => announce(text),
    online: (online) => connection(online),
  });
  await jobs.load();
  await route(state.opened);
  document.body.dataset.ready = "yes";
}

/** @param {string | null} [opened] what the server was started with */
async function route(opened = null) {
  const name = decodeURIComponent(location.hash.slice(1)) || opened;
  if (name) await open(name, !location.hash);
  else await showHome(false);
}

let connected = true;

/** @param {boolean} online */
function connection(online) {
  byId("offline").hidden = online;
  if (online && !connected) {
    // What happened in between is not told again.
    void jobs.load().catch(() => undefined);
    if (parts) void reread(parts.session);
  }
  connected = online;
}

/** @param {Session} session */
async function reread(session) {
  const project = await api.project(session.name).catch(() => null);
  if (!project) return;
  session.made(project.results);
  await session.save.heard(project.rev);
}

begin().catch((error) => complain(error));
