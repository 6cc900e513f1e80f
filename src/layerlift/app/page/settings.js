// The drawer with every setting, in the words of the command line, and the command that does the same.

/** @import {Option, OptionGroup, Setting} from "./types.js" */
/** @import {Session} from "./session.js" */
import * as api from "./api.js";
import { announce, button, byId, dialogHead, errorText, h, iconButton, options } from "./dom.js";

const KINDS = [
  ["run", "Run everything"], ["track", "Track"], ["effects", "Effects"], ["plate", "Clean plate"], ["layers", "Layers"],
  ["composite", "Composite"],
];

export class Settings {
  /** @param {Session} session @param {OptionGroup[]} groups */
  constructor(session, groups) {
    this.session = session;
    this.dialog = /** @type {HTMLDialogElement} */ (byId("settings"));
    const find = "Find a setting";
    this.find = h("input", { type: "search", placeholder: find, "aria-label": find, id: "find-setting" });
    this.find.addEventListener("input", () => this.#filter());
    this.kind = h("select", { "aria-label": "Command", id: "command-kind" }, ...options(KINDS));
    this.kind.addEventListener("change", () => this.command());
    this.code = h("pre", { class: "command", id: "command", tabindex: 0, "aria-label": "The command" });
    /** @type {Map<string, {row: HTMLElement, update: () => void}>} */
    this.rows = new Map();
    this.body = h("div", { class: "drawer-body" });
    for (const group of groups) {
      const rows = group.options.map((option) => this.#row(option));
      this.body.append(h("fieldset", {}, h("legend", {}, group.title), ...rows));
    }
    this.dialog.replaceChildren(
      dialogHead(this.dialog, "Settings"),
      h("div", { class: "drawer-find" }, this.find),
      this.body,
      h("footer", {},
        h("div", { class: "row" }, this.kind, button("copy-command", "Copy as command", () => void this.copy())),
        this.code,
      ),
    );
    session.on("doc", () => this.update());
    this.update();
  }

  open() {
    if (this.dialog.open) return;
    this.update();
    this.dialog.showModal();
    void this.command();
  }

  /** @param {Option} option */
  #row(option) {
    const id = `setting${option.flag}`;
    const control = controlFor(option, id);
    const reset = iconButton("undo", `Default of ${option.flag}`, () => this.session.set(option.flag, null));
    control.addEventListener("change", () => {
      const value = read(option, control);
      if (value === undefined) {
        announce(`${option.flag}: ${control.validationMessage}`, "error");
        update();
      } else this.session.set(option.flag, value);
    });
    const row = h("div", { class: "setting" },
      h("div", { class: "setting-head" }, h("label", { for: id, class: "flag" }, option.flag), control, reset),
      h("p", { class: "hint" }, option.help),
    );
    row.dataset.words = `${option.flag} ${option.help}`.toLowerCase();
    const update = () => {
      const value = this.session.doc.settings[option.flag];
      control.value = value === undefined ? "" : String(value);
      row.classList.toggle("set", value !== undefined);
      reset.disabled = value === undefined;
    };
    this.rows.set(option.flag, { row, update });
    return row;
  }

  #filter() {
    const words = this.find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { row } of this.rows.values()) row.hidden = !words.every((word) => row.dataset.words?.includes(word));
    for (const group of this.body.querySelectorAll("fieldset")) {
      group.hidden = [...group.querySelectorAll(".setting")].every((row) => /** @type {HTMLElement} */ (row).hidden);
    }
  }

  update() {
    for (const { update } of this.rows.values()) update();
    const changed = Object.keys(this.session.doc.settings).filter((flag) => this.rows.has(flag)).length;
    byId("open-settings").dataset.count = changed > 0 ? String(changed) : "";
    if (this.dialog.open) void this.command();
  }

  /** Show the command that does the same. */
  async command() {
    if (!this.session.said) {
      this.code.textContent = "Click on an object first.";
      return;
    }
    try {
      await this.session.save.flush();
      this.code.textContent = await api.command(this.session.name, this.kind.value, this.session.onto);
    } catch (error) {
      this.code.textContent = errorText(error);
    }
  }

  async copy() {
    await this.command();
    try {
      await navigator.clipboard.writeText(this.code.textContent ?? "");
      announce("Copied.");
    } catch {
      announce("The browser did not allow copying. Select the text and copy it by hand.", "error");
    }
  }
}

/** @param {Option} option @param {string} id @returns {HTMLInputElement | HTMLSelectElement} */
function controlFor(option, id) {
  const standard = option.default === null || option.default === undefined ? "automatic" : String(option.default);
  if (option.kind === "bool" || option.kind === "choice") {
    const choices = option.kind === "bool" ? ["true", "false"] : (option.choices ?? []);
    const words = (/** @type {string} */ one) => (option.kind === "bool" ? (one === "true" ? "on" : "off") : one);
    const off = standard === "true" ? "on" : standard === "false" ? "off" : standard;
    return h("select", { id }, ...options([["", `(${off})`], ...choices.map((one) => [one, words(one)])]));
  }
  const number = option.kind === "int" || option.kind === "float";
  return h("input", {
    id, type: number ? "number" : "text", placeholder: standard, maxlength: 500, autocomplete: "off",
    min: option.least, max: option.most, step: option.kind === "int" ? 1 : number ? "any" : null,
  });
}

/** @param {Option} option @param {HTMLInputElement | HTMLSelectElement} control
 * @returns {Setting | null | undefined} null: the default; undefined: not allowed */
function read(option, control) {
  const text = control.value.trim();
  if (!control.validity.valid) return undefined;
  if (text === "") return null;
  if (option.kind === "bool") return text === "true";
  return option.kind === "int" || option.kind === "float" ? Number(text) : text;
}
