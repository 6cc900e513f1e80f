// The bar over the stage: what is shown, how it is compared, what is behind layers, and the zoom.

/** @import {Backing, Compare} from "./types.js" */
/** @import {Session} from "./session.js" */
/** @import {View} from "./view.js" */
import { announce, attempt, button, byId, changed, chooseFile, h, iconButton, options, span } from "./dom.js";
import { pictures, resultTitle } from "./session.js";

/** @type {[Compare, string, string][]} */
const COMPARES = [["single", "One", "1 picture"], ["wipe", "Wipe", "W"], ["difference", "Difference", "D"]];
/** @type {[Backing, string][]} */
const BACKINGS = [["checker", "Checkerboard"], ["black", "Black"], ["white", "White"], ["picture", "Picture…"]];

export class CompareBar {
  /** @param {Session} session @param {View} view */
  constructor(session, view) {
    this.session = session;
    this.view = view;
    this.sources = h("div", { class: "segments", role: "group", "aria-label": "Show" });
    this.modes = h("div", { class: "segments", role: "group", "aria-label": "Compare with the clip" },
      ...COMPARES.map(([mode, title, key]) =>
        button(`compare-${mode}`, title, () => session.look({ compare: mode }), { title: `${title} (${key})` }),
      ),
    );
    this.ab = button("ab", "A / B", () => this.flip(), { class: "small", title: "Clip or result (X)" });
    const where = { "aria-label": "Where the wipe is" };
    this.wipe = h("input", { type: "range", id: "wipe", min: 0, max: 100, step: 0.5, ...where });
    this.wipe.addEventListener("input", () => session.look({ wipe: Number(this.wipe.value) / 100 }));
    this.backing = h("select", { id: "backing", "aria-label": "Behind the layer" }, ...options(BACKINGS));
    this.backing.addEventListener("change", () => this.#behind(/** @type {Backing} */ (this.backing.value)));
    this.masks = toggle("Masks", "toggle-masks", "M", () => session.look({ masks: !session.show.masks }));
    this.effects = toggle("Effects", "toggle-effects", "J", () => session.look({ effects: !session.show.effects }));
    this.map = toggle("Source map", "toggle-sources", "S", () => session.look({ sources: !session.show.sources }));
    this.zoom = h("output", { class: "zoom", "aria-label": "Zoom" });
    const fit = iconButton("fit", "Fit the picture", () => view.fit(), { key: "0" });
    this.comparing = h("div", { class: "bar-row" }, this.modes, this.ab, this.wipe, this.backing);
    byId("bar").replaceChildren(
      h("div", { class: "bar-row" }, this.sources, span("spacer"), this.map, this.effects, this.masks, fit, this.zoom),
      this.comparing,
    );
    session.on(["show", "results", "doc"], () => this.draw());
    this.draw();
  }

  /** X: the clip in place of the result, and back. */
  flip() {
    if (this.session.show.source === "clip") this.cycle(1);
    else this.session.look({ flipped: !this.session.show.flipped, compare: "single" });
  }

  /** @param {1 | -1} step show the next result */
  cycle(step) {
    const all = ["clip", ...pictures(this.session.results)];
    if (all.length === 1) {
      announce("There is no result yet.");
      return;
    }
    const next = (all.indexOf(this.session.show.source) + step + all.length) % all.length;
    this.session.look({ source: all[next], flipped: false });
  }

  /** @param {Compare} mode */
  compare(mode) {
    const { session } = this;
    const results = pictures(session.results);
    if (session.show.source === "clip") {
      if (results.length === 0) {
        announce("There is no result to compare with yet.");
        return;
      }
      session.look({ source: results[0], compare: mode, flipped: false });
    } else session.look({ compare: session.show.compare === mode ? "single" : mode, flipped: false });
  }

  /** @param {Backing} backing */
  async #behind(backing) {
    if (backing === "picture") {
      const file = await chooseFile("image/*");
      const picture = file && (await attempt(() => createImageBitmap(file)));
      if (!picture) {
        this.draw();
        return;
      }
      this.session.behind?.close();
      this.session.behind = picture;
    }
    this.session.look({ backing });
  }

  draw() {
    const { session, view } = this;
    const { show, results } = session;
    const all = ["clip", ...pictures(results)];
    if (changed(this.sources, all.map((name) => [name, resultTitle(session, name), results[name]?.stale]))) {
      this.sources.replaceChildren(
        ...all.map((name) => {
          const title = `${resultTitle(session, name)}${results[name]?.stale ? " (outdated)" : ""}`;
          const choose = () => session.look({ source: name, flipped: false });
          return button(`show-${name}`, title, choose, { "data-source": name, title });
        }),
      );
    }
    for (const one of this.sources.querySelectorAll("button")) {
      one.setAttribute("aria-pressed", String(one.dataset.source === show.source));
    }
    for (const [mode] of COMPARES) byId(`compare-${mode}`).setAttribute("aria-pressed", String(show.compare === mode));
    const result = show.source !== "clip";
    this.comparing.hidden = all.length === 1;
    for (const one of this.modes.querySelectorAll("button")) one.disabled = !result;
    this.ab.hidden = show.compare !== "single";
    this.ab.disabled = !result;
    this.ab.textContent = show.flipped || !result ? "A: clip" : "B: result";
    this.wipe.hidden = !result || show.compare !== "wipe";
    this.wipe.value = String(100 * show.wipe);
    this.backing.hidden = !show.source.startsWith("layer_") || show.compare === "difference";
    this.backing.value = show.backing;
    this.map.hidden = !results.source && !results.forecast;
    this.effects.hidden = !results.effects;
    this.masks.setAttribute("aria-pressed", String(show.masks));
    this.effects.setAttribute("aria-pressed", String(show.effects));
    this.map.setAttribute("aria-pressed", String(show.sources));
    this.zoom.textContent = `${Math.round(100 * view.scale * devicePixelRatio)} %`;
  }
}

/** @param {string} title @param {string} id @param {string} key @param {() => void} onclick */
const toggle = (title, id, key, onclick) =>
  button(id, title, onclick, { class: "toggle small", "aria-pressed": "false", title: `${title} (${key})` });
