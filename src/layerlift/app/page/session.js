// The project that is open: its document, what is chosen, and what is shown. The parts of the page listen to it.

/** @import {Doc, Facts, Project, Prompt, Results, Setting, Show, Thing, Tool} from "./types.js" */
import * as api from "./api.js";
import { Autosave } from "./autosave.js";
import { announce, attempt } from "./dom.js";
import { History } from "./history.js";

/** @typedef {"doc" | "frame" | "results" | "tool" | "show" | "jobs" | "saved" | "pictures" | "play"} Happening */

// Told apart by people who see few colours, too (after Okabe and Ito), on dark and on light.
export const COLOURS = [
  "#ffb000", "#3fa7ff", "#2fc98b", "#ff6f91", "#b58cff", "#ff8c42", "#4dd7e0", "#d6d34a", "#f47fd0",
];

export class Session {
  /** @param {Project} project */
  constructor(project) {
    this.name = project.name;
    /** @type {Facts} */
    this.facts = project.facts;
    /** @type {Results} */
    this.results = project.results ?? {};
    this.history = new History(project.doc);
    this.active = project.doc.objects[0]?.id ?? 0;
    this.frame = Math.min(project.doc.view?.frame ?? 0, project.facts.frames - 1);
    /** @type {Tool} */
    this.tool = "click";
    this.brush = Math.max(4, Math.round(project.facts.height / 24));
    /** @type {Show} */
    this.show = {
      source: "clip", compare: "single", flipped: false, wipe: 0.5,
      masks: true, effects: true, sources: false, backing: "checker",
    };
    /** @type {ImageBitmap | null} a picture of the user's, behind layers */
    this.behind = null;
    this.onto = localStorage.getItem(`onto ${project.name}`) ?? "";
    /** "Saved", "Saving…", or why not */
    this.saved = "Saved";
    this.events = new EventTarget();
    this.save = new Autosave(
      project.name,
      project.rev,
      () => this.doc,
      (doc) => this.#newer(doc),
      (state) => {
        this.saved = state;
        this.emit("saved");
      },
    );
  }

  /** @returns {Doc} */
  get doc() {
    return this.history.doc;
  }

  get rate() {
    return this.facts.rate[0] / this.facts.rate[1] || 24;
  }

  /** The frames to work on: [start, end). @returns {[number, number]} */
  get range() {
    return this.doc.marks ?? [0, this.facts.frames];
  }

  /** @returns {Thing | undefined} */
  get object() {
    return this.doc.objects.find((one) => one.id === this.active);
  }

  /** Something is said of an object: there is something to track. */
  get said() {
    return this.doc.objects.some((one) => one.file || Object.keys({ ...one.prompts, ...one.masks }).length > 0);
  }

  get threshold() {
    return this.doc.effects.threshold ?? this.results.effects?.threshold ?? 0.4;
  }

  /** @param {Happening | Happening[]} what @param {() => void} listener */
  on(what, listener) {
    for (const one of [what].flat()) this.events.addEventListener(one, listener);
  }

  /** @param {Happening} what */
  emit(what) {
    this.events.dispatchEvent(new Event(what));
  }

  /** Replace the document. @param {string} label what was done, as undo says it @param {(doc: Doc) => Doc} make
   * @param {string} [merge] see History.change */
  change(label, make, merge) {
    const doc = make(this.doc);
    if (doc === this.doc) return;
    this.history.change(doc, label, merge);
    this.#changed();
  }

  /** @param {number} id @param {string} label @param {(object: Thing) => Thing} make @param {string} [merge] */
  changeObject(id, label, make, merge) {
    const change = (/** @type {Thing} */ one) => (one.id === id ? make(one) : one);
    this.change(label, (doc) => ({ ...doc, objects: doc.objects.map(change) }), merge);
  }

  undo() {
    const label = this.history.undo();
    announce(label ? `Undone: ${label}` : "There is nothing to undo.");
    if (label) this.#changed();
  }

  redo() {
    const label = this.history.redo();
    announce(label ? `Done again: ${label}` : "There is nothing to redo.");
    if (label) this.#changed();
  }

  #changed() {
    if (!this.object) this.active = this.doc.objects.at(-1)?.id ?? 0;
    this.save.soon();
    this.emit("doc");
  }

  /** What another tab saved takes the place of what is here; undo brings that back. @param {Doc} doc */
  #newer(doc) {
    const view = this.doc.view;
    const same = JSON.stringify({ ...doc, view }) === JSON.stringify(this.doc);
    if (same) {
      this.history.doc = { ...doc, view };
      return;
    }
    this.history.change({ ...doc, view }, "changes from another tab");
    if (!this.object) this.active = this.doc.objects[0]?.id ?? 0;
    this.emit("doc");
    announce("Another tab changed this project. Its version is shown; undo brings back yours.");
  }

  /** @param {number} frame */
  go(frame) {
    const there = Math.max(0, Math.min(this.facts.frames - 1, Math.round(frame)));
    if (there === this.frame) return;
    this.frame = there;
    this.emit("frame");
  }

  /** Keep where the user is, for the next time; no step of undo. */
  keepPlace() {
    if (this.doc.view?.frame === this.frame) return;
    this.history.doc = { ...this.doc, view: { frame: this.frame } };
    this.save.soon(1500);
  }

  /** @param {Tool} tool */
  choose(tool) {
    this.tool = tool;
    this.emit("tool");
  }

  /** @param {number} id */
  activate(id) {
    this.active = id;
    this.emit("tool");
  }

  /** @param {Partial<Show>} change */
  look(change) {
    Object.assign(this.show, change);
    this.emit("show");
  }

  /** @param {Results} results */
  made(results) {
    this.results = results;
    if (this.show.source !== "clip" && !results[this.show.source]) this.show.source = "clip";
    this.emit("results");
  }

  /** @param {string} [merge] */
  addObject(merge) {
    const id = Math.max(0, ...this.doc.objects.map((one) => one.id)) + 1;
    const colour = COLOURS[(id - 1) % COLOURS.length];
    const made = { id, name: `Object ${id}`, colour, hidden: false, prompts: {}, masks: {}, file: null };
    this.active = id;
    this.change(`new ${made.name}`, (doc) => ({ ...doc, objects: [...doc.objects, made] }), merge);
    return id;
  }

  /** @param {number} id */
  toggleHidden(id) {
    this.changeObject(id, "hide or show", (one) => ({ ...one, hidden: !one.hidden }));
  }

  /** Take away what was said of the chosen object in this frame. */
  clearFrame() {
    const { frame, active } = this;
    const make = (/** @type {Thing} */ one) => ({
      ...one, prompts: without(one.prompts, frame), masks: without(one.masks, frame),
    });
    this.changeObject(active, `clear frame ${frame}`, make);
  }

  /** @param {number} id */
  removeObject(id) {
    const name = this.doc.objects.find((one) => one.id === id)?.name;
    this.change(`delete ${name}`, (doc) => ({ ...doc, objects: doc.objects.filter((one) => one.id !== id) }));
  }

  /** The clicks on the chosen object in the shown frame. @returns {Prompt} */
  prompt() {
    return this.object?.prompts[this.frame] ?? { points: [], box: null };
  }

  /** @returns {boolean} the chosen object's mask was imported and holds as it is, which is told */
  isFixed() {
    if (this.object?.file) announce("An imported mask holds as it is. Press N for a new object, to click or to paint.");
    return Boolean(this.object?.file);
  }

  /** @param {string} label @param {Prompt} prompt @param {string} [merge] */
  setPrompt(label, prompt, merge) {
    if (this.isFixed()) return;
    // The first click makes an object: one step for undo.
    const first = this.object ? undefined : "first click";
    const id = this.object ? this.active : this.addObject(first);
    const frame = this.frame;
    this.changeObject(
      id,
      label,
      (one) => {
        const others = without(one.prompts, frame);
        // Clicks after painting begin anew: both at once would contradict each other.
        const masks = without(one.masks, frame);
        return { ...one, prompts: empty(prompt) ? others : { ...others, [frame]: prompt }, masks };
      },
      merge ?? first,
    );
    if (first) this.history.settle();
  }

  /** @param {string} flag @param {Setting | null} value null is the default */
  set(flag, value) {
    const others = without(this.doc.settings, flag);
    const settings = value === null ? others : { ...others, [flag]: value };
    this.change(`setting ${flag}`, (doc) => ({ ...doc, settings }), `setting ${flag}`);
  }

  /** @param {"in" | "out" | null} which null takes the marks away */
  mark(which) {
    const [start, end] = this.range;
    const here = this.frame;
    /** @type {[number, number] | null} */
    let marks = null;
    if (which === "in") marks = [here, end > here ? end : this.facts.frames];
    if (which === "out") marks = [start <= here ? start : 0, here + 1];
    this.change(which ? `mark ${which}` : "no marks", (doc) => ({ ...doc, marks }));
  }

  /** Save what is not saved, then start a job. @param {string} kind @param {Record<string, string>} [options] */
  async start(kind, options = {}) {
    if (this.onto && ["composite", "run"].includes(kind)) options.onto = this.onto;
    return attempt(async () => {
      await this.save.flush();
      return api.start(this.name, kind, options);
    });
  }

  /** @param {string} onto what composites are put over, below the folder; "" is the clean plate */
  putOver(onto) {
    this.onto = onto;
    localStorage.setItem(`onto ${this.name}`, onto);
    this.emit("results");
  }

  close() {
    this.save.leave();
    this.events = new EventTarget();
    this.behind?.close();
  }
}

/** @param {Prompt} prompt @returns {boolean} */
export const empty = (prompt) => prompt.points.length === 0 && !prompt.box;

/** What a result is called. @param {Session} session @param {string} name @returns {string} */
export function resultTitle(session, name) {
  /** @type {Record<string, string>} */
  const titles = { clip: "Clip", plate: "Clean plate", composite: "Composite" };
  if (titles[name]) return titles[name];
  const number = Number(name.replace("layer_", ""));
  const id = session.results[name]?.object ?? session.results.objects?.of?.[number];
  const object = session.doc.objects.find((one) => one.id === id);
  return object?.name ?? `Layer ${number + 1}`;
}

/** The results that are pictures to look at, in the order in which they are made. @param {Results} results
 * @returns {string[]} */
export function pictures(results) {
  const layers = Object.keys(results).filter((name) => /^layer_\d+$/.test(name));
  layers.sort((a, b) => Number(a.slice(6)) - Number(b.slice(6)));
  return [results.plate ? "plate" : "", ...layers, results.composite ? "composite" : ""].filter(Boolean);
}

/** @template T @param {Record<string, T>} record @param {string | number} key @returns {Record<string, T>} */
export const without = (record, key) =>
  Object.fromEntries(Object.entries(record).filter(([other]) => other !== String(key)));
