// What is drawn over the clip: masks and effects in the objects' colours, clicks, boxes, the brush and the crosshair.

/** @import {Box, Grey, Painted, Point} from "./types.js" */
/** @import {Masks} from "./masks.js" */
/** @import {Session} from "./session.js" */
/** @import {Rect} from "./view.js" */
import { packed } from "./masks.js";

const STRONG = 130;
const WEAK = 90;
const EFFECT = 120;

/** @typedef {{context: CanvasRenderingContext2D, rect: Rect, scale: number, frame: number}} Now what is drawn, where */

// Light on dark, so that lines are seen on every picture.
/** @type {[number, string][]} */
const STROKES = [[3, "rgba(0,0,0,.6)"], [1.5, "#fff"]];

export class Overlay {
  /** @param {Session} session @param {Masks} masks */
  constructor(session, masks) {
    this.session = session;
    this.masks = masks;
    /** @type {{key: string, grey: Grey} | null} what a click here would mean */
    this.preview = null;
    /** @type {{canvas: OffscreenCanvas, colour: string} | null} what is being painted */
    this.painting = null;
    /** @type {Box | null} what is being dragged */
    this.box = null;
    /** @type {[number, number] | null} where the pointer is, in pixels of the clip */
    this.pointer = null;
    /** @type {[number, number] | null} the crosshair, moved by keys */
    this.crosshair = null;
    this.scratch = new OffscreenCanvas(1, 1);
  }

  /** @param {Now} now */
  draw(now) {
    const { show, object } = this.session;
    now.context.imageSmoothingEnabled = true;
    // Masks of the next frames, for playing; those of this frame are asked for last, and so come first.
    for (const frame of [3, 2, 1].map((ahead) => now.frame + ahead)) {
      if (show.masks) this.masks.result("objects", frame);
      if (show.effects) for (const [name] of this.#found()) this.masks.result(name, frame);
    }
    if (show.effects) this.#effects(now);
    if (show.masks) this.#objects(now);
    const { preview } = this;
    if (preview) this.#one(now, `${preview.key}/preview`, preview.grey, object?.colour ?? "#ffffff", WEAK);
    if (this.painting) this.#painting(now);
    if (show.masks) this.#prompts(now);
    this.#tools(now);
  }

  /** @param {Now} now @param {CanvasImageSource} picture */
  #over({ context, rect }, picture) {
    context.drawImage(picture, rect.x, rect.y, rect.width, rect.height);
  }

  /** @param {Now} now @param {string} key @param {Grey} grey @param {string} colour @param {number} alpha */
  #one(now, key, grey, colour, alpha) {
    const colours = new Uint32Array(256).fill(packed(colour, alpha), 128);
    this.#over(now, this.masks.tinted(`${key}/${colour}/${alpha}`, grey, colours));
  }

  /** @param {Now} now */
  #objects(now) {
    const { doc, results, active, tool } = this.session;
    const painted = this.painting && !tool.includes("effect") ? active : 0;
    const own = new Map(doc.objects.map((one) => [one.id, this.masks.own(one, now.frame)]));
    const labels = results.objects ? this.masks.result("objects", now.frame) : null;
    if (labels) {
      const colours = new Uint32Array(256);
      (results.objects.of ?? []).forEach((id, index) => {
        const object = doc.objects.find((one) => one.id === id);
        if (!object || object.hidden || own.get(id)?.grey || painted === id) return;
        colours[index + 1] = packed(object.colour, id === active ? STRONG : WEAK);
      });
      const key = `objects/${results.objects.stamp ?? ""}/${now.frame}/${colours.slice(1, 33).join()}`;
      this.#over(now, this.masks.tinted(key, labels, colours));
    }
    for (const object of doc.objects) {
      const mask = own.get(object.id);
      if (!mask?.grey || object.hidden || object.id === painted) continue;
      this.#one(now, mask.key, mask.grey, object.colour, object.id === active ? STRONG : WEAK);
    }
  }

  /** Effects to draw: those of each object that is shown, or of all in one. @returns {[string, string][]} and colour */
  #found() {
    const { doc, results } = this.session;
    const apart = doc.objects.filter((one) => results[`effects_${one.id}`]);
    const seen = doc.objects.filter((one) => !one.hidden);
    if (apart.length === 0) return results.effects && seen.length > 0 ? [["effects", seen[0].colour]] : [];
    return apart.filter((one) => seen.includes(one)).map((one) => [`effects_${one.id}`, one.colour]);
  }

  /** @param {Now} now */
  #effects(now) {
    const { doc, results, threshold } = this.session;
    const least = Math.max(1, Math.ceil(threshold * 255));
    for (const [name, colour] of this.#found()) {
      const grey = this.masks.result(name, now.frame);
      if (!grey) continue;
      const colours = new Uint32Array(256).fill(packed(effectTint(colour), EFFECT), least);
      const key = `${name}/${results[name].stamp ?? ""}/${now.frame}/${least}/${colour}/${doc.effects.kinds}`;
      this.#over(now, this.masks.tinted(key, grey, colours, true));
    }
    this.#painted(now, doc.effects.add, "#ffffff");
    this.#painted(now, doc.effects.erase, "#ff4d4d");
  }

  /** @param {Now} now @param {Painted} masks of effects @param {string} colour */
  #painted(now, masks, colour) {
    const path = masks[now.frame];
    const grey = path ? this.masks.file(path, now.frame) : null;
    if (!grey) return;
    const colours = new Uint32Array(256).fill(packed(colour, 110), 128);
    this.#over(now, this.masks.tinted(`${path}/${now.frame}/${colour}`, grey, colours, true));
  }

  /** @param {Now} now */
  #painting(now) {
    if (!this.painting) return;
    const { canvas, colour } = this.painting;
    if (this.scratch.width !== canvas.width || this.scratch.height !== canvas.height) {
      this.scratch = new OffscreenCanvas(canvas.width, canvas.height);
    }
    const scratch = this.scratch.getContext("2d");
    if (!scratch) return;
    scratch.globalCompositeOperation = "copy";
    scratch.drawImage(canvas, 0, 0);
    scratch.globalCompositeOperation = "source-in";
    scratch.fillStyle = colour;
    scratch.fillRect(0, 0, canvas.width, canvas.height);
    now.context.globalAlpha = 0.55;
    this.#over(now, this.scratch);
    now.context.globalAlpha = 1;
  }

  /** @param {Now} now */
  #prompts(now) {
    for (const object of this.session.doc.objects) {
      const prompt = object.prompts[now.frame];
      if (!prompt || object.hidden) continue;
      now.context.globalAlpha = object.id === this.session.active ? 1 : 0.45;
      if (prompt.box) this.#box(now, prompt.box, object.colour);
      for (const point of prompt.points) this.#point(now, point, object.colour);
      now.context.globalAlpha = 1;
    }
  }

  /** @param {Now} now @param {Point} point @param {string} colour */
  #point({ context, rect, scale }, [x, y, inside], colour) {
    const at = [rect.x + (x + 0.5) * scale, rect.y + (y + 0.5) * scale];
    context.beginPath();
    context.arc(at[0], at[1], 7, 0, 2 * Math.PI);
    context.fillStyle = inside ? colour : "#1a1a1a";
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = inside ? "#fff" : "#ff5a5a";
    context.stroke();
    context.beginPath();
    context.moveTo(at[0] - 3, at[1]);
    context.lineTo(at[0] + 3, at[1]);
    if (inside) {
      context.moveTo(at[0], at[1] - 3);
      context.lineTo(at[0], at[1] + 3);
    }
    context.strokeStyle = inside ? "#111" : "#ff8a8a";
    context.stroke();
  }

  /** @param {Now} now @param {Box} box @param {string} colour */
  #box({ context, rect, scale }, [x0, y0, x1, y1], colour) {
    for (const [width, stroke] of [STROKES[0], /** @type {[number, string]} */ ([1.5, colour])]) {
      context.lineWidth = width;
      context.strokeStyle = stroke;
      const [left, top] = [rect.x + Math.min(x0, x1) * scale, rect.y + Math.min(y0, y1) * scale];
      context.strokeRect(left, top, Math.abs(x1 - x0) * scale, Math.abs(y1 - y0) * scale);
    }
  }

  /** @param {Now} now */
  #tools(now) {
    const { context, rect, scale } = now;
    const { object, tool, brush } = this.session;
    if (this.box) this.#box(now, this.box, object?.colour ?? "#fff");
    const at = this.pointer ?? this.crosshair;
    for (const [width, colour] of STROKES) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.beginPath();
      if (at && tool !== "click" && tool !== "hand") {
        context.arc(rect.x + at[0] * scale, rect.y + at[1] * scale, (brush / 2) * scale, 0, 2 * Math.PI);
      }
      if (this.crosshair) {
        const [x, y] = [rect.x + this.crosshair[0] * scale, rect.y + this.crosshair[1] * scale];
        for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
          context.moveTo(x + dx * 4, y + dy * 4);
          context.lineTo(x + dx * 16, y + dy * 16);
        }
      }
      context.stroke();
    }
  }

  /** A short text on the picture, whose upper left or right corner is at (x, y).
   * @param {CanvasRenderingContext2D} context @param {string} text @param {number} x @param {number} y
   * @param {"left" | "right"} side */
  tag(context, text, x, y, side) {
    context.font = "600 11px system-ui, sans-serif";
    const width = context.measureText(text).width + 12;
    const left = side === "left" ? x : x - width;
    context.fillStyle = "rgba(0,0,0,.65)";
    context.beginPath();
    context.roundRect(left, y, width, 20, 4);
    context.fill();
    context.fillStyle = "#fff";
    context.fillText(text, left + 6, y + 14);
  }
}

/** The colour of an object's effects: its own, lighter; they are hatched, too. @param {string} colour "#rrggbb"
 * @returns {string} */
export function effectTint(colour) {
  const rgb = Number.parseInt(colour.slice(1), 16);
  const mixed = [rgb >> 16, (rgb >> 8) & 255, rgb & 255].map((value) => Math.round(value * 0.55 + 255 * 0.45));
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}
