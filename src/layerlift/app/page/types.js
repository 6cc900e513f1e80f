// The shapes that the server and the page share (see /api), and those of the page alone. Types only: nothing runs here.

/** @typedef {[number, number, boolean]} Point x, y in pixels of the clip, and whether it is of the object */
/** @typedef {[number, number, number, number]} Box left, top, right, bottom in pixels of the clip */
/** @typedef {{points: Point[], box: Box | null}} Prompt what was clicked in one frame */
/** @typedef {Record<string, string>} Painted masks by frame: paths in the project */
/** @typedef {string | number | boolean} Setting */
/** @typedef {Record<string, Setting>} Settings by flag */

/** @typedef {{id: number, name: string, colour: string, hidden: boolean, prompts: Record<string, Prompt>,
 *   masks: Painted, file: string | null}} Thing an object of the clip: id from 1, colour "#rrggbb", prompts by frame,
 *   and an imported mask of all frames */
/** @typedef {{add: Painted, erase: Painted, threshold: number | null, kinds: string[]}} EffectsDoc no kinds: all */
/** @typedef {{objects: Thing[], effects: EffectsDoc, marks: [number, number] | null, model: string | null,
 *   settings: Settings, view: {frame: number}}} Doc what undo and redo move through; marks are [start, end) */
/** @typedef {{width: number, height: number, frames: number, rate: [number, number], seconds: number, sound: boolean,
 *   codec: string, bytes: number, notes: string[], stamp: string}} Facts of the clip */
/** @typedef {{frames: number, first?: number, stamp?: string, stale?: boolean, of?: number[], object?: number,
 *   present?: Record<string, [number, number][]>, threshold?: number}} Result `first`: the clip's frame it begins with,
 *   `stale`: made from another document, `of`: the object of each label from 1, `present`: the frames with a mask by
 *   object, `object`: whose layer it is */
/** @typedef {Record<string, Result>} Results */
/** @typedef {{name: string, rev: number, doc: Doc, facts: Facts, results: Results}} Project */
/** @typedef {{name: string, title: string, licence: string, bytes: number, installed: boolean,
 *   default: boolean}} Model */
/** @typedef {{name: string, title: string, detail: string, for: string}} Preset */
/**
 * @typedef {{flag: string, help: string, kind: "bool" | "int" | "float" | "choice" | "text", choices?: string[] | null,
 *   default?: Setting | null, least?: number | null, most?: number | null}} Option
 */
/** @typedef {{title: string, options: Option[]}} OptionGroup */
/** @typedef {{version: string, folder: string, projects: {name: string}[], clips: {path: string, bytes: number}[],
 *   opened: string | null, models: Model[], segmenters: Model[], options: OptionGroup[], presets: Preset[],
 *   device: string}} State */
/** @typedef {{memory_bytes: number | null, windows: number | null, frames: number, seconds: number | null,
 *   borrowed: number | null, invented: number | null, text: string, model: string | null}} Plan */
/** @typedef {{id: string, project: string, kind: string, stage: string, done: number, total: number | null,
 *   state: "waiting" | "running" | "done" | "failed" | "cancelled" | "interrupted", seconds: number,
 *   left: number | null, stages: string[], message: string, resumable: boolean,
 *   made: string[], notes: string[], plan?: Plan | null}} Job */

/** @typedef {"click" | "brush" | "eraser" | "effect" | "uneffect" | "hand"} Tool */
/** @typedef {"single" | "wipe" | "difference"} Compare */
/** @typedef {"checker" | "black" | "white" | "picture"} Backing */
/** @typedef {{source: string, compare: Compare, flipped: boolean, wipe: number, masks: boolean, effects: boolean,
 *   sources: boolean, backing: Backing}} Show what the stage shows: "clip" or a result; `flipped` is the clip in its
 *   place, `wipe` 0…1 of the width, `sources` the source map */
/** @typedef {{width: number, height: number, data: Uint8Array}} Grey */

export {};
