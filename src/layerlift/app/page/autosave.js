// The document goes to the server soon after each change, and again until it has arrived.

/** @import {Doc} from "./types.js" */
import * as api from "./api.js";

const SOON_MS = 400;
const AGAIN_MS = 3000;

export class Autosave {
  /** @param {string} name @param {number} rev @param {() => Doc} current
   * @param {(doc: Doc) => void} onnewer another tab was faster: its document
   * @param {(state: string) => void} onstate "Saved", "Saving…", or why not */
  constructor(name, rev, current, onnewer, onstate) {
    this.name = name;
    this.rev = rev;
    this.current = current;
    this.onnewer = onnewer;
    this.onstate = onstate;
    /** @type {Doc} */
    this.saved = current();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    /** @type {Promise<void>} */
    this.running = Promise.resolve();
    this.stopped = false;
  }

  get pending() {
    return this.saved !== this.current();
  }

  /** @param {number} [milliseconds] */
  soon(milliseconds = SOON_MS) {
    if (this.stopped || !this.pending) return;
    clearTimeout(this.timer);
    this.onstate("Saving…");
    this.timer = setTimeout(() => this.flush().catch(() => undefined), milliseconds);
  }

  /** Save now what is not saved yet; one request at a time. @returns {Promise<void>}
   * @throws {api.Refusal} when it could not be saved; it is tried again later */
  flush() {
    clearTimeout(this.timer);
    const turn = this.running.catch(() => undefined).then(() => this.#write());
    this.running = turn;
    turn.catch(() => undefined);
    return turn;
  }

  async #write() {
    if (this.stopped || !this.pending) return;
    const doc = this.current();
    try {
      this.rev = (await api.save(this.name, this.rev, doc)).rev;
      this.saved = doc;
      this.onstate(this.pending ? "Saving…" : "Saved");
    } catch (error) {
      if (error instanceof api.Refusal && error.status === 409 && error.body?.doc) {
        this.#take(error.body.rev, error.body.doc);
        return;
      }
      const refused = error instanceof api.Refusal && error.status > 0;
      this.onstate(`Not saved: ${refused ? error.message : "the server does not answer"}`);
      this.timer = setTimeout(() => this.flush().catch(() => undefined), AGAIN_MS);
      throw error;
    }
  }

  /** @param {number} rev @param {Doc} doc */
  #take(rev, doc) {
    this.rev = rev;
    this.onnewer(doc);
    this.saved = this.current();
    this.onstate("Saved");
  }

  /** Another tab saved a newer document. @param {number} rev */
  async heard(rev) {
    await this.running.catch(() => undefined);
    if (rev <= this.rev || this.stopped) return;
    const { rev: newest, doc } = await api.project(this.name);
    if (newest > this.rev) this.#take(newest, doc);
  }

  /** The page is being closed or shows another project. */
  leave() {
    clearTimeout(this.timer);
    if (this.pending && !this.stopped) api.save(this.name, this.rev, this.current(), true).catch(() => undefined);
    this.stopped = true;
  }
}
