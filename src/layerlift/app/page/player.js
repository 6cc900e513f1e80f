// Playing: every frame is shown, in order; a frame that has not come holds the rest back.

/** @import {Session} from "./session.js" */
/** @import {View} from "./view.js" */

export class Player {
  /** @param {Session} session @param {View} view */
  constructor(session, view) {
    this.session = session;
    this.view = view;
    this.playing = false;
    this.loop = true;
    /** When the frame that is shown was due, in milliseconds. */
    this.due = 0;
    this.tick = 0;
    /** Frames shown and since when: the rate that is reached. */
    this.count = { frames: 0, since: 0 };
    this.reached = 0;
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    const [start, end] = this.session.range;
    this.playing = this.view.playing = true;
    this.view.direction = 1;
    if (this.session.frame >= end - 1 || this.session.frame < start) this.session.go(start);
    this.due = performance.now();
    this.count = { frames: 0, since: this.due };
    this.reached = 0;
    this.tick = requestAnimationFrame((now) => this.#step(now));
    this.session.emit("play");
  }

  pause() {
    if (!this.playing) return;
    this.playing = this.view.playing = false;
    cancelAnimationFrame(this.tick);
    this.view.schedule();
    this.session.keepPlace();
    this.session.emit("play");
  }

  /** @param {number} now */
  #step(now) {
    if (!this.playing) return;
    this.tick = requestAnimationFrame((later) => this.#step(later));
    const length = 1000 / this.session.rate;
    if (now - this.due < length - 1) return;
    const next = this.#next();
    if (next === null) {
      this.pause();
      return;
    }
    if (!this.view.ready(next)) {
      // The clock waits, too.
      this.due = now - length;
      return;
    }
    // After a hitch the next ones hurry, but no more than four of them.
    this.due = Math.max(this.due + length, now - 4 * length);
    this.session.go(next);
    this.#measure(now);
  }

  /** @param {number} now */
  #measure(now) {
    this.count.frames++;
    const passed = now - this.count.since;
    if (passed < 500) return;
    this.reached = (1000 * this.count.frames) / passed;
    this.count = { frames: 0, since: now };
    this.session.emit("play");
  }

  /** @returns {number | null} */
  #next() {
    const [start, end] = this.session.range;
    const next = this.session.frame + 1;
    if (next < end) return next;
    return this.loop ? start : null;
  }

  /** @param {number} frames */
  step(frames) {
    this.go(this.session.frame + frames);
  }

  /** @param {number} frame */
  go(frame) {
    this.pause();
    this.view.direction = frame < this.session.frame ? -1 : 1;
    this.session.go(frame);
    this.session.keepPlace();
  }

  /** To the next frame with clicks or a painted mask. @param {1 | -1} direction */
  jump(direction) {
    const { doc, frame } = this.session;
    const marked = doc.objects.flatMap((one) => [...Object.keys(one.prompts), ...Object.keys(one.masks)].map(Number));
    marked.push(...Object.keys(doc.effects.add).map(Number), ...Object.keys(doc.effects.erase).map(Number));
    const ahead = marked.filter((one) => (direction > 0 ? one > frame : one < frame));
    if (ahead.length > 0) this.go(direction > 0 ? Math.min(...ahead) : Math.max(...ahead));
  }
}
