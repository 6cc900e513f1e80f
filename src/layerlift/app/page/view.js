// The stage: where the clip lies on the canvas, which pictures are needed, and how they are drawn and compared.

/** @import {Session} from "./session.js" */
/** @import {Wanted} from "./frames.js" */
import * as api from "./api.js";
import { Frames, room } from "./frames.js";
import { Masks, covers, packed } from "./masks.js";
import { Overlay } from "./overlay.js";
import { resultTitle } from "./session.js";

const WIDTHS = [320, 640, 960, 1280, 1920, 3840];
const MOST_ZOOM = 32;
const MARGIN = 12;
const BACK = 8;
const CALM_MS = 120;
/** @typedef {{x: number, y: number, width: number, height: number}} Rect */

export class View {
  /** @param {Session} session @param {HTMLCanvasElement} canvas */
  constructor(session, canvas) {
    this.session = session;
    this.canvas = canvas;
    const context = canvas.getContext("2d");
    if (!context) throw new Error("this browser cannot draw");
    this.context = context;
    this.frames = new Frames(() => this.arrived(), () => this.masks.looking || performance.now() < this.calm);
    this.masks = new Masks(session, () => this.schedule());
    this.overlay = new Overlay(session, this.masks);
    /** How much larger than fitted. */
    this.zoom = 1;
    /** Where the middle of the clip lies, from the middle of the canvas, in CSS pixels. */
    this.pan = { x: 0, y: 0 };
    /** The frame whose pictures are drawn: the session's, once they have come. */
    this.shown = -1;
    this.direction = 1;
    this.playing = false;
    /** Until when nothing is fetched ahead: whoever scrubs waits for one frame alone. */
    this.calm = 0;
    this.later = 0;
    /** All that is wanted is drawn, in the size that is wanted. */
    this.complete = false;
    this.scheduled = 0;
    this.checker = checkerboard(context);
    this.scratch = new OffscreenCanvas(1, 1);
    this.observer = new ResizeObserver(() => this.#resize());
    this.observer.observe(canvas);
    session.on(["doc", "frame", "results", "show", "tool"], () => this.schedule());
    session.on("frame", () => this.#moved());
    this.#resize();
  }

  #resize() {
    const { canvas } = this;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * devicePixelRatio));
    this.schedule();
  }

  /** CSS pixels per pixel of the clip, fitted. */
  get fitted() {
    const { width, height } = this.session.facts;
    const [across, down] = [this.canvas.clientWidth - 2 * MARGIN, this.canvas.clientHeight - 2 * MARGIN];
    return Math.max(0.01, Math.min(across / width, down / height));
  }

  get scale() {
    return this.fitted * this.zoom;
  }

  /** @returns {Rect} of the clip, in CSS pixels of the canvas */
  get rect() {
    const width = this.session.facts.width * this.scale;
    const height = this.session.facts.height * this.scale;
    const x = (this.canvas.clientWidth - width) / 2 + this.pan.x;
    const y = (this.canvas.clientHeight - height) / 2 + this.pan.y;
    return { x, y, width, height };
  }

  /** @param {{clientX: number, clientY: number}} event @returns {[number, number]} pixels of the clip, not rounded */
  toClip(event) {
    const bounds = this.canvas.getBoundingClientRect();
    const { x, y } = this.rect;
    return [(event.clientX - bounds.left - x) / this.scale, (event.clientY - bounds.top - y) / this.scale];
  }

  /** @param {number} factor @param {{clientX: number, clientY: number}} [at] stays where it is */
  zoomBy(factor, at) {
    const bounds = this.canvas.getBoundingClientRect();
    const middle = { clientX: bounds.left + bounds.width / 2, clientY: bounds.top + bounds.height / 2 };
    const point = at ?? middle;
    const [x, y] = this.toClip(point);
    this.zoom = Math.max(0.25, Math.min(MOST_ZOOM / this.fitted, this.zoom * factor));
    const [x1, y1] = this.toClip(point);
    this.pan = { x: this.pan.x + (x1 - x) * this.scale, y: this.pan.y + (y1 - y) * this.scale };
    this.session.emit("show");
  }

  fit() {
    this.zoom = 1;
    this.pan = { x: 0, y: 0 };
    this.session.emit("show");
  }

  /** One pixel of the clip on one of the screen. */
  actual() {
    this.zoom = 1 / (this.fitted * devicePixelRatio);
    this.session.emit("show");
  }

  /** The width to ask frames at: enough for the screen, no more than the clip has. */
  get width() {
    const clip = this.session.facts.width;
    const wanted = Math.min(clip, clip * this.scale * devicePixelRatio);
    return WIDTHS.find((width) => width >= wanted * 0.98) ?? 3840;
  }

  /** @param {string} source @param {number} frame @returns {Wanted} */
  wanted(source, frame) {
    const { name, facts, results } = this.session;
    const result = source === "clip" ? undefined : results[source];
    const width = this.width;
    if (!result || !covers(result, frame)) {
      return { key: `clip/${frame}@${width}`, url: api.frameUrl(name, facts, frame, width) };
    }
    const stamp = result.stamp ?? "";
    return { key: `${source}/${stamp}/${frame}@${width}`, url: api.resultUrl(name, source, stamp, frame, width) };
  }

  /** The pictures that one frame is drawn from. @returns {string[]} */
  get sources() {
    const { source, compare, flipped } = this.session.show;
    if (source === "clip") return ["clip"];
    if (compare !== "single") return ["clip", source];
    return [flipped ? "clip" : source];
  }

  /** @param {number} frame @returns {boolean} */
  ready(frame) {
    return this.sources.every((source) => this.frames.kept.has(this.wanted(source, frame).key));
  }

  /** @param {string} source @param {number} frame @returns {ImageBitmap | undefined} of another size while none fits */
  bitmap(source, frame) {
    const { key } = this.wanted(source, frame);
    const { kept } = this.frames;
    const other = () => WIDTHS.map((width) => key.replace(/@\d+$/, `@${width}`)).find((one) => kept.has(one));
    return kept.get(key) ?? kept.get(other() ?? "");
  }

  /** Fetch what is shown, then what comes next. */
  fetch() {
    const { frame, facts, range } = this.session;
    const sources = this.sources;
    const wanted = sources.map((source) => this.wanted(source, frame));
    if (sources.length === 1 && this.session.show.source !== "clip") {
      wanted.push(this.wanted(sources[0] === "clip" ? this.session.show.source : "clip", frame));
    }
    const width = Math.min(this.width, facts.width);
    const most = Math.floor((room(width, (width * facts.height) / facts.width) * 0.8) / sources.length);
    const ahead = Math.min(most - 8, facts.frames);
    const near = [];
    for (let step = 1; step <= ahead; step++) {
      const there = frame + step * this.direction;
      // Playback goes round.
      const round = this.direction > 0 && there >= range[1] && frame < range[1];
      near.push(round ? range[0] + (there - range[1]) : there);
      if (step <= BACK) near.push(frame - step * this.direction);
    }
    for (const there of near.filter((one) => one >= 0 && one < facts.frames && one !== frame)) {
      for (const source of sources) wanted.push(this.wanted(source, there));
    }
    this.frames.focus(wanted, sources.length);
  }

  /** Fetch at once, and not only when the next picture is drawn. */
  #moved() {
    clearTimeout(this.later);
    if (!this.playing) {
      this.calm = performance.now() + CALM_MS;
      this.later = setTimeout(() => this.fetch(), CALM_MS + 1);
    }
    this.fetch();
  }

  arrived() {
    this.session.emit("pictures");
    if (!this.complete) this.schedule();
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = requestAnimationFrame(() => {
      this.scheduled = 0;
      this.fetch();
      this.draw();
    });
  }

  draw() {
    const { context, session } = this;
    if (this.sources.every((source) => this.bitmap(source, session.frame))) this.shown = session.frame;
    this.complete = false;
    // What is drawn stays until what takes its place has come.
    if (this.shown < 0 || !this.sources.every((source) => this.bitmap(source, this.shown))) return;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, this.canvas.clientWidth, this.canvas.clientHeight);
    this.canvas.dataset.frame = String(this.shown);
    this.canvas.dataset.source = this.sources.join();
    this.complete = this.ready(session.frame);
    const rect = this.rect;
    const { source, compare, flipped } = session.show;
    context.imageSmoothingEnabled = this.scale * devicePixelRatio < 3;
    context.imageSmoothingQuality = this.playing ? "low" : "medium";
    const single = compare === "single" || source === "clip";
    const clip = source === "clip" || flipped;
    if (single) this.#picture(clip ? "clip" : source, rect);
    else if (compare === "wipe") this.#wipe(rect);
    else this.#difference(rect);
    if (session.show.sources) this.#sourceMap(rect);
    if (single ? clip : compare === "wipe") {
      context.save();
      if (!single) this.#side(rect, true);
      this.overlay.draw({ context, rect, scale: this.scale, frame: this.shown });
      context.restore();
    }
    if (!single && compare === "wipe") this.#handle(rect);
  }

  /** @param {string} source @param {Rect} rect */
  #picture(source, rect) {
    const bitmap = this.bitmap(source, this.shown);
    if (!bitmap) return;
    if (source.startsWith("layer_")) this.#backing(rect);
    // A composite is as large as its background.
    const fit = Math.min(rect.width / bitmap.width, rect.height / bitmap.height);
    const shape = (bitmap.width * rect.height) / (bitmap.height * rect.width);
    const whole = source === "composite" && Math.abs(shape - 1) > 0.01;
    const width = whole ? bitmap.width * fit : rect.width;
    const height = whole ? bitmap.height * fit : rect.height;
    const [x, y] = [rect.x + (rect.width - width) / 2, rect.y + (rect.height - height) / 2];
    this.context.drawImage(bitmap, x, y, width, height);
  }

  /** @param {Rect} rect */
  #backing({ x, y, width, height }) {
    const { context, session } = this;
    const { backing } = session.show;
    if (backing === "picture" && session.behind) {
      const picture = session.behind;
      const cover = Math.max(width / picture.width, height / picture.height);
      context.save();
      context.beginPath();
      context.rect(x, y, width, height);
      context.clip();
      const [w, h] = [picture.width * cover, picture.height * cover];
      context.drawImage(picture, x + (width - w) / 2, y + (height - h) / 2, w, h);
      context.restore();
      return;
    }
    context.fillStyle = backing === "black" ? "#000" : backing === "white" ? "#fff" : this.checker;
    context.fillRect(x, y, width, height);
  }

  /** Draw on one side of the wipe only. @param {Rect} rect @param {boolean} left */
  #side({ x, width }, left) {
    const edge = x + width * this.session.show.wipe;
    this.context.beginPath();
    this.context.rect(left ? -1e5 : edge, -1e5, left ? 1e5 + edge : 2e5, 2e5);
    this.context.clip();
  }

  /** @param {Rect} rect */
  #wipe(rect) {
    this.#picture("clip", rect);
    this.context.save();
    this.#side(rect, false);
    this.#picture(this.session.show.source, rect);
    this.context.restore();
  }

  /** @param {Rect} rect */
  #handle({ x, y, width, height }) {
    const { context, session } = this;
    const edge = x + width * session.show.wipe;
    context.fillStyle = "rgba(0,0,0,.45)";
    context.fillRect(edge - 2, y, 4, height);
    context.fillStyle = "#fff";
    context.fillRect(edge - 1, y, 2, height);
    context.beginPath();
    context.arc(edge, y + height / 2, 11, 0, 2 * Math.PI);
    context.shadowColor = "rgba(0,0,0,.5)";
    context.shadowBlur = 6;
    context.fill();
    context.shadowBlur = 0;
    context.strokeStyle = "#222";
    context.lineWidth = 1.5;
    context.beginPath();
    for (const side of [-1, 1]) {
      context.moveTo(edge + side * 3, y + height / 2 - 4);
      context.lineTo(edge + side * 7, y + height / 2);
      context.lineTo(edge + side * 3, y + height / 2 + 4);
    }
    context.stroke();
    this.overlay.tag(context, "Clip", Math.max(8, x + 8), Math.max(8, y + 8), "left");
    const right = Math.min(this.canvas.clientWidth - 8, x + width - 8);
    this.overlay.tag(context, resultTitle(session, session.show.source), right, Math.max(8, y + 8), "right");
  }

  /** The difference of clip and result, four times as strong: most of it is faint. @param {Rect} rect */
  #difference({ x, y, width, height }) {
    const one = this.bitmap("clip", this.shown);
    const other = this.bitmap(this.session.show.source, this.shown);
    if (!one || !other) return;
    this.scratch.width = one.width;
    this.scratch.height = one.height;
    const scratch = this.scratch.getContext("2d");
    if (!scratch) return;
    scratch.drawImage(one, 0, 0);
    scratch.globalCompositeOperation = "difference";
    scratch.drawImage(other, 0, 0, one.width, one.height);
    scratch.globalCompositeOperation = "lighter";
    scratch.drawImage(this.scratch, 0, 0);
    scratch.drawImage(this.scratch, 0, 0);
    this.context.drawImage(this.scratch, x, y, width, height);
  }

  /** @param {Rect} rect */
  #sourceMap({ x, y, width, height }) {
    // Before a run, what a plan foresees.
    const name = this.session.results.source ? "source" : "forecast";
    const grey = this.masks.result(name, this.shown);
    if (!grey) return;
    const colours = new Uint32Array(256);
    colours[1] = packed("#29c46a", 120);
    colours.fill(packed("#ff3fd0", 140), 2);
    const stamp = this.session.results[name].stamp ?? "";
    this.context.drawImage(this.masks.tinted(`${name}/${stamp}/${this.shown}`, grey, colours), x, y, width, height);
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.scheduled);
    clearTimeout(this.later);
    this.frames.clear();
  }
}

/** @param {CanvasRenderingContext2D} context @returns {CanvasPattern | string} */
function checkerboard(context) {
  const tile = new OffscreenCanvas(16, 16);
  const drawn = tile.getContext("2d");
  if (!drawn) return "#888";
  drawn.fillStyle = "#9a9a9a";
  drawn.fillRect(0, 0, 16, 16);
  drawn.fillStyle = "#c4c4c4";
  drawn.fillRect(0, 0, 8, 8);
  drawn.fillRect(8, 8, 8, 8);
  return context.createPattern(tile, "repeat") ?? "#888";
}
