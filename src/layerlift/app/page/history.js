// Undo and redo: documents that are never changed, only replaced.

/** @import {Doc} from "./types.js" */

/** @typedef {{doc: Doc, label: string, merge: string}} Step */

// Documents share what did not change between them, so that a step costs little.
const MOST_STEPS = 500;

export class History {
  /** @param {Doc} doc */
  constructor(doc) {
    this.doc = doc;
    /** @type {Step[]} */
    this.undone = [];
    /** @type {Step[]} */
    this.done = [];
  }

  /** @param {Doc} doc @param {string} label what was done, as "Undo …" says it
   * @param {string} [merge] steps in a row with the same word become one */
  change(doc, label, merge = "") {
    const last = this.done.at(-1);
    if (!merge || !last || last.merge !== merge || this.undone.length > 0) {
      this.done.push({ doc: this.doc, label, merge });
      if (this.done.length > MOST_STEPS) this.done.shift();
    }
    this.undone = [];
    this.doc = doc;
  }

  /** Later steps are not merged with the one before. */
  settle() {
    const last = this.done.at(-1);
    if (last) last.merge = "";
  }

  /** @returns {string | null} what was undone */
  undo() {
    return this.#move(this.done, this.undone);
  }

  /** @returns {string | null} what was done again */
  redo() {
    return this.#move(this.undone, this.done);
  }

  /** @param {Step[]} from @param {Step[]} to */
  #move(from, to) {
    const step = from.pop();
    if (!step) return null;
    to.push({ ...step, doc: this.doc });
    this.doc = { ...step.doc, view: this.doc.view };
    return step.label;
  }
}
