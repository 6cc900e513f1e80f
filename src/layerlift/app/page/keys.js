// Every key, once: what it does, and what the help says of it.

import { dialogHead, h } from "./dom.js";

/** @import {Session} from "./session.js" */
/** @typedef {import("./app.js").Parts} Parts */
/** @typedef {[string[], string, string, (parts: Parts, event: KeyboardEvent) => void]} Binding keys, shown, words */

/** @param {Session} session @param {number} factor */
function resize(session, factor) {
  const most = Math.max(40, session.facts.height / 2);
  session.brush = Math.round(Math.max(1, Math.min(most, session.brush * factor)));
  session.emit("tool");
}

/** @param {Parts} parts @param {number} index */
function chooseObject({ session }, index) {
  const object = session.doc.objects[index];
  if (object) session.activate(object.id);
}

/** @type {[string, Binding[]][]} */
export const KEYS = [
  [
    "Clip",
    [
      [["Space"], "Space", "Play, pause", ({ player }) => player.toggle()],
      [["ArrowLeft", ","], "← ,", "One frame back", ({ player }) => player.step(-1)],
      [["ArrowRight", "."], "→ .", "One frame on", ({ player }) => player.step(1)],
      [["Shift+ArrowLeft"], "Shift ←", "Ten frames back", ({ player }) => player.step(-10)],
      [["Shift+ArrowRight"], "Shift →", "Ten frames on", ({ player }) => player.step(10)],
      [["Ctrl+ArrowLeft"], "Ctrl ←", "Last frame with clicks", ({ player }) => player.jump(-1)],
      [["Ctrl+ArrowRight"], "Ctrl →", "Next frame with clicks", ({ player }) => player.jump(1)],
      [["Home"], "Home", "First frame", ({ player, session }) => player.go(session.range[0])],
      [["End"], "End", "Last frame", ({ player, session }) => player.go(session.range[1] - 1)],
      [["["], "[", "Begin here", ({ session }) => session.mark("in")],
      [["]"], "]", "End here", ({ session }) => session.mark("out")],
      [["\\"], "\\", "No marks", ({ session }) => session.mark(null)],
      [["l"], "L", "Loop between the marks", ({ timeline }) => timeline.toggleLoop()],
    ],
  ],
  [
    "Objects",
    [
      [["n"], "N", "New object", ({ session }) => session.addObject()],
      [[..."123456789"], "1 … 9", "Choose an object", (parts, event) => chooseObject(parts, Number(event.key) - 1)],
      [["h"], "H", "Hide or show the object", ({ session }) => session.toggleHidden(session.active)],
      [["Delete", "Backspace"], "Del", "Clear this frame of the object", ({ session }) => session.clearFrame()],
      [["Shift+Delete"], "Shift Del", "Delete the object", ({ session }) => session.removeObject(session.active)],
      [["c"], "C", "Click and box", ({ session }) => session.choose("click")],
      [["b"], "B", "Brush", ({ session }) => session.choose("brush")],
      [["e"], "E", "Eraser", ({ session }) => session.choose("eraser")],
      [["g"], "G", "Paint effects", ({ session }) => session.choose("effect")],
      [["Shift+G"], "Shift G", "Erase effects", ({ session }) => session.choose("uneffect")],
      [["{", "Shift+{"], "{", "Smaller brush", ({ session }) => resize(session, 0.8)],
      [["}", "Shift+}"], "}", "Larger brush", ({ session }) => resize(session, 1.25)],
      [["i"], "I", "Import a mask", (parts) => parts.objects.importMask(parts.session.active)],
    ],
  ],
  [
    "Without a mouse",
    [
      [["Alt+ArrowLeft"], "Alt ←", "Crosshair left", ({ tools }) => tools.aim(-2, 0)],
      [["Alt+ArrowRight"], "Alt →", "Crosshair right", ({ tools }) => tools.aim(2, 0)],
      [["Alt+ArrowUp"], "Alt ↑", "Crosshair up", ({ tools }) => tools.aim(0, -2)],
      [["Alt+ArrowDown"], "Alt ↓", "Crosshair down", ({ tools }) => tools.aim(0, 2)],
      [["Enter"], "Enter", "Click, or paint, at the crosshair", ({ tools }) => tools.press(true)],
      [["Alt+Enter"], "Alt Enter", "Click outside the object", ({ tools }) => tools.press(false)],
      [["o"], "O", "Corner of a box, twice", ({ tools }) => tools.cornerHere()],
    ],
  ],
  [
    "See",
    [
      [["x"], "X", "Clip or result (A/B)", ({ bar }) => bar.flip()],
      [["r"], "R", "Next result", ({ bar }) => bar.cycle(1)],
      [["w"], "W", "Wipe", ({ bar }) => bar.compare("wipe")],
      [["d"], "D", "Difference", ({ bar }) => bar.compare("difference")],
      [["s"], "S", "Source map", ({ session }) => session.look({ sources: !session.show.sources })],
      [["m"], "M", "Masks", ({ session }) => session.look({ masks: !session.show.masks })],
      [["j"], "J", "Effects", ({ session }) => session.look({ effects: !session.show.effects })],
      [["+", "=", "Shift++"], "+", "Zoom in", ({ view }) => view.zoomBy(1.25)],
      [["-"], "−", "Zoom out", ({ view }) => view.zoomBy(0.8)],
      [["0"], "0", "Fit", ({ view }) => view.fit()],
      [["z"], "Z", "Actual pixels", ({ view }) => view.actual()],
      [["v"], "V", "Move the picture", ({ session }) => session.choose("hand")],
    ],
  ],
  [
    "Work",
    [
      [["t"], "T", "Track the objects", ({ objects }) => objects.track.click()],
      [["f"], "F", "Find effects", ({ objects }) => objects.effects.click()],
      [["p"], "P", "Plan", ({ result }) => result.planButton.click()],
      [["Ctrl+Enter"], "Ctrl Enter", "Run everything", ({ result }) => result.run.click()],
      [["Ctrl+."], "Ctrl .", "Cancel what runs", ({ jobs }) => jobs.cancelRunning()],
      [["Ctrl+s"], "Ctrl S", "Save the result", ({ result }) => result.save.click()],
      [["Ctrl+z"], "Ctrl Z", "Undo", ({ session }) => session.undo()],
      [["Ctrl+Shift+Z", "Ctrl+y"], "Ctrl Shift Z", "Redo", ({ session }) => session.redo()],
      [["k"], "K", "Settings", ({ settings }) => settings.open()],
      [["?", "Shift+?"], "?", "This help", () => openHelp()],
    ],
  ],
];

/** @param {KeyboardEvent} event @param {string} key @returns {string} "Ctrl+Shift+Z" */
function named(event, key) {
  const ctrl = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
  const alt = event.altKey ? "Alt+" : "";
  const shift = event.shiftKey ? "Shift+" : "";
  return `${ctrl}${alt}${shift}${key === " " ? "Space" : key}`;
}

/** @param {() => Parts | null} parts @returns {(event: KeyboardEvent) => void} */
export function keyListener(parts) {
  const table = new Map(
    KEYS.flatMap((group) => group[1].flatMap((one) => one[0].map((key) => /** @type {const} */ ([key, one[3]])))),
  );
  return (event) => {
    const now = parts();
    const target = event.target instanceof HTMLElement ? event.target : null;
    if (event.defaultPrevented || document.querySelector("dialog[open]") || !now) return;
    const found = table.get(named(event, event.key)) ?? table.get(named(event, event.key.toLowerCase()));
    if (!found || (target && keepsKeys(target, event))) return;
    event.preventDefault();
    found(now, event);
  };
}

/** @param {HTMLElement} target @param {KeyboardEvent} event @returns {boolean} the element needs this key itself */
function keepsKeys(target, event) {
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
  const type = target instanceof HTMLInputElement ? target.type : "";
  if (type === "range") return plain && /^(Arrow|Home|End|Page)/.test(event.key);
  if (type && !["checkbox", "color"].includes(type)) return plain || event.key !== "Enter";
  if (target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement) return plain;
  return plain && ["Enter", " "].includes(event.key) && target.matches("button, a, summary, input, label");
}

/** The overlay with all keys. */
export function openHelp() {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("help"));
  if (dialog.open) return;
  dialog.replaceChildren(
    dialogHead(dialog, "Keys and clicks"),
    h("p", { class: "help-mouse" },
      "Click: of the object. Right click or Alt click: not of it. Drag: a box around it. Hold Shift: see first what a ",
      "click would mean. Drag a click to move it, click on it to take it away. Wheel: zoom. Middle button: pan.",
    ),
    h("div", { class: "help-columns" },
      ...KEYS.map(([title, bindings]) =>
        h("section", {},
          h("h3", {}, title),
          h("dl", {}, ...bindings.flatMap((one) => [h("dt", {}, h("kbd", {}, one[1])), h("dd", {}, one[2])])),
        ),
      ),
    ),
  );
  dialog.showModal();
}
