// The panel on the left: tools, objects and their effects.

/** @import {Thing, Tool} from "./types.js" */
/** @import {Jobs} from "./jobs.js" */
/** @import {Session} from "./session.js" */
/** @import {View} from "./view.js" */
import * as api from "./api.js";
import {
  announce, attempt, button, byId, changed, chooseFile, h, icon, iconButton, panel, slider, span,
} from "./dom.js";
import { progress } from "./jobs.js";
import { empty } from "./session.js";

/** @type {[Tool, string, string, string][]} */
const TOOLS = [
  ["click", "click", "Click and box", "C"],
  ["brush", "brush", "Brush", "B"],
  ["eraser", "eraser", "Eraser", "E"],
  ["hand", "hand", "Move the picture", "V"],
];
/** @type {[Tool, string, string, string][]} */
const EFFECT_TOOLS = [["effect", "brush", "Add", "G"], ["uneffect", "eraser", "Erase", "Shift+G"]];
const KINDS = ["shadow", "reflection", "light", "smoke"];

export class Objects {
  /** @param {Session} session @param {View} view @param {Jobs} jobs */
  constructor(session, view, jobs) {
    this.session = session;
    this.view = view;
    this.jobs = jobs;
    this.list = h("ul", { class: "objects", "aria-label": "Objects" });
    this.hint = h("p", { class: "hint", id: "hint" });
    this.brush = slider("brush-size", "Size", { min: 1, max: Math.max(40, session.facts.height / 2) }, (value) => {
      session.brush = value;
      session.emit("tool");
    });
    const find = "Find the objects in every frame (T)";
    this.track = button("track", "Track", () => void session.start("track"), { title: find });
    this.trackNote = h("div", { class: "note" });
    const title = "Shadows, reflections, light, smoke (F)";
    this.effects = button("find-effects", "Find effects", () => void session.start("effects"), { title });
    this.effectsNote = h("div", { class: "note" });
    this.threshold = slider("threshold", "Threshold", { min: 0.02, max: 1, step: 0.01 }, (threshold) => {
      session.change("threshold", (doc) => ({ ...doc, effects: { ...doc.effects, threshold } }), "threshold");
    });
    this.threshold.input.addEventListener("change", () => session.history.settle());
    this.kinds = this.#kinds();
    const add = iconButton("add", "New object", () => session.addObject(), { key: "N", id: "add-object" });
    byId("left").replaceChildren(
      h("section", { class: "panel", "aria-label": "Tools" }, this.#tools(TOOLS, "Tools"), this.brush.row),
      panel("objects", "Objects", [add], this.list, this.hint, h("div", { class: "row" }, this.track), this.trackNote),
      panel("effects", "Effects", [this.#tools(EFFECT_TOOLS, "Paint effects")], this.kinds, this.threshold.row,
        h("div", { class: "row" }, this.effects), this.effectsNote),
    );
    session.on(["doc", "tool", "results"], () => this.draw());
    session.on("frame", () => this.#rows());
    session.on("jobs", () => this.#work());
    this.draw();
  }

  /** @param {[Tool, string, string, string][]} tools @param {string} label */
  #tools(tools, label) {
    const buttons = tools.map(([tool, picture, title, key]) => {
      const text = tools === EFFECT_TOOLS ? title : undefined;
      const more = { key, id: `tool-${tool}`, pressed: tool === "click", text };
      return iconButton(picture, title, () => this.session.choose(tool), more);
    });
    return h("div", { class: "tools", role: "toolbar", "aria-label": label }, ...buttons);
  }

  #kinds() {
    return h("div", { class: "kinds", role: "group", "aria-label": "Kinds of effects" },
      ...KINDS.map((kind) => {
        const input = h("input", { type: "checkbox", value: kind });
        input.addEventListener("change", () => {
          const chosen = new Set(this.#chosenKinds());
          if (input.checked) chosen.add(kind);
          else chosen.delete(kind);
          const kinds = KINDS.filter((one) => chosen.has(one));
          this.session.change("kinds of effects", (doc) => ({ ...doc, effects: { ...doc.effects, kinds } }));
        });
        return h("label", { class: "chip" }, input, h("span", {}, kind));
      }),
    );
  }

  /** No kinds are all of them. */
  #chosenKinds() {
    const { kinds } = this.session.doc.effects;
    return kinds.length > 0 ? kinds : KINDS;
  }

  draw() {
    const { session } = this;
    for (const [tool] of [...TOOLS, ...EFFECT_TOOLS]) {
      byId(`tool-${tool}`).setAttribute("aria-pressed", String(session.tool === tool));
    }
    const brushing = session.tool !== "click" && session.tool !== "hand";
    this.brush.row.hidden = !brushing;
    this.brush.input.value = String(session.brush);
    this.brush.output.textContent = `${session.brush} px`;
    this.threshold.input.value = String(session.threshold);
    this.threshold.output.textContent = session.threshold.toFixed(2);
    const kinds = this.#chosenKinds();
    for (const input of this.kinds.querySelectorAll("input")) input.checked = kinds.includes(input.value);
    this.#rows();
    this.#words();
    this.#work();
  }

  #rows() {
    const { doc, active, frame, object } = this.session;
    const said = (/** @type {Thing} */ one) => [Object.keys(one.prompts).length, Object.keys(one.masks).length];
    const shown = doc.objects.map((one) => [one.id, one.name, one.colour, one.hidden, one.file, said(one)]);
    if (changed(this.list, [shown, active])) {
      // What has the focus keeps it, though its row is made anew.
      const focus = document.activeElement instanceof HTMLElement ? document.activeElement.id : "";
      this.list.replaceChildren(...doc.objects.map((one, index) => this.#row(one, index)));
      if (focus) document.getElementById(focus)?.focus();
    }
    const clear = document.getElementById(`clear-${active}`);
    if (clear instanceof HTMLButtonElement) clear.disabled = !object?.prompts[frame] && !object?.masks[frame];
  }

  /** @param {Thing} object @param {number} index */
  #row(object, index) {
    const { session } = this;
    const { id } = object;
    const chosen = id === session.active;
    const colour = h("input", {
      type: "color", id: `colour-${id}`, class: "swatch", value: object.colour,
      "aria-label": `Colour of ${object.name}`,
      onchange: () => session.changeObject(id, "colour", (one) => ({ ...one, colour: colour.value })),
    });
    const name = h("input", {
      type: "text", id: `name-${id}`, class: "name", value: object.name, maxlength: 80,
      "aria-label": `Name of object ${index + 1}`,
      onfocus: () => session.active !== id && session.activate(id),
      onchange: () => session.changeObject(id, "name", (one) => ({ ...one, name: name.value.trim() || one.name })),
      onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && name.blur(),
    });
    const word = object.hidden ? "Show" : "Hide";
    const more = { id: `hide-${id}`, pressed: object.hidden };
    const row = h("li", { class: `object${chosen ? " active" : ""}`, "aria-current": chosen ? "true" : null },
      button(`choose-${id}`, String(index + 1), () => session.activate(id), {
        class: "number", "aria-label": `Choose ${object.name}`, title: `Choose (${index + 1})`,
      }),
      colour,
      name,
      iconButton(object.hidden ? "hidden" : "eye", `${word} ${object.name}`, () => session.toggleHidden(id), more),
      iconButton("trash", `Delete ${object.name}`, () => session.removeObject(id), { id: `delete-${id}` }),
      h("div", { class: "said" }, this.#said(object), chosen ? this.#more(object) : null),
    );
    row.addEventListener("click", (event) => {
      if (event.target === row) session.activate(id);
    });
    return row;
  }

  /** @param {Thing} object */
  #said(object) {
    const clicks = Object.values(object.prompts).filter((one) => !empty(one)).length;
    const painted = Object.keys(object.masks).length;
    const frames = (/** @type {number} */ n) => `${n} frame${n === 1 ? "" : "s"}`;
    const parts = [
      clicks ? `clicks in ${frames(clicks)}` : "",
      painted ? `painted in ${frames(painted)}` : "",
      object.file ? "imported mask" : "",
    ].filter(Boolean);
    return span("muted", parts.join(", ") || "nothing yet");
  }

  /** @param {Thing} object */
  #more(object) {
    const { id } = object;
    return span("more",
      button(`import-${id}`, "Import mask", () => void this.importMask(id), { class: "link" }),
      button(`clear-${id}`, "Clear frame", () => this.session.clearFrame(), { class: "link" }),
    );
  }

  /** @param {number} id */
  async importMask(id) {
    const file = await chooseFile("image/*,video/*,.mkv,.exr");
    if (!file) return;
    const { session } = this;
    const ending = file.name.match(/\.[A-Za-z0-9]{1,5}$/)?.[0] ?? "";
    const name = `import-${id}-${crypto.randomUUID().slice(0, 8)}${ending.toLowerCase()}`;
    const made = await attempt(() => api.putMask(session.name, name, file));
    if (!made) return;
    const { path, frames } = made;
    const { frame } = session;
    session.changeObject(id, "import a mask", (one) =>
      frames === 1
        ? { ...one, masks: { ...one.masks, [frame]: path }, file: null }
        : { ...one, prompts: {}, masks: {}, file: path },
    );
    const one = `The mask holds in frame ${frame}. Track follows it to the others.`;
    announce(frames === 1 ? one : `The mask has ${frames} frames.`);
  }

  #words() {
    const { doc, results, object } = this.session;
    let hint = "";
    if (doc.objects.length === 0) hint = "Click on what has to go. Hold Shift to see first what a click would mean.";
    else if (object && !object.file && Object.keys(object.prompts).length + Object.keys(object.masks).length === 0) {
      hint = "Click on it in a frame that shows it well, or drag a box around it.";
    } else if (!results.objects) hint = "Right click or Alt click takes away what is too much.";
    this.hint.textContent = hint;
    this.hint.hidden = !hint;
  }

  #work() {
    const { doc, results } = this.session;
    const clicked = this.session.said;
    const tracked = Boolean(results.objects) || doc.objects.some((one) => one.file);
    const fresh = tracked && !results.objects?.stale;
    const track = this.jobs.current("track");
    const effects = this.jobs.current("effects");
    this.track.disabled = !clicked || Boolean(track);
    this.track.classList.toggle("primary", !fresh);
    this.track.textContent = fresh ? "Track again" : "Track";
    this.effects.disabled = !tracked || Boolean(effects);
    this.effects.classList.toggle("primary", fresh && (!results.effects || results.effects.stale === true));
    this.effects.textContent = results.effects ? "Find effects again" : "Find effects";
    const masks = mark(tracked, results.objects?.stale, "Tracked: its lane shows where", "clicks changed since");
    this.trackNote.replaceChildren(track ? progress(track, this.jobs) : masks);
    const found = mark(Boolean(results.effects), results.effects?.stale, "Effects found", "masks changed since");
    this.effectsNote.replaceChildren(effects ? progress(effects, this.jobs) : found);
    this.threshold.row.classList.toggle("off", !results.effects);
  }
}

/** @param {boolean} there @param {boolean | undefined} stale @param {string} text @param {string} why it is stale */
export function mark(there, stale, text, why) {
  if (!there) return h("span");
  const words = stale ? [text, why].filter(Boolean).join(", but ") : text;
  return h("span", { class: stale ? "mark stale" : "mark" }, stale ? null : icon("check"), words);
}
