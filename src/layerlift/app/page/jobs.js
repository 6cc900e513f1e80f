// What runs, what waits and what has ended: the queue, with progress, time left, cancel and resume.

/** @import {Job} from "./types.js" */
/** @import {Session} from "./session.js" */
import * as api from "./api.js";
import { announce, attempt, byId, changed, h, icon, iconButton, size, span, time, whisper } from "./dom.js";

/** @type {Record<string, string>} */
const TITLES = {
  track: "Track objects", effects: "Find effects", threshold: "Apply the threshold", plate: "Clean plate",
  layers: "Layers", composite: "Composite", run: "Run everything", plan: "Plan", export: "Save", download: "Download",
};
const OPEN = ["running", "waiting", "interrupted"];

export class Jobs {
  constructor() {
    /** @type {Map<string, Job>} */
    this.all = new Map();
    /** @type {Session | null} */
    this.session = null;
    /** @type {Set<(job: Job) => void>} told when a job is done */
    this.ended = new Set();
    /** @type {Map<string, HTMLElement>} */
    this.rows = new Map();
  }

  async load() {
    for (const job of await api.jobs()) this.all.set(job.id, job);
    this.draw();
  }

  /** @param {Job} job */
  heard(job) {
    const before = this.all.get(job.id)?.state;
    this.all.set(job.id, job);
    if (before !== job.state) this.#tell(job, before);
    this.draw();
  }

  /** @param {Job} job @param {string | undefined} before */
  #tell(job, before) {
    const title = titleOf(job);
    if (job.state === "running" && before !== "running") whisper(`${title} has started`);
    if (job.state === "done" && before) announce(`${title}: done in ${time(job.seconds)}`);
    if (job.state === "failed" && before) announce(`${title}: ${job.message || "failed"}`, "error");
    if (job.state === "cancelled" && before) announce(`${title}: cancelled`);
    if (job.state === "done") for (const listener of this.ended) listener(job);
  }

  /** @param {string} kind @returns {Job | undefined} the job of this kind that waits or runs in the open project */
  current(kind) {
    return [...this.all.values()].find((job) => job.kind === kind && job.project === this.session?.name && isBusy(job));
  }

  /** @param {string} kind @returns {Job | undefined} */
  last(kind) {
    return [...this.all.values()].reverse().find((job) => job.kind === kind && job.project === this.session?.name);
  }

  /** @param {string} id @param {"cancel" | "resume" | "dismiss"} what */
  async act(id, what) {
    const done = await attempt(() => api[what](id).then(() => true));
    if (done && what === "dismiss") this.all.delete(id);
    if (!done) await this.load();
    this.draw();
  }

  /** Cancel what runs. */
  cancelRunning() {
    const busy = [...this.all.values()].filter(isBusy);
    const job = busy.find((one) => one.state === "running" && one.kind !== "download") ?? busy[0];
    if (job) void this.act(job.id, "cancel");
    else announce("Nothing is running.");
  }

  draw() {
    const list = document.getElementById("queue");
    this.session?.emit("jobs");
    if (!list) return;
    const all = [...this.all.values()];
    const open = OPEN.flatMap((state) => all.filter((job) => job.state === state));
    // Of those that have ended the newest comes first.
    const jobs = [...open, ...all.filter((job) => !OPEN.includes(job.state) && job.kind !== "plan").reverse()];
    for (const [id, row] of this.rows) {
      if (!jobs.some((job) => job.id === id)) {
        row.remove();
        this.rows.delete(id);
      }
    }
    const rows = jobs.slice(0, 12).map((job) => this.#row(job));
    // Rows that stay where they are keep the focus.
    rows.forEach((row, index) => list.children[index] !== row && list.insertBefore(row, list.children[index] ?? null));
    while (list.children.length > rows.length) list.lastElementChild?.remove();
    byId("queue-empty").hidden = rows.length > 0;
  }

  /** @param {Job} job */
  #row(job) {
    const row = this.rows.get(job.id) ?? h("li", { class: "job" });
    this.rows.set(job.id, row);
    if (!changed(row, job)) return row;
    row.dataset.kind = job.kind;
    row.dataset.state = job.state;
    const notes = job.notes.map((note) => h("p", { class: "hint" }, note));
    const focused = row.contains(document.activeElement) ? document.activeElement?.getAttribute("aria-label") : null;
    row.replaceChildren(
      h("div", { class: "job-head" },
        h("span", { class: `state ${job.state}`, title: job.state }, job.state === "done" ? icon("check") : null),
        h("strong", {}, titleOf(job)),
        job.project !== this.session?.name ? span("muted ellipsis", job.project) : null,
        span("muted spacer", job.state === "done" ? time(job.seconds) : job.state.replace("running", "")),
        ...this.#buttons(job),
      ),
      isBusy(job) ? bar(job) : "",
      job.state === "failed" && job.message ? h("p", { class: "error" }, job.message) : "",
      notes.length > 0 ? h("details", {}, h("summary", {}, "Notes"), ...notes) : "",
    );
    for (const one of row.querySelectorAll("button")) if (one.getAttribute("aria-label") === focused) one.focus();
    return row;
  }

  /** @param {Job} job */
  #buttons(job) {
    const title = titleOf(job);
    const cancel = () => void this.act(job.id, "cancel");
    if (isBusy(job)) return [iconButton("close", `Cancel: ${title}`, cancel, { class: "cancel" })];
    const resume = job.resumable && job.state !== "done";
    return [
      resume ? iconButton("play", `Resume: ${title}`, () => this.act(job.id, "resume"), { class: "resume" }) : null,
      iconButton("trash", `Take away: ${title}`, () => this.act(job.id, "dismiss")),
    ].filter((one) => one !== null);
  }
}

/** @param {Job} job @returns {string} */
const titleOf = (job) => TITLES[job.kind] ?? job.kind;

/** @param {Job} job @returns {boolean} */
export const isBusy = (job) => job.state === "waiting" || job.state === "running";

/** @param {Job} job @returns {HTMLElement} the stage, how far it is, and the time left */
function bar(job) {
  const share = job.total ? Math.min(1, job.done / job.total) : null;
  const fill = h("div", { class: `fill${share === null && job.state === "running" ? " unknown" : ""}` });
  fill.style.width = job.state === "waiting" ? "0" : share === null ? "30%" : `${(100 * share).toFixed(1)}%`;
  const amount = job.kind === "download" ? size : String;
  const count = job.total ? `${amount(job.done)} of ${amount(job.total)}` : "";
  const left = job.left === null || job.left === undefined ? "" : `${time(job.left)} left`;
  const stage = job.state === "waiting" ? "waiting for its turn" : job.stage || "starting…";
  const words = h("div", { class: "work-words" },
    span("ellipsis", stage), span("muted", [count, left].filter(Boolean).join(" · ")));
  const shown = h("div", {
    class: "bar", role: "progressbar", "aria-label": titleOf(job), "aria-valuemin": 0, "aria-valuemax": 100,
    "aria-valuenow": share === null ? null : Math.round(100 * share), "aria-valuetext": `${job.stage} ${count}`,
  }, fill);
  return h("div", { class: "work" }, words, shown);
}

/** @param {Job} job @param {Jobs} jobs @returns {HTMLElement} progress beside the button that started it */
export function progress(job, jobs) {
  const cancel = iconButton("close", `Cancel: ${titleOf(job)}`, () => jobs.act(job.id, "cancel"), { class: "cancel" });
  return h("div", { class: "inline-work" }, bar(job), cancel);
}
