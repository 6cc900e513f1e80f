// The scrubber with a lane per object: where it has clicks, a mask, an effect, a result.

/** @import {Thing} from "./types.js" */
/** @import {Player} from "./player.js" */
/** @import {Session} from "./session.js" */
/** @import {View} from "./view.js" */
import { button, byId, changed, clamp, h, icon, iconButton, legendEntry, span } from "./dom.js";
import { effectTint } from "./overlay.js";

const RULER_PX = 22;
const LANE_PX = 24;
const RIGHT_PX = 14;
const ARRIVALS_MS = 250;

export class Timeline {
  /** @param {Session} session @param {View} view @param {Player} player */
  constructor(session, view, player) {
    this.session = session;
    this.view = view;
    this.player = player;
    this.canvas = h("canvas", { class: "lanes", "aria-hidden": "true" });
    this.playhead = h("div", { class: "playhead" });
    this.names = h("div", { class: "lane-names" });
    const range = { "aria-valuemin": 0, "aria-valuemax": session.facts.frames - 1, "aria-label": "Frame" };
    const slider = { id: "scrubber", role: "slider", tabindex: 0, class: "lanes-box", ...range };
    this.slider = h("div", slider, this.canvas, this.playhead);
    this.counter = h("output", { class: "counter", "aria-label": "Frame and time" });
    this.state = span("muted rate");
    this.playButton = iconButton("play", "Play", () => player.toggle(), { key: "Space", id: "play" });
    const loop = { key: "L", pressed: true };
    this.loopButton = iconButton("loop", "Loop between the marks", () => this.toggleLoop(), loop);
    this.clear = iconButton("close", "Take the marks away", () => session.mark(null), { key: "\\" });
    const moves = [
      iconButton("first", "First frame", () => player.go(session.range[0]), { key: "Home" }),
      iconButton("previous", "One frame back", () => player.step(-1), { key: "←" }),
      this.playButton,
      iconButton("next", "One frame on", () => player.step(1), { key: "→" }),
      iconButton("last", "Last frame", () => player.go(session.range[1] - 1), { key: "End" }),
      this.loopButton,
    ];
    const marks = [
      button("mark-in", "[ In", () => session.mark("in"), { class: "small", title: "Begin here ([)" }),
      button("mark-out", "Out ]", () => session.mark("out"), { class: "small", title: "End here (])" }),
      this.clear,
    ];
    byId("timeline").replaceChildren(
      h("div", { class: "transport" }, h("div", { class: "group" }, ...moves), this.counter, this.state,
        h("div", { class: "group marks" }, ...marks), legend()),
      h("div", { class: "lanes-row" }, this.names, this.slider),
    );
    this.#listen();
    this.scheduled = 0;
    this.late = 0;
    this.stale = true;
    this.width = 0;
    this.observer = new ResizeObserver(() => {
      this.width = this.slider.clientWidth;
      document.body.style.setProperty("--timeline", `${byId("timeline").offsetHeight}px`);
      this.redraw();
    });
    this.observer.observe(this.slider);
    session.on(["frame", "play"], () => this.schedule());
    session.on(["doc", "results", "tool", "show"], () => this.redraw());
    session.on("pictures", () => this.#arrived());
  }

  toggleLoop() {
    this.player.loop = !this.player.loop;
    this.loopButton.setAttribute("aria-pressed", String(this.player.loop));
  }

  #listen() {
    let dragging = false;
    const to = (/** @type {PointerEvent} */ event) => this.player.go(this.#frameAt(event));
    this.slider.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      dragging = true;
      this.slider.setPointerCapture(event.pointerId);
      const lane = Math.floor((event.clientY - this.slider.getBoundingClientRect().top - RULER_PX) / LANE_PX);
      const object = this.session.doc.objects[lane];
      if (object) this.session.activate(object.id);
      to(event);
    });
    this.slider.addEventListener("pointermove", (event) => dragging && to(event));
    this.slider.addEventListener("lostpointercapture", () => (dragging = false));
  }

  /** @param {PointerEvent} event */
  #frameAt(event) {
    const bounds = this.slider.getBoundingClientRect();
    const share = (event.clientX - bounds.left) / Math.max(1, bounds.width - RIGHT_PX);
    return Math.floor(clamp(share, 0, 0.9999) * this.session.facts.frames);
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = requestAnimationFrame(() => {
      this.scheduled = 0;
      this.#words();
      if (this.stale) this.draw();
      this.stale = false;
    });
  }

  redraw() {
    this.stale = true;
    this.schedule();
  }

  /** Pictures come often: what is in memory is drawn now and then. */
  #arrived() {
    this.schedule();
    this.late ||= setTimeout(() => {
      this.late = 0;
      this.redraw();
    }, ARRIVALS_MS);
  }

  #words() {
    const { session, player } = this;
    const { frame, facts, rate } = session;
    this.counter.textContent = `${frame} / ${facts.frames - 1}   ${clock(frame / rate)}`;
    this.slider.setAttribute("aria-valuenow", String(frame));
    this.slider.setAttribute("aria-valuetext", `frame ${frame} of ${facts.frames}`);
    const picture = player.playing ? "pause" : "play";
    if (changed(this.playButton, picture)) {
      this.playButton.replaceChildren(icon(picture));
      this.playButton.setAttribute("aria-label", player.playing ? "Pause" : "Play");
    }
    const slow = player.playing && player.reached > 0 ? `${player.reached.toFixed(0)} fps` : "";
    const late = this.view.shown !== frame ? this.view.frames.message || "Loading…" : "";
    this.state.textContent = this.view.masks.looking ? "Looking at the frame…" : late || slow;
    this.clear.disabled = !session.doc.marks;
    const each = (this.width - RIGHT_PX) / facts.frames;
    this.playhead.style.transform = `translateX(${(frame + 0.5) * each}px)`;
    this.#lanes();
  }

  #lanes() {
    const { doc, active } = this.session;
    if (!changed(this.names, [doc.objects.map((one) => [one.id, one.name, one.colour, one.hidden]), active])) return;
    this.names.replaceChildren(
      h("div", { class: "lane-name ruler" }, "Frame"),
      ...doc.objects.map((one) => {
        const swatch = span("swatch");
        swatch.style.background = one.colour;
        const kind = `lane-name${one.id === active ? " active" : ""}`;
        const onclick = () => this.session.activate(one.id);
        return h("button", { type: "button", class: kind, tabindex: -1, title: one.name, onclick }, swatch, one.name);
      }),
    );
    this.slider.style.height = `${RULER_PX + LANE_PX * doc.objects.length + 4}px`;
  }

  draw() {
    const { canvas, session } = this;
    const { width } = this;
    const height = this.slider.clientHeight;
    if (width === 0) return;
    canvas.width = Math.round(width * devicePixelRatio);
    canvas.height = Math.round(height * devicePixelRatio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    if (!context) return;
    context.scale(devicePixelRatio, devicePixelRatio);
    const style = getComputedStyle(canvas);
    const colour = (/** @type {string} */ name) => {
      canvas.style.color = `var(${name})`;
      return style.color;
    };
    const { facts, range, doc } = session;
    const each = (width - RIGHT_PX) / facts.frames;
    this.#ruler(context, each, width - RIGHT_PX, colour);
    doc.objects.forEach((object, index) => {
      this.#lane(context, object, RULER_PX + index * LANE_PX, each, width - RIGHT_PX, colour);
    });
    context.fillStyle = colour("--shade");
    context.fillRect(0, 0, range[0] * each, height);
    context.fillRect(range[1] * each, 0, width - RIGHT_PX - range[1] * each, height);
    if (doc.marks) {
      context.fillStyle = colour("--accent");
      context.fillRect(range[0] * each, 0, 2, height);
      context.fillRect(range[1] * each - 2, 0, 2, height);
      context.fillRect(range[0] * each, 0, 7, 3);
      context.fillRect(range[1] * each - 7, 0, 7, 3);
    }
  }

  /** @param {CanvasRenderingContext2D} context @param {number} each width of a frame @param {number} width
   * @param {(name: string) => string} colour */
  #ruler(context, each, width, colour) {
    const { facts } = this.session;
    context.fillStyle = colour("--raised");
    context.fillRect(0, 0, width, RULER_PX - 2);
    const step = [1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000, 2000, 5000].find((one) => one * each >= 56) ?? 10000;
    context.font = "10.5px system-ui, sans-serif";
    context.fillStyle = colour("--muted");
    for (let frame = 0; frame < facts.frames; frame += step) {
      context.fillRect(frame * each, RULER_PX - 8, 1, 6);
      context.fillText(String(frame), frame * each + 3, RULER_PX - 8);
    }
    // What is in memory plays without waiting.
    context.fillStyle = colour("--accent");
    context.globalAlpha = 0.55;
    for (let frame = 0; frame < facts.frames; frame++) {
      if (this.view.ready(frame)) context.fillRect(frame * each, RULER_PX - 3, Math.max(1, each + 0.5), 2);
    }
    context.globalAlpha = 1;
  }

  /** @param {CanvasRenderingContext2D} context @param {Thing} object @param {number} top @param {number} each
   * @param {number} width @param {(name: string) => string} colour */
  #lane(context, object, top, each, width, colour) {
    const { results, active } = this.session;
    context.fillStyle = colour(object.id === active ? "--lane-active" : "--lane");
    context.fillRect(0, top + 1, width, LANE_PX - 2);
    const bar = (/** @type {[number, number][]} */ runs, /** @type {number} */ y, /** @type {number} */ height) => {
      for (const [from, to] of runs) context.fillRect(from * each, top + y, Math.max(1, (to - from) * each), height);
    };
    const tracked = results.objects;
    context.fillStyle = object.colour;
    context.globalAlpha = tracked?.stale ? 0.35 : 0.9;
    if (tracked?.of?.includes(object.id)) bar(tracked.present?.[object.id] ?? [whole(tracked)], 11, 4);
    else if (object.file) bar([[0, this.session.facts.frames]], 11, 4);
    const found = results[`effects_${object.id}`] ?? results.effects;
    context.globalAlpha = found?.stale ? 0.35 : 0.9;
    context.fillStyle = effectTint(object.colour);
    if (found) bar(found.present?.[object.id] ?? [whole(found)], 16, 2);
    const layer = Object.entries(results).find(([name, one]) => name.startsWith("layer_") && one.object === object.id);
    const result = layer?.[1] ?? results.plate;
    context.globalAlpha = result?.stale ? 0.35 : 0.9;
    context.fillStyle = colour("--accent");
    if (result) bar([whole(result)], 19, 2);
    context.globalAlpha = 1;
    context.fillStyle = colour("--text");
    for (const frame of Object.keys(object.prompts)) {
      context.beginPath();
      context.arc((Number(frame) + 0.5) * each, top + 6, 3, 0, 2 * Math.PI);
      context.fill();
    }
    for (const frame of Object.keys(object.masks)) {
      context.fillRect((Number(frame) + 0.5) * each - 3, top + 3, 6, 6);
    }
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.scheduled);
  }
}

/** @param {{first?: number, frames: number}} result @returns {[number, number]} */
function whole(result) {
  const first = result.first ?? 0;
  return [first, first + result.frames];
}

/** @returns {HTMLElement} */
function legend() {
  const entries = { dot: "clicks", square: "painted", mask: "mask", effect: "effect", result: "result" };
  const marks = Object.entries(entries).map(([kind, text]) => legendEntry(kind, text));
  return h("div", { class: "legend", "aria-hidden": "true" }, ...marks);
}

/** @param {number} seconds @returns {string} 0:03.42 */
function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(2).padStart(5, "0")}`;
}
