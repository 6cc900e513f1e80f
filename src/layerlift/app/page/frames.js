// Decoded frames: fetched by number, kept up to a bound, with those ahead fetched before they are needed.

import * as api from "./api.js";
import { errorText } from "./dom.js";
import { Kept } from "./kept.js";

const MOST_BYTES = 320 * 2 ** 20;
// Browsers open six connections to a host; the events hold one in every tab, and clicks want to get through. Decoding
// takes a core each.
const AT_ONCE = 2;

/** @typedef {{key: string, url: string}} Wanted */

export class Frames {
  /** @param {() => void} onarrival @param {() => boolean} held nothing is fetched ahead for now */
  constructor(onarrival, held) {
    this.onarrival = onarrival;
    this.held = held;
    /** @type {Kept<ImageBitmap>} */
    this.kept = new Kept(MOST_BYTES, (one) => 4 * one.width * one.height, (one) => one.close());
    /** @type {Map<string, {stop: AbortController, promise: Promise<ImageBitmap | null>}>} */
    this.coming = new Map();
    /** @type {Wanted[]} */
    this.queue = [];
    /** @type {Set<string>} what is shown now */
    this.shown = new Set();
    /** @type {Map<string, number>} when a frame that failed may be asked for again */
    this.failed = new Map();
    this.message = "";
  }

  /** Fetch these and nothing else, the first ones first. @param {Wanted[]} wanted
   * @param {number} shown how many of them are shown now */
  focus(wanted, shown) {
    this.shown = new Set(wanted.slice(0, shown).map((one) => one.key));
    const keys = new Set(wanted.map((one) => one.key));
    for (const [key, { stop }] of this.coming) {
      if (!keys.has(key)) {
        stop.abort();
        this.coming.delete(key);
      }
    }
    // What is wanted is what is thrown away last.
    for (const { key } of [...wanted].reverse()) this.kept.get(key);
    this.queue = wanted.filter((one) => !this.kept.has(one.key) && !this.coming.has(one.key));
    this.#pump();
  }

  #pump() {
    while (this.coming.size < AT_ONCE && this.queue.length > 0) {
      const next = this.queue[0];
      // What is shown comes alone: what may be shown later would slow it down.
      const ahead = !this.shown.has(next.key);
      if (ahead && (this.held() || [...this.shown].some((key) => this.coming.has(key)))) return;
      this.queue.shift();
      if (this.kept.has(next.key) || this.coming.has(next.key)) continue;
      if ((this.failed.get(next.key) ?? 0) > performance.now()) continue;
      const stop = new AbortController();
      const promise = this.#fetch(next, stop);
      this.coming.set(next.key, { stop, promise });
    }
  }

  /** @param {Wanted} wanted @param {AbortController} stop @returns {Promise<ImageBitmap | null>} */
  async #fetch({ key, url }, stop) {
    try {
      const bitmap = await createImageBitmap(await api.picture(url, stop.signal));
      this.kept.put(key, bitmap);
      this.message = "";
      return bitmap;
    } catch (error) {
      if (!stop.signal.aborted) {
        this.failed.set(key, performance.now() + 3000);
        this.message = errorText(error);
      }
      return null;
    } finally {
      if (this.coming.get(key)?.stop === stop) this.coming.delete(key);
      this.#pump();
      if (!stop.signal.aborted) this.onarrival();
    }
  }

  clear() {
    for (const { stop } of this.coming.values()) stop.abort();
    for (const key of [...this.kept.all.keys()]) this.kept.delete(key);
    this.coming.clear();
    this.queue = [];
  }
}

/** How many frames of this size fit. @param {number} width @param {number} height @returns {number} */
export const room = (width, height) => Math.max(4, Math.floor(MOST_BYTES / (4 * width * height)));
