// The panel on the right: the model, the plan, the run and its stages, the queue, and saving.

/** @import {Model, Plan, State} from "./types.js" */
/** @import {Jobs} from "./jobs.js" */
/** @import {Session} from "./session.js" */
import * as api from "./api.js";
import {
  attempt, button, byId, changed, chooseFile, h, icon, iconButton, legendEntry, panel, size, span, time,
} from "./dom.js";
import { mark } from "./objects.js";
import { pictures } from "./session.js";

/** @type {[string, string, string][]} kind, title, what has to be there */
const STAGES = [
  ["plate", "Clean plate", "plate"],
  ["layers", "Layers", "layer_0"],
  ["composite", "Composite", "composite"],
];

export class ResultPanel {
  /** @param {Session} session @param {Jobs} jobs @param {State} state */
  constructor(session, jobs, state) {
    this.session = session;
    this.jobs = jobs;
    this.state = state;
    this.model = h("select", { id: "model" });
    this.model.addEventListener("change", () => {
      const model = this.model.value || null;
      session.change("model", (doc) => ({ ...doc, model }));
    });
    this.licence = h("div", { class: "note" });
    this.plan = h("div", { class: "plan" });
    const plan = "Memory, windows, time, before anything runs (P)";
    this.planButton = button("plan", "Plan", () => void session.start("plan"), { title: plan });
    const run = { class: "primary", title: "Clean plate, layers, composite (Ctrl+Enter)" };
    this.run = button("run", "Run everything", () => void session.start("run"), run);
    this.stages = h("ul", { class: "stages" });
    this.onto = h("div", { class: "onto" });
    this.preset = h("select", { id: "preset" });
    this.presetDetail = h("p", { class: "hint" });
    this.save = button("save", "Save", () => void this.export(), { title: "Write the files (Ctrl+S)" });
    this.preset.addEventListener("change", () => this.draw());
    this.exports = h("ul", { class: "exports", "aria-label": "Saved files" });
    byId("right").replaceChildren(
      panel("run-panel", "Remove and separate", [], h("label", { for: "model", class: "field" }, "Model"), this.model,
        this.licence, this.plan, h("div", { class: "row" }, this.planButton, this.run), this.stages, this.onto),
      panel("save-panel", "Save", [], h("label", { for: "preset", class: "field" }, "For"),
        h("div", { class: "row" }, this.preset, this.save), this.presetDetail, this.exports),
      panel("queue-panel", "Queue", [], h("ul", { class: "queue", id: "queue" }),
        h("p", { class: "hint", id: "queue-empty" }, "Nothing runs. Jobs go on when this page is closed.")),
    );
    session.on(["doc", "results", "jobs"], () => this.draw());
    jobs.ended.clear();
    jobs.ended.add(() => void this.#refresh());
    this.#models();
    this.#presets();
    void this.exported();
    this.draw();
  }

  async #refresh() {
    this.state = (await api.state().catch(() => null)) ?? this.state;
    this.#models();
    this.draw();
    await this.exported();
  }

  #models() {
    this.model.replaceChildren(
      h("option", { value: "" }, "Automatic"),
      ...this.state.models.map((one) =>
        h("option", { value: one.name }, `${one.title}${one.installed ? "" : ` (${size(one.bytes)} to download)`}`),
      ),
    );
  }

  /** @returns {Model | undefined} */
  get chosen() {
    const { model } = this.session.doc;
    const { models } = this.state;
    return models.find((one) => one.name === model) ?? (model ? undefined : models.find((one) => one.default));
  }

  #presets() {
    const groups = [...new Set(this.state.presets.map((one) => one.for))];
    /** @type {Record<string, string>} */
    const titles = { layers: "Layers", plate: "Clean plate", mask: "Masks", composite: "Composite" };
    const options = (/** @type {string} */ group) =>
      this.state.presets
        .filter((one) => one.for === group)
        .map((one) => h("option", { value: `${group}/${one.name}` }, one.title));
    const made = groups.map((group) => h("optgroup", { label: titles[group] ?? group }, ...options(group)));
    this.preset.replaceChildren(...made);
  }

  /** Write the chosen result in the chosen format. */
  export() {
    const [of, preset] = this.preset.value.split("/");
    if (!preset) return Promise.resolve(null);
    return this.session.start("export", { preset, of });
  }

  draw() {
    const { session, jobs } = this;
    const { doc, results } = session;
    this.model.value = doc.model ?? "";
    this.#licence();
    this.#plan();
    const masked = Boolean(results.objects) || doc.objects.some((one) => one.file);
    const running = Boolean(jobs.current("run"));
    this.run.disabled = !masked || running;
    this.planButton.disabled = !masked || Boolean(jobs.current("plan"));
    this.run.textContent = pictures(results).length > 0 ? "Run again" : "Run everything";
    this.#stages(masked);
    this.#onto();
    const choice = this.state.presets.find((one) => `${one.for}/${one.name}` === this.preset.value);
    this.presetDetail.textContent = choice?.detail ?? "";
    this.save.disabled = !choice || Boolean(jobs.current("export")) || !this.#there(choice.for);
  }

  /** @param {boolean} masked */
  #stages(masked) {
    const { results } = this.session;
    /** @type {Record<string, boolean>} */
    const ready = { plate: true, layers: Boolean(results.plate), composite: Boolean(results.layer_0) };
    const rows = STAGES.map(([kind, title, needs]) => {
      const result = results[needs];
      const disabled = !masked || !ready[kind] || Boolean(this.jobs.current(kind));
      const more = { class: "small", disabled, "aria-label": `Make: ${title}` };
      const start = button(`stage-${kind}`, result ? "Again" : "Make", () => void this.session.start(kind), more);
      return h("li", {}, span("", title), mark(Boolean(result), result?.stale, "", "outdated"), start);
    });
    // A button that is made anew would lose the focus.
    const shown = rows.map((row) => [row.textContent, row.querySelector("button")?.disabled]);
    if (!changed(this.stages, shown)) return;
    const focus = this.stages.contains(document.activeElement) ? document.activeElement?.id : "";
    this.stages.replaceChildren(...rows);
    if (focus) byId(focus).focus();
  }

  /** @param {string} of */
  #there(of) {
    const { results } = this.session;
    return Boolean(results[{ mask: "effects", layers: "layer_0" }[of] ?? of]);
  }

  #licence() {
    const { doc } = this.session;
    const model = this.chosen;
    const segmenter = this.state.segmenters.find((one) => one.name === doc.settings["--segmenter"]);
    const busy = Boolean(this.jobs.current("download"));
    if (!changed(this.licence, [model, segmenter, doc.model, busy])) return;
    const facts = model ? [doc.model ? "" : model.title, model.bytes ? size(model.bytes) : "", model.licence] : [];
    const buttons = [model, segmenter].map((one) => {
      if (!one || one.installed) return "";
      const start = () => void this.session.start("download", { model: one.name });
      const text = `Download ${one === model ? "" : `${one.name}, `}${size(one.bytes)}`;
      return button(`download-${one.name}`, text, start, { class: "small", disabled: busy });
    });
    this.licence.replaceChildren(span("", facts.filter(Boolean).join(" · ")), ...buttons);
  }

  #plan() {
    const busy = this.jobs.current("plan");
    const job = this.jobs.last("plan");
    if (!changed(this.plan, [busy?.id, busy?.state, job?.id, job?.plan])) return;
    if (busy) this.plan.replaceChildren(h("p", { class: "hint" }, "Planning…"));
    else if (job?.plan) this.plan.replaceChildren(...planCard(job.plan));
    else this.plan.replaceChildren();
  }

  /** What the composite is put over. */
  #onto() {
    const { onto } = this.session;
    if (!changed(this.onto, onto)) return;
    const choosing = () => void this.#chooseOnto();
    const choose = button("choose-onto", onto ? "Change" : "Choose…", choosing, { class: "small" });
    const clear = () => this.session.putOver("");
    this.onto.replaceChildren(
      span("field", "Over"),
      h("span", { class: "ellipsis muted", title: onto }, onto || "the clean plate"),
      choose,
      onto ? iconButton("close", "Over the clean plate", clear) : "",
    );
  }

  async #chooseOnto() {
    const file = await chooseFile("image/*,video/*,.mkv,.exr");
    const made = file && (await attempt(() => api.putClip(file, () => undefined)));
    if (made) this.session.putOver(made.path);
  }

  /** List what was saved, to download it. */
  async exported() {
    const { name } = this.session;
    const files = await api.exported(name).catch(() => []);
    const link = (/** @type {string} */ file) =>
      h("a", { href: api.exportUrl(name, file), download: true }, icon("down"), file);
    this.exports.replaceChildren(...files.map((one) => h("li", {}, link(one.file), span("muted", size(one.bytes)))));
  }
}

/** @param {Plan} plan @returns {HTMLElement[]} */
function planCard(plan) {
  /** @param {string} name @param {string} value */
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  /** @type {HTMLElement[]} */
  const cards = [
    h("dl", { class: "plan-facts" },
      fact("Memory", plan.memory_bytes ? size(plan.memory_bytes) : "–"),
      fact("Time", plan.seconds === null || plan.seconds === undefined ? "not known" : `about ${time(plan.seconds)}`),
      fact("Frames", String(plan.frames)),
      fact("Windows", plan.windows === null ? "no model" : String(plan.windows)),
    ),
  ];
  if (typeof plan.borrowed === "number" && typeof plan.invented === "number") {
    /** @type {[string, number, string][]} */
    const parts = [["borrowed", plan.borrowed, "borrowed from other frames"], ["invented", plan.invented, "invented"]];
    const words = parts.map(([, share, text]) => `${Math.round(100 * share)} % ${text}`);
    const bars = parts.map(([name, share]) => {
      const one = h("div", { class: name });
      one.style.width = `${100 * share}%`;
      return one;
    });
    cards.push(
      h("div", { class: "sources", role: "img", "aria-label": words.join(", ") }, ...bars),
      h("p", { class: "sources-words" }, ...parts.map(([name], index) => legendEntry(name, words[index]))),
    );
  }
  if (plan.text) cards.push(h("details", {}, h("summary", {}, "Details"), h("pre", {}, plan.text)));
  return cards;
}
