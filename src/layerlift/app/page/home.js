// The first screen: drop a clip, choose one of the folder, or go on with a project.

/** @import {State} from "./types.js" */
import * as api from "./api.js";
import { announce, attempt, button, byId, chooseFile, h, icon, iconButton, size, span } from "./dom.js";

const LEAD = "Click on what has to go. You get a clean plate, and every object as a layer with its shadow.";
const VIDEOS = "video/*,image/gif,image/apng,image/webp,.mkv,.mov,.mxf,.avi";

export class Home {
  /** @param {(name: string) => void} open */
  constructor(open) {
    this.open = open;
    /** @type {State | null} */
    this.state = null;
    this.uploading = false;
    const range = { "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": "Upload" };
    this.progress = h("div", { class: "upload", role: "progressbar", ...range });
    this.#listen();
  }

  #listen() {
    const { body } = document;
    body.addEventListener("dragover", (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      body.classList.add("dropping");
    });
    body.addEventListener("dragleave", (event) => event.relatedTarget || body.classList.remove("dropping"));
    body.addEventListener("drop", (event) => {
      body.classList.remove("dropping");
      const file = event.dataTransfer?.files[0];
      if (!file) return;
      event.preventDefault();
      void this.upload(file);
    });
  }

  async choose() {
    const file = await chooseFile(VIDEOS);
    if (file) await this.upload(file);
  }

  /** @param {File} file */
  async upload(file) {
    if (this.uploading) {
      announce("One upload at a time: wait for the first one.");
      return;
    }
    this.uploading = true;
    const fill = h("div", { class: "fill" });
    this.progress.replaceChildren(fill, h("span", {}, `Reading ${file.name}`));
    document.body.append(this.progress);
    const made = await attempt(() =>
      api.putClip(file, (share) => {
        fill.style.width = `${100 * share}%`;
        this.progress.setAttribute("aria-valuenow", String(Math.round(100 * share)));
      }),
    );
    if (made) await this.take(made.path);
    this.uploading = false;
    this.progress.remove();
  }

  /** @param {string} clip below the folder */
  async take(clip) {
    const project = await attempt(() => api.openClip(clip));
    if (project) this.open(project.name);
  }

  /** @param {State} state */
  show(state) {
    this.state = state;
    const drop = h("button", { type: "button", class: "drop", id: "drop", onclick: () => this.choose() },
      icon("film"),
      h("strong", {}, "Drop a clip here"),
      span("muted", "or choose a file"),
    );
    byId("home").replaceChildren(
      h("div", { class: "home-inner" },
        h("h1", {}, "Take a video apart"),
        h("p", { class: "lead" }, LEAD),
        drop,
        h("div", { class: "home-lists" },
          list("Projects", state.projects.map((one) => this.#project(one.name)), "No projects yet."),
          list("Clips in this folder", state.clips.map((one) => this.#clip(one)), "No clips in this folder."),
        ),
        h("p", { class: "muted where" }, `${state.folder} · ${state.device} · layerlift ${state.version}`),
      ),
    );
  }

  /** @param {string} name */
  #project(name) {
    const remove = iconButton("trash", `Delete the project ${name}`, () => this.#forget(name));
    return h("li", {}, entry([icon("film"), span("ellipsis", name)], () => this.open(name)), remove);
  }

  /** @param {{path: string, bytes: number}} clip */
  #clip({ path, bytes }) {
    const words = [icon("play"), span("ellipsis", path), span("muted spacer", size(bytes))];
    return h("li", {}, entry(words, () => this.take(path)));
  }

  /** @param {string} name */
  async #forget(name) {
    const question = `Delete the project “${name}” with its masks and results? The clip stays.`;
    if (!(await confirmed(question, "Delete"))) return;
    await attempt(async () => {
      await api.forget(name);
      this.show(await api.state());
      announce(`The project ${name} is deleted.`);
    });
  }
}

/** @param {string} title @param {HTMLElement[]} entries @param {string} none */
function list(title, entries, none) {
  const body = entries.length > 0 ? h("ul", {}, ...entries) : h("p", { class: "hint" }, none);
  return h("section", { "aria-label": title }, h("h2", {}, title), body);
}

/** @param {(Node | string)[]} words @param {() => void} onclick */
const entry = (words, onclick) => h("button", { type: "button", class: "entry", onclick }, ...words);

/** @param {string} question @param {string} yes @returns {Promise<boolean>} */
function confirmed(question, yes) {
  const dialog = /** @type {HTMLDialogElement} */ (byId("ask"));
  return new Promise((resolve) => {
    dialog.replaceChildren(
      h("p", { id: "ask-title" }, question),
      h("div", { class: "row end" },
        button("ask-keep", "Keep", () => dialog.close("")),
        button("ask-yes", yes, () => dialog.close("yes"), { class: "danger" }),
      ),
    );
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
}
