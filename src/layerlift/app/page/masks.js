// Masks: of clicks, painted, imported, found by jobs. Read as grey pictures, tinted for the screen.

/** @import {Grey, Prompt, Thing} from "./types.js" */
/** @import {Session} from "./session.js" */
import * as api from "./api.js";
import { complain, whisper } from "./dom.js";
import { Kept } from "./kept.js";
import { empty } from "./session.js";

const MOST_BYTES = 96 * 2 ** 20;
const WIDEST = 1280;
const AGAIN_MS = 3000;
const AT_ONCE = 2;
const MOST_WAITING = 8;
const MOST_TINTS = 24;

/** @param {Blob} blob a grey PNG @returns {Promise<Grey>} */
export async function readGrey(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser cannot draw");
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const pixels = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer);
  const data = new Uint8Array(pixels.length);
  for (let i = 0; i < data.length; i++) data[i] = pixels[i] & 255;
  return { width, height, data };
}

/** Draw grey values in colours. @param {Grey} grey @param {Uint32Array} colours of each value: 0xAABBGGRR
 * @param {boolean} hatched leave stripes out, to tell effects from objects without colour @returns {OffscreenCanvas} */
export function tint({ width, height, data }, colours, hatched) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  if (!context) return canvas;
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const period = Math.max(6, Math.round(width / 110));
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const value = data[i];
      const colour = colours[value];
      if (colour === 0) continue;
      const edge =
        x === 0 || y === 0 || x === width - 1 || y === height - 1 ||
        colours[data[i - 1]] !== colour || colours[data[i + 1]] !== colour ||
        colours[data[i - width]] !== colour || colours[data[i + width]] !== colour;
      if (edge) pixels[i] = (colour & 0xffffff) | 0xf0000000;
      else if (!hatched || (x + y) % period < period / 2) pixels[i] = colour;
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** @param {string} colour "#rrggbb" @param {number} alpha 0…255 @returns {number} 0xAABBGGRR */
export function packed(colour, alpha) {
  const rgb = Number.parseInt(colour.slice(1), 16);
  return ((alpha << 24) | ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
}

export class Masks {
  /** @param {Session} session @param {() => void} onarrival */
  constructor(session, onarrival) {
    this.session = session;
    this.onarrival = onarrival;
    /** @type {Kept<Grey | null>} null: could not be read */
    this.kept = new Kept(MOST_BYTES, (one) => one?.data.length ?? 0);
    /** @type {Set<string>} */
    this.coming = new Set();
    /** @type {Map<string, () => Promise<Blob>>} */
    this.waiting = new Map();
    /** @type {Kept<OffscreenCanvas>} */
    this.tints = new Kept(MOST_TINTS, () => 1);
    this.request = 0;
    /** @type {AbortController | null} */
    this.asked = null;
    this.looking = false;
    this.width = Math.min(WIDEST, session.facts.width);
  }

  /** What is kept under a key; what is not there is fetched, and told of when it has come. @param {string} key
   * @param {() => Promise<Blob>} fetch @returns {Grey | null | undefined} undefined: on its way */
  #get(key, fetch) {
    const found = this.kept.get(key);
    if (found !== undefined || this.coming.has(key)) return found;
    this.waiting.delete(key);
    this.waiting.set(key, fetch);
    this.#pump();
    return undefined;
  }

  /** The newest first: what the user has left behind is not fetched any more. */
  #pump() {
    for (const [key, fetch] of [...this.waiting].reverse()) {
      if (this.coming.size >= AT_ONCE) break;
      this.waiting.delete(key);
      void this.#load(key, fetch);
    }
    for (const key of [...this.waiting.keys()].slice(0, -MOST_WAITING)) this.waiting.delete(key);
  }

  /** @param {string} key @param {() => Promise<Blob>} fetch */
  async #load(key, fetch) {
    let again = true;
    this.coming.add(key);
    const grey = await fetch().then(readGrey).catch((error) => void (again = error.status !== 404));
    this.coming.delete(key);
    this.kept.put(key, grey ?? null);
    this.onarrival();
    this.#pump();
    // What failed may work later.
    if (!grey && again) setTimeout(() => this.kept.delete(key) && this.onarrival(), AGAIN_MS);
  }

  /** @param {string} name @param {number} frame @returns {Grey | null | undefined} */
  result(name, frame) {
    const result = this.session.results[name];
    if (!result || !covers(result, frame)) return null;
    const stamp = result.stamp ?? "";
    const kinds = name.startsWith("effects") ? `&kinds=${this.session.doc.effects.kinds.join()}` : "";
    const url = api.resultUrl(this.session.name, name, stamp, frame, this.width) + kinds;
    return this.#get(`${name}/${stamp}/${frame}${kinds}`, () => api.picture(url));
  }

  /** @param {string} path @param {number} frame @param {boolean} [moving] it has a picture per frame */
  file(path, frame, moving = false) {
    const url = api.maskUrl(this.session.name, path) + (moving ? `/${frame}?w=${this.width}` : "");
    return this.#get(`${path}/${frame}`, () => api.picture(url));
  }

  /** What the clicks on an object mean in a frame. @param {Prompt} prompt @param {number} frame
   * @returns {Grey | null | undefined} */
  clicks(prompt, frame) {
    const key = clicksKey(prompt, frame);
    const found = this.kept.get(key);
    // One at a time: each would cancel the one before. What is missing is asked for when the next picture is drawn.
    if (found === undefined && !this.looking) void this.predict(prompt, frame);
    return found;
  }

  /** Ask for the mask of some clicks; the newest question is the one that counts. @param {Prompt} prompt
   * @param {number} frame @returns {Promise<Grey | null>} */
  async predict(prompt, frame) {
    const key = clicksKey(prompt, frame);
    const known = this.kept.get(key);
    if (known) return known;
    this.asked?.abort();
    const stop = new AbortController();
    this.asked = stop;
    this.coming.add(key);
    this.looking = true;
    this.session.emit("pictures");
    try {
      const { blob, score } = await api.predict(this.session.name, frame, prompt, ++this.request, stop.signal);
      const grey = await readGrey(blob);
      this.kept.put(key, grey);
      if (!stop.signal.aborted) whisper(`Mask found in frame ${frame}, sure to ${Math.round(score * 100)} percent`);
      return grey;
    } catch (error) {
      const status = error instanceof api.Refusal ? error.status : -1;
      if (!stop.signal.aborted && status !== 409) {
        this.kept.put(key, null);
        if (status !== 0) complain(error); // else it is asked for again, until the server answers
        else setTimeout(() => this.kept.delete(key) && this.onarrival(), AGAIN_MS);
      }
      return null;
    } finally {
      this.coming.delete(key);
      if (this.asked === stop) {
        this.asked = null;
        this.looking = false;
        this.session.emit("pictures");
      }
      this.onarrival();
    }
  }

  /** The mask of one object that something better than the tracked one says: painted, clicked, imported.
   * @param {Thing} object @param {number} frame @returns {{key: string, grey: Grey | null | undefined} | null} */
  own(object, frame) {
    const painted = object.masks[frame];
    if (painted) return { key: `${painted}/${frame}`, grey: this.file(painted, frame) };
    const prompt = object.prompts[frame];
    const tracked = this.session.results.objects;
    const fresh = tracked && !tracked.stale && covers(tracked, frame) && tracked.of?.includes(object.id);
    // What is imported holds as it is.
    if (object.file) return { key: `${object.file}/${frame}`, grey: this.file(object.file, frame, true) };
    if (prompt && !empty(prompt) && !fresh) {
      return { key: clicksKey(prompt, frame), grey: this.clicks(prompt, frame) };
    }
    return null;
  }

  /** The mask of one object in a frame, wherever it comes from. @param {Thing} object @param {number} frame
   * @returns {Grey | null} */
  of(object, frame) {
    const own = this.own(object, frame);
    if (own) return own.grey ?? null;
    const label = (this.session.results.objects?.of ?? []).indexOf(object.id) + 1;
    const labels = label > 0 ? this.result("objects", frame) : null;
    if (!labels) return null;
    return { ...labels, data: labels.data.map((value) => (value === label ? 255 : 0)) };
  }

  /** @param {string} key of what is drawn @param {Grey} grey @param {Uint32Array} colours @param {boolean} [hatched]
   * @returns {OffscreenCanvas} */
  tinted(key, grey, colours, hatched = false) {
    const found = this.tints.get(key);
    if (found) return found;
    const made = tint(grey, colours, hatched);
    this.tints.put(key, made);
    return made;
  }
}

/** @param {Prompt} prompt @param {number} frame @returns {string} */
export const clicksKey = (prompt, frame) => `clicks/${frame}/${JSON.stringify([prompt.points, prompt.box])}`;

/** @param {{first?: number, frames: number}} result @param {number} frame @returns {boolean} */
export function covers(result, frame) {
  const first = result.first ?? 0;
  return frame >= first && frame < first + result.frames;
}
