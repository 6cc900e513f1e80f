// The pointer on the stage: clicks, boxes, the preview while Shift is held, the brush, the wipe, pan and zoom.

/** @import {Box, Point, Prompt} from "./types.js" */
/** @import {Session} from "./session.js" */
/** @import {View} from "./view.js" */
import { announce, clamp } from "./dom.js";
import { clicksKey } from "./masks.js";
import { Paint } from "./paint.js";

const CLICK_PX = 5;
const GRAB_PX = 11;

/** @typedef {{kind: "pan" | "wipe" | "paint" | "prompt" | "point", x: number, y: number, at: [number, number],
 *   moved: boolean, point: number, outside: boolean}} Drag */

export class Tools {
  /** @param {Session} session @param {View} view */
  constructor(session, view) {
    this.session = session;
    this.view = view;
    this.paint = new Paint(session, view);
    /** @type {Drag | null} */
    this.drag = null;
    this.shift = false;
    this.alt = false;
    /** @type {[number, number] | null} first corner of a box drawn by keys */
    this.corner = null;
    this.previewing = false;
    /** @type {Prompt | null} the newest preview that is wanted */
    this.next = null;
    const { canvas } = view;
    const gone = new AbortController();
    this.gone = gone;
    const options = { signal: gone.signal };
    canvas.addEventListener("pointerdown", (event) => this.#down(event), options);
    canvas.addEventListener("pointermove", (event) => this.#move(event), options);
    canvas.addEventListener("pointerup", (event) => this.#up(event), options);
    canvas.addEventListener("pointercancel", () => this.#drop(), options);
    canvas.addEventListener("pointerleave", () => this.#leave(), options);
    canvas.addEventListener("contextmenu", (event) => event.preventDefault(), options);
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { ...options, passive: false });
    document.addEventListener("keydown", (event) => this.#modifiers(event), options);
    document.addEventListener("keyup", (event) => this.#modifiers(event), options);
    window.addEventListener("blur", () => this.#hidePreview(), options);
    session.on("frame", () => this.#hidePreview());
    session.on(["tool", "show"], () => this.#cursor());
    this.#cursor();
  }

  /** The clip can be clicked on: it is what is shown. */
  get clickable() {
    const { source, compare, flipped } = this.session.show;
    return source === "clip" || flipped || compare === "wipe";
  }

  #cursor() {
    const { tool } = this.session;
    const { canvas } = this.view;
    canvas.dataset.tool = !this.clickable || tool === "hand" ? "hand" : tool;
  }

  /** @param {PointerEvent} event @returns {boolean} */
  #onWipe(event) {
    const { show } = this.session;
    if (show.compare !== "wipe" || show.source === "clip") return false;
    const { x, width } = this.view.rect;
    const edge = this.view.canvas.getBoundingClientRect().left + x + width * show.wipe;
    return Math.abs(event.clientX - edge) < GRAB_PX;
  }

  /** @param {PointerEvent} event */
  #down(event) {
    const { session, view } = this;
    view.canvas.focus({ preventScroll: true });
    view.canvas.setPointerCapture(event.pointerId);
    view.overlay.crosshair = null;
    const at = view.toClip(event);
    const outside = event.button === 2 || event.altKey;
    const drag = { x: event.clientX, y: event.clientY, at, moved: false, point: -1, outside };
    if (event.button === 1 || session.tool === "hand") this.drag = { ...drag, kind: "pan" };
    else if (this.#onWipe(event)) this.drag = { ...drag, kind: "wipe" };
    else if (!this.clickable) this.drag = { ...drag, kind: "pan" };
    else if (session.tool === "click") {
      const point = this.#pointAt(at);
      this.drag = { ...drag, kind: point < 0 ? "prompt" : "point", point };
    } else if (event.button === 0) {
      this.drag = { ...drag, kind: "paint" };
      this.paint.begin(at);
    }
    event.preventDefault();
  }

  /** @param {[number, number]} at @returns {number} the click of the chosen object that is here, or -1 */
  #pointAt([x, y]) {
    const reach = GRAB_PX / this.view.scale;
    return this.session.prompt().points.findIndex((one) => Math.hypot(one[0] + 0.5 - x, one[1] + 0.5 - y) < reach);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const { session, view, drag } = this;
    const at = view.toClip(event);
    view.overlay.pointer = at;
    if (!drag) {
      view.canvas.classList.toggle("on-wipe", this.#onWipe(event));
      if (this.shift) this.#preview(at);
      else if (session.tool !== "click" && session.tool !== "hand") view.schedule();
      return;
    }
    const far = Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > CLICK_PX;
    drag.moved ||= far;
    if (drag.kind === "pan") {
      view.pan = { x: view.pan.x + event.movementX, y: view.pan.y + event.movementY };
    } else if (drag.kind === "wipe") {
      const { x, width } = view.rect;
      const left = view.canvas.getBoundingClientRect().left + x;
      session.look({ wipe: clamp((event.clientX - left) / width, 0, 1) });
    } else if (drag.kind === "paint") {
      for (const one of event.getCoalescedEvents?.() ?? [event]) this.paint.move(view.toClip(one));
    } else if (drag.kind === "prompt" && drag.moved && !drag.outside) {
      view.overlay.box = [...drag.at, ...at];
    } else if (drag.kind === "point" && drag.moved) {
      this.#movePoint(drag.point, at);
    }
    view.schedule();
  }

  /** @param {PointerEvent} event */
  #up(event) {
    const { drag, view, session } = this;
    if (!drag) return;
    const at = view.toClip(event);
    if (drag.kind === "paint") this.paint.end();
    else if (drag.kind === "point" && !drag.moved) this.#movePoint(drag.point, null);
    else if (drag.kind === "point") session.history.settle();
    else if (drag.kind === "prompt" && drag.moved && !drag.outside) this.addBox([...drag.at, ...at]);
    else if (drag.kind === "prompt") this.addPoint(at, !drag.outside);
    this.#drop();
  }

  #drop() {
    if (this.paint.painting) this.paint.end();
    this.drag = null;
    this.view.overlay.box = null;
    this.view.schedule();
  }

  #leave() {
    this.view.overlay.pointer = null;
    this.#hidePreview();
    this.view.schedule();
  }

  /** @param {[number, number]} at @param {boolean} inside */
  addPoint(at, inside) {
    const { frame } = this.session;
    const point = this.#inClip(at);
    if (!point) return;
    const prompt = this.session.prompt();
    const label = inside ? "click" : "click outside";
    this.#hidePreview();
    this.session.setPrompt(`${label} in frame ${frame}`, { ...prompt, points: [...prompt.points, [...point, inside]] });
  }

  /** @param {Box} dragged */
  addBox(dragged) {
    const { width, height } = this.session.facts;
    /** @param {number} one @param {number} other @param {number} most */
    const side = (one, other, most) => [one, other].map((to) => Math.round(clamp(to, 0, most))).sort((a, b) => a - b);
    const [x0, x1] = side(dragged[0], dragged[2], width);
    const [y0, y1] = side(dragged[1], dragged[3], height);
    if (x1 - x0 < 2 || y1 - y0 < 2) return;
    const prompt = this.session.prompt();
    this.session.setPrompt(`box in frame ${this.session.frame}`, { ...prompt, box: [x0, y0, x1, y1] });
  }

  /** @param {[number, number]} at @returns {[number, number] | null} */
  #inClip([x, y]) {
    const { width, height } = this.session.facts;
    if (x < 0 || y < 0 || x >= width || y >= height) return null;
    return [Math.floor(x), Math.floor(y)];
  }

  /** @param {number} index @param {[number, number] | null} at where it goes; null: away */
  #movePoint(index, at) {
    const prompt = this.session.prompt();
    const to = at && this.#inClip(at);
    if (at && !to) return;
    /** @type {Point[]} */
    const points = prompt.points.flatMap((one, other) => (other !== index ? [one] : to ? [[...to, one[2]]] : []));
    const label = `${at ? "move" : "remove"} a click in frame ${this.session.frame}`;
    this.session.setPrompt(label, { ...prompt, points }, at ? label : undefined);
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    event.preventDefault();
    const speed = event.deltaMode === 1 ? 0.05 : 0.0016;
    this.view.zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 4 : 1) * speed), event);
  }

  /** @param {KeyboardEvent} event */
  #modifiers(event) {
    const before = this.shift;
    this.shift = event.shiftKey;
    this.alt = event.altKey;
    const at = this.view.overlay.pointer ?? this.view.overlay.crosshair;
    const onStage = this.view.overlay.pointer || document.activeElement === this.view.canvas;
    if (this.shift && event.key === "Shift" && at && onStage) this.#preview(at);
    if (before && !this.shift) this.#hidePreview();
  }

  #hidePreview() {
    this.next = null;
    if (!this.view.overlay.preview) return;
    this.view.overlay.preview = null;
    this.view.schedule();
  }

  /** Show what a click would mean: one question at a time, then the newest one. @param {[number, number]} at */
  #preview(at) {
    const point = this.#inClip(at);
    if (!point || this.session.tool !== "click" || !this.clickable || this.drag) return;
    const prompt = this.session.prompt();
    this.next = { ...prompt, points: [...prompt.points, [...point, !this.alt]] };
    if (!this.previewing) void this.#previews();
  }

  async #previews() {
    this.previewing = true;
    const { frame } = this.session;
    while (this.next && this.session.frame === frame) {
      const prompt = this.next;
      const grey = await this.view.masks.predict(prompt, frame);
      if (!this.next || this.session.frame !== frame) break;
      if (grey) {
        this.view.overlay.preview = { key: clicksKey(prompt, frame), grey };
        this.view.canvas.dataset.preview = clicksKey(prompt, frame);
      }
      this.view.schedule();
      if (this.next === prompt) break;
    }
    this.previewing = false;
  }

  /** Move the crosshair, for those who use keys. @param {number} x
   * @param {number} y in hundredths of the picture's height */
  aim(x, y) {
    const { width, height } = this.session.facts;
    const from = this.view.overlay.crosshair ?? [width / 2, height / 2];
    const step = Math.max(1, height / 100);
    /** @type {[number, number]} */
    const to = [clamp(from[0] + x * step, 0, width - 1), clamp(from[1] + y * step, 0, height - 1)];
    this.view.overlay.crosshair = to;
    this.view.overlay.pointer = null;
    if (this.corner) this.view.overlay.box = [...this.corner, ...to];
    if (this.shift) this.#preview(to);
    this.view.schedule();
  }

  /** Click, or paint a dab, at the crosshair. @param {boolean} inside */
  press(inside) {
    const at = this.view.overlay.crosshair;
    if (!at) {
      this.aim(0, 0);
      announce("Alt and the arrow keys move the crosshair. Enter clicks, Alt+Enter clicks outside.");
    } else if (this.session.tool === "click") this.addPoint(at, inside);
    else if (this.session.tool !== "hand") {
      this.paint.begin(at);
      this.paint.end();
    }
  }

  /** Begin or end a box at the crosshair. */
  cornerHere() {
    if (!this.view.overlay.crosshair) this.aim(0, 0);
    const at = this.view.overlay.crosshair;
    if (!at) return;
    if (!this.corner) {
      this.corner = [...at];
      announce("One corner is set. Move the crosshair to the other one and press O again.");
      return;
    }
    this.addBox([...this.corner, ...at]);
    this.corner = null;
    this.view.overlay.box = null;
  }

  close() {
    this.gone.abort();
  }
}
