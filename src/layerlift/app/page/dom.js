// Elements, icons and what is said to screen readers. Text is only ever text: nothing here parses HTML.

/** @typedef {string | number | boolean | null | undefined | EventListener | ((event: any) => void)} Attribute */
/** @typedef {Node | string | number | null | undefined | false} Child */

/** Make an element. @template {keyof HTMLElementTagNameMap} K @param {K} tag
 * @param {Record<string, Attribute>} [attributes] on… are listeners; false and null leave an attribute out
 * @param {...(Child | Child[])} children strings become text @returns {HTMLElementTagNameMap[K]} */
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
  const there = children.flat().filter((one) => one !== null && one !== undefined && one !== false);
  element.append(...there.map((one) => (typeof one === "number" ? String(one) : one)));
  return element;
}

/** The element of the page with this id. @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** @param {string} name one of icons.svg @returns {SVGSVGElement} */
export function icon(name) {
  const namespace = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(namespace, "svg");
  picture.setAttribute("class", "icon");
  picture.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(namespace, "use");
  use.setAttribute("href", `/static/icons.svg#${name}`);
  picture.append(use);
  return picture;
}

/** A button with an icon; `label` is its name for screen readers and its tooltip, with the key that does the same.
 * @param {string} picture @param {string} label @param {(event: MouseEvent) => void} onclick
 * @param {{key?: string, class?: string, id?: string, text?: string, pressed?: boolean}} [more]
 * @returns {HTMLButtonElement} */
export function iconButton(picture, label, onclick, more = {}) {
  const attributes = {
    type: "button", id: more.id, class: `icon-button ${more.class ?? ""}`, onclick,
    "aria-label": more.text ? null : label,
    "aria-pressed": more.pressed === undefined ? null : String(more.pressed),
    "aria-keyshortcuts": more.key ? ariaKey(more.key) : null,
    title: more.key ? `${label} (${more.key})` : label,
  };
  return h("button", attributes, icon(picture), more.text ?? null);
}

/** @param {string} key as it is shown @returns {string} */
const ariaKey = (key) => key.replace("Ctrl", "Control").replace("←", "ArrowLeft").replace("→", "ArrowRight");

/** Say something to screen readers and show it for a while. @param {string} text
 * @param {"note" | "error"} [kind] errors stay until they are closed */
export function announce(text, kind = "note") {
  const live = byId(kind === "error" ? "alerts" : "status");
  const close = iconButton("close", "Close this message", () => note.remove());
  const note = h("div", { class: `toast ${kind}` }, h("span", {}, text), close);
  live.append(note);
  while (live.childElementCount > 3) live.firstElementChild?.remove();
  if (kind === "note") setTimeout(() => note.remove(), 5000);
}

/** Say something to screen readers alone. @param {string} text */
export const whisper = (text) => void (byId("whisper").textContent = text);

/** @param {number} bytes @returns {string} */
export function size(bytes) {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(bytes >= 1e10 ? 0 : 1)} GB`;
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(bytes >= 1e7 ? 0 : 1)} MB`;
  return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
}

/** @param {number} seconds @returns {string} */
export function time(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
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
export const errorText = (error) => (error instanceof Error ? error.message : String(error));

/** @param {unknown} error */
export const complain = (error) => announce(errorText(error), "error");

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
export const button = (id, text, onclick, more = {}) => h("button", { type: "button", id, onclick, ...more }, text);

/** @param {string} id @param {string} title @param {Child[]} beside the title @param {...Child} children */
export function panel(id, title, beside, ...children) {
  const head = h("header", {}, h("h2", { id: `${id}-title` }, title), ...beside);
  return h("section", { class: `panel ${id}`, "aria-labelledby": `${id}-title` }, head, ...children);
}

/** @param {string} kind of mark @param {string} text @returns {HTMLElement} */
export const legendEntry = (kind, text) => span("legend-entry", span(`legend-mark ${kind}`), text);

/** @param {string} kind class @param {...Child} children */
export const span = (kind, ...children) => h("span", { class: kind }, ...children);

/** @param {string[][]} pairs of value and title */
export const options = (pairs) => pairs.map(([value, title]) => h("option", { value }, title));

/** @param {string} id @param {string} label @param {Record<string, number>} range @param {(to: number) => void} done */
export function slider(id, label, range, done) {
  const input = h("input", { type: "range", id, ...range, oninput: () => done(Number(input.value)) });
  const output = h("output", { for: id });
  return { row: h("div", { class: "slider-row" }, h("label", { for: id }, label), input, output), input, output };
}

/** @param {HTMLDialogElement} dialog @param {string} title @returns {HTMLElement} with a button to close it */
export function dialogHead(dialog, title) {
  const close = iconButton("close", "Close", () => dialog.close(), { key: "Esc" });
  return h("header", {}, h("h2", { id: `${dialog.id}-title` }, title), close);
}

/** @param {number} value @param {number} least @param {number} most */
export const clamp = (value, least, most) => Math.max(least, Math.min(most, value));

/** @param {HTMLElement} element @param {unknown} shown @returns {boolean} it shows something else until now */
export function changed(element, shown) {
  const words = JSON.stringify(shown);
  if (element.dataset.words === words) return false;
  element.dataset.words = words;
  return true;
}
