// Elements, icons and what is said to screen readers. Text is only ever text: nothing here parses HTML.

/** @typedef {string | number | boolean | null | undefined | EventListener | ((event: any) => void)} Attribute */
/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Make an element. @template {keyof HTMLElementTagNameMap} K @param {K} tag
 * @param {Record<string, Attribute>} [attributes] on… are listeners; false and null leave an attribute out
 * @param {...(Child | Child[])} children strings become text @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, String(value));
    }
  }
  element.append(...children.flat().flatMap((child) => asNodes(child)));
  return element;
}

/** @param {Child} child @returns {(Node | string)[]} */
function asNodes(child) {
  if (child === null || child === undefined || child === false) return [];
  return [typeof child === "number" ? String(child) : child];
}

/** The element of the page with this id. @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

// 16 × 16, drawn with a stroke of 1.5.
/** @type {Record<string, string>} */
const ICONS = {
  add: "M8 3v10M3 8h10",
  back: "M10 3 5 8l5 5",
  box: "M2.5 4.5v-2h2M11.5 2.5h2v2M13.5 11.5v2h-2M4.5 13.5h-2v-2M5.5 5.5h5v5h-5z",
  brush: "M13.5 2.5 7.5 9M5.8 8.8c-1.6 0-2.3 1-2.4 2.2-.1 1-.6 1.6-1.4 2 2.6.9 5.4.2 5.6-2.3",
  check: "M3 8.5 6.5 12 13 4.5",
  click: "M4 2.5 12.5 7 9 8.3 7.6 12z",
  close: "M4 4l8 8M12 4l-8 8",
  command: "M2.5 4 6 8l-3.5 4M8 12.5h5.5",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  down: "M8 2.5v8M4.5 7.5 8 11l3.5-3.5M3 13.5h10",
  effect: "M8 2.5a5.5 5.5 0 1 0 0 11M8 2.5v11M10.5 4l2 1.5M11 8h3M10.5 12l2-1.5",
  eraser: "M6.5 13.5h7M3 10l6.5-6.5 3.5 3.5-6.5 6.5h-1z",
  eye: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8zM8 6.2a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6z",
  film: "M2.5 3.5h11v9h-11zM5 3.5v9M11 3.5v9M2.5 8h11",
  fit: "M2.5 6v-3.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  first: "M4 3v10M12.5 3.5v9L6 8z",
  hand: "M5 8V4.2a1 1 0 0 1 2 0V7M7 6.5V3.2a1 1 0 0 1 2 0v3.3M9 6.8V4.2a1 1 0 0 1 2 0V9M11 7a1 1 0 0 1 2 0v2.5c0 2.5-1.6 4-4 4s-3.4-1-4.6-3L3 8.6c-.6-1 .6-2 1.4-1L5 8.4",
  help: "M6 6a2 2 0 1 1 2.8 1.9c-.6.3-.8.7-.8 1.4M8 11.6v.2M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8z",
  hidden: "M2 2l12 12M6.4 4a6 6 0 0 1 1.6-.3c4 0 6.5 4.3 6.5 4.3a12 12 0 0 1-2 2.4M4.2 5.2A11 11 0 0 0 1.5 8s2.5 4.3 6.5 4.300a6 6 0 0 0 2.6-.6",
  last: "M12 3v10M3.5 3.5v9L10 8z",
  loop: "M4 10.500H11.500a2.5 2.5 0 0 0 2.5-2.500M12 5.500H4.500A2.5 2.5 0 0 0 2 8M9.5 3 12 5.5 9.5 8M6.5 8 4 10.5 6.5 13",
  next: "M5.5 3.500v9L11 8z",
  pause: "M5 3v10M11 3v10",
  play: "M4.5 3v10l8-5z",
  previous: "M10.5 3.500v9L5 8z",
  redo: "M13 6.500H6.500a3.5 3.5 0 0 0 0 7H9M10.5 3.500l3 3-3 3",
  save: "M8 10.500v-8M4.5 6 8 2.5 11.5 6M3 10.500v3h10v-3",
  settings: "M2.5 4.500h5M11 4.500h2.500M9.2 3v3M2.5 11.500h2.500M8.5 11.500h5M6.7 10v3",
  theme: "M8 2a6 6 0 1 0 6 6 4.6 4.6 0 0 1-6-6z",
  trash: "M3 4.500h10M6 4.500v-2h4v2M4.5 4.500l.5 9h6l.5-9",
  undo: "M3 6.500h6.500a3.5 3.5 0 0 1 0 7H7M5.5 3.500l-3 3 3 3",
  upload: "M8 10.500v-8M4.5 6 8 2.5 11.5 6M3 13.500h10",
};

/** @param {string} name @returns {SVGSVGElement} */
export function icon(name) {
  const namespace = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(namespace, "svg");
  picture.setAttribute("viewBox", "0 0 16 16");
  picture.setAttribute("class", "icon");
  picture.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(namespace, "path");
  path.setAttribute("d", ICONS[name] ?? "");
  picture.append(path);
  return picture;
}

/**
 * A button with an icon; `label` is its name for screen readers and its tooltip, with the key that does the same.
 * @param {string} picture @param {string} label @param {(event: MouseEvent) => void} onclick
 * @param {{key?: string, class?: string, id?: string, text?: string, pressed?: boolean}} [more]
 * @returns {HTMLButtonElement}
 */
export function iconButton(picture, label, onclick, more = {}) {
  return h(
    "button",
    {
      type: "button",
      id: more.id,
      class: `icon-button ${more.class ?? ""}`,
      "aria-label": more.text ? null : label,
      "aria-pressed": more.pressed === undefined ? null : String(more.pressed),
      "aria-keyshortcuts": more.key ? ariaKey(more.key) : null,
      title: more.key ? `${label} (${more.key})` : label,
      onclick,
    },
    icon(picture),
    more.text ?? null,
  );
}

/** @param {string} key as it is shown @returns {string} */
function ariaKey(key) {
  return key.replace("Ctrl", "Control").replace("←", "ArrowLeft").replace("→", "ArrowRight").replace("Del", "Delete");
}

/**
 * Say something to screen readers and show it for a while. @param {string} text
 * @param {"note" | "error"} [kind] errors stay until they are closed
 */
export function announce(text, kind = "note") {
  const live = byId(kind === "error" ? "alerts" : "status");
  const note = h("div", { class: `toast ${kind}` },
    h("span", {}, text),
    iconButton("close", "Close this message", () => note.remove()),
  );
  live.append(note);
  while (live.childElementCount > 3) live.firstElementChild?.remove();
  if (kind === "note") setTimeout(() => note.remove(), 5000);
}

/** Say something to screen readers alone. @param {string} text */
export function whisper(text) {
  byId("whisper").textContent = text;
}

/** @param {number} bytes @returns {string} */
export function size(bytes) {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(bytes >= 1e10 ? 0 : 1)} GB`;
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(bytes >= 1e7 ? 0 : 1)} MB`;
  return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
}

/** @param {number} seconds @returns {string} */
export function time(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** Ask for a file of this computer. @param {string} accept @returns {Promise<File | null>} */
export function chooseFile(accept) {
  return new Promise((resolve) => {
    const input = h("input", { type: "file", accept, class: "visually-hidden", "aria-label": "Choose a file" });
    input.addEventListener("change", () => {
      resolve(input.files?.[0] ?? null);
      input.remove();
    });
    input.addEventListener("cancel", () => {
      resolve(null);
      input.remove();
    });
    document.body.append(input);
    input.click();
  });
}

/** @param {unknown} error @returns {string} */
export function errorText(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @param {unknown} error */
export function complain(error) {
  announce(errorText(error), "error");
}

/** @template T @param {() => Promise<T>} work @returns {Promise<T | null>} null after an error, which is told */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    complain(error);
    return null;
  }
}

/** @param {string} id @param {string} text @param {() => void} onclick @param {Record<string, Attribute>} [more] */
export function button(id, text, onclick, more = {}) {
  return h("button", { type: "button", id, onclick, ...more }, text);
}

/** @param {string} id @param {string} title @param {Child[]} beside the title @param {...Child} children */
export function panel(id, title, beside, ...children) {
  const head = h("header", {}, h("h2", { id: `${id}-title` }, title), ...beside);
  return h("section", { class: `panel ${id}`, "aria-labelledby": `${id}-title` }, head, ...children);
}

/** @param {string} kind of mark @param {string} text @returns {HTMLElement} */
export function legendEntry(kind, text) {
  return h("span", { class: "legend-entry" }, h("span", { class: `legend-mark ${kind}` }), text);
}
