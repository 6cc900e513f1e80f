// Brush and eraser: a mask is painted at the clip's size, and saved as a new file after each stroke.

/** @import {Grey} from "./types.js" */
/** @import {Session} from "./session.js" */
/** @import {View} from "./view.js" */
import * as api from "./api.js";
import { announce } from "./dom.js";
import { readGrey, tint } from "./masks.js";
import { without } from "./session.js";

/** @typedef {{canvas: OffscreenCanvas, context: OffscreenCanvasRenderingContext2D, frame: number, key: string}} Work */

export class Paint {
  /** @param {Session} session @param {View} view */
  constructor(session, view) {
    this.session = session;
    this.view = view;
    /** @type {Work | null} */
    this.work = null;
    /** @type {[number, number] | null} */
    this.last = null;
    /** @type {Promise<void>} */
    this.saving = Promise.resolve();
    this.strokes = 0;
  }

  get painting() {
    return this.last !== null;
  }

  /** @returns {"add" | "erase" | null} which of the effects' masks is painted */
  get effects() {
    if (this.session.tool === "effect") return "add";
    return this.session.tool === "uneffect" ? "erase" : null;
  }

  /** @param {[number, number]} at pixels of the clip */
  begin(at) {
    const { session } = this;
    if (!this.effects && session.isFixed()) return;
    if (!this.effects && !session.object) session.addObject();
    const which = this.effects ?? `object ${session.active}`;
    const key = `${which}/${session.frame}`;
    if (this.work?.key !== key || this.strokes === 0) {
      const base = this.#base();
      if (base === undefined) {
        announce("The mask of this frame is still coming. Try again in a moment.");
        return;
      }
      this.work = this.#open(base, key);
    }
    if (!this.work) return;
    const colour = { add: "#ffffff", erase: "#ff4d4d", object: session.object?.colour ?? "#ffffff" };
    this.view.overlay.painting = { canvas: this.work.canvas, colour: colour[this.effects ?? "object"] };
    this.last = at;
    this.#line(at, at);
  }

  /** @returns {Grey | null | undefined} what is there already */
  #base() {
    const { session, view } = this;
    const { frame, object, doc } = session;
    if (this.effects) {
      const path = doc.effects[this.effects][frame];
      return path ? view.masks.file(path, frame) : null;
    }
    if (!object) return null;
    const own = view.masks.own(object, frame);
    return own ? own.grey : view.masks.of(object, frame);
  }

  /** @param {Grey | null} base @param {string} key @returns {Work | null} */
  #open(base, key) {
    const { width, height } = this.session.facts;
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d");
    if (!context) return null;
    if (base) {
      const white = new Uint32Array(256).fill(0xffffffff, 128);
      context.drawImage(tint(base, white, false), 0, 0, width, height);
    }
    return { canvas, context, frame: this.session.frame, key };
  }

  /** @param {[number, number]} at */
  move(at) {
    if (!this.last) return;
    this.#line(this.last, at);
    this.last = at;
  }

  /** @param {[number, number]} from @param {[number, number]} to */
  #line(from, to) {
    if (!this.work) return;
    const { context } = this.work;
    context.globalCompositeOperation = this.session.tool === "eraser" ? "destination-out" : "source-over";
    context.strokeStyle = "#fff";
    context.lineCap = "round";
    context.lineWidth = this.session.brush;
    context.beginPath();
    context.moveTo(from[0], from[1]);
    context.lineTo(to[0] + 0.01, to[1]);
    context.stroke();
    this.view.schedule();
  }

  end() {
    if (!this.last || !this.work) return;
    this.last = null;
    const { work, effects } = this;
    const id = this.session.active;
    this.strokes++;
    this.session.save.onstate("Saving…");
    // The picture is taken now: the next stroke may begin before this one is saved.
    const blob = flattened(work.canvas);
    this.saving = this.saving
      .then(async () => this.#store(await blob, work.frame, effects, id))
      .catch((error) => announce(`The stroke was not saved: ${error.message}`, "error"))
      .finally(() => {
        this.strokes--;
        if (!this.session.save.pending) this.session.save.onstate("Saved");
        if (this.strokes === 0 && !this.painting) this.view.overlay.painting = null;
        this.view.schedule();
      });
  }

  /** @param {Blob} blob @param {number} frame @param {"add" | "erase" | null} effects @param {number} id */
  async #store(blob, frame, effects, id) {
    const { session } = this;
    const unique = crypto.randomUUID().slice(0, 8);
    const { path } = await api.putMask(session.name, `${effects ?? id}-${frame}-${unique}.png`, blob);
    this.view.masks.kept.put(`${path}/${frame}`, await readGrey(blob));
    if (effects) {
      session.change(`paint effects in frame ${frame}`, (doc) => ({
        ...doc,
        effects: { ...doc.effects, [effects]: { ...doc.effects[effects], [frame]: path } },
      }));
      return;
    }
    session.changeObject(id, `paint frame ${frame}`, (one) => ({
      ...one, prompts: without(one.prompts, frame), masks: { ...one.masks, [frame]: path },
    }));
  }
}

/** White on black, as a PNG. @param {OffscreenCanvas} canvas @returns {Promise<Blob>} */
function flattened(canvas) {
  const flat = new OffscreenCanvas(canvas.width, canvas.height);
  const context = flat.getContext("2d");
  if (!context) throw new Error("this browser cannot draw");
  context.fillStyle = "#000";
  context.fillRect(0, 0, flat.width, flat.height);
  context.drawImage(canvas, 0, 0);
  return flat.convertToBlob({ type: "image/png" });
}
