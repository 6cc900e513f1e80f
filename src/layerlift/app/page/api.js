// Every request to the server, and its events. The ways are described at /api.

/** @import {Doc, Facts, Job, Project, Prompt, Results, State} from "./types.js" */

/** One name per tab: the server cancels this tab's older previews, and says whose change an event is. */
export const TAB = crypto.randomUUID();

/** What the server answered when it refused. */
export class Refusal extends Error {
  /** @param {number} status @param {string} message @param {any} body */
  constructor(status, message, body) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

/** @param {string} path @param {RequestInit} [options] @returns {Promise<Response>} @throws {Refusal} */
async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Refusal(0, "The server does not answer. Is `layerlift app` still running?", null);
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => null);
  throw new Refusal(answer.status, body?.error ?? `The server answered ${answer.status}.`, body);
}

/** @param {string} path @param {RequestInit} [options] @returns {Promise<any>} */
async function json(path, options) {
  const answer = await ask(path, options);
  return answer.status === 204 ? null : answer.json();
}

/** @param {string} method @param {string} path @param {unknown} body @param {RequestInit} [more]
 * @returns {Promise<any>} */
function send(method, path, body, more = {}) {
  const headers = { "Content-Type": "application/json" };
  return json(path, { method, headers, body: JSON.stringify(body), ...more });
}

/** @param {string} project @returns {string} */
const at = (project) => `/api/projects/${encodeURIComponent(project)}`;

/** @returns {Promise<State>} */
export const state = () => json("/api/state");
/** @param {string} clip @returns {Promise<Project>} */
export const openClip = (clip) => send("POST", "/api/projects", { clip });
/** @param {string} name @returns {Promise<Project>} */
export const project = (name) => json(at(name));
/** @param {string} name @returns {Promise<void>} */
export const forget = (name) => json(at(name), { method: "DELETE" });
/** @returns {Promise<Job[]>} */
export const jobs = () => json("/api/jobs");
/** @param {string} id @returns {Promise<void>} */
export const cancel = (id) => json(`/api/jobs/${id}/cancel`, { method: "POST" });
/** @param {string} id @returns {Promise<void>} */
export const resume = (id) => json(`/api/jobs/${id}/resume`, { method: "POST" });
/** @param {string} id @returns {Promise<void>} */
export const dismiss = (id) => json(`/api/jobs/${id}`, { method: "DELETE" });

/** @param {string} name @param {string} kind @param {Record<string, string>} [options] @returns {Promise<Job>} */
export const start = (name, kind, options = {}) => send("POST", `${at(name)}/jobs`, { kind, options });

/** @param {string} name @param {string} kind @param {string} onto @returns {Promise<string>} what does the same */
export const command = async (name, kind, onto) =>
  (await json(`${at(name)}/command?kind=${kind}${onto ? `&onto=${encodeURIComponent(onto)}` : ""}`)).command;

/** @param {string} name @param {number} rev the revision that `doc` was made from @param {Doc} doc
 * @param {boolean} [leaving] the page is being closed @returns {Promise<{rev: number}>}
 * @throws {Refusal} 409 with `rev` and `doc` when another tab was faster */
export const save = (name, rev, doc, leaving = false) =>
  send("PUT", `${at(name)}?tab=${TAB}`, { rev, doc }, { keepalive: leaving });

/** @param {string} name @param {string} file @param {Blob} body @returns {Promise<{path: string, frames: number}>} */
export const putMask = (name, file, body) =>
  json(`${at(name)}/masks/${encodeURIComponent(file)}`, { method: "PUT", body });

/** Upload a clip, with progress. @param {File} file @param {(share: number) => void} onprogress
 * @returns {Promise<{path: string}>} */
export function putClip(file, onprogress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `/api/clips/${encodeURIComponent(file.name)}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => onprogress(event.loaded / Math.max(1, event.total));
    request.onload = () => {
      const { status, response } = request;
      if (status < 300) resolve(response);
      else reject(new Refusal(status, response?.error ?? `The server answered ${status}.`, null));
    };
    request.onerror = () => reject(new Refusal(0, "The upload was cut off.", null));
    request.send(file);
  });
}

/** The mask that these clicks mean. @param {string} name @param {number} frame @param {Prompt} prompt
 * @param {number} request counts up; the server drops this tab's older ones @param {AbortSignal} [signal]
 * @returns {Promise<{blob: Blob, score: number}>} */
export async function predict(name, frame, prompt, request, signal) {
  const answer = await ask(`${at(name)}/predict?tab=${TAB}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ frame, points: prompt.points, box: prompt.box, request }),
    signal,
  });
  return { blob: await answer.blob(), score: Number(answer.headers.get("X-Score")) };
}

/** @param {string} url @param {AbortSignal} [signal] @returns {Promise<Blob>} */
export const picture = async (url, signal) => (await ask(url, { signal })).blob();

/** @param {string} name @param {Facts} facts @param {number} frame @param {number} width */
export const frameUrl = (name, facts, frame, width) =>
  `${at(name)}/frames/${frame}?w=${width}&v=${encodeURIComponent(facts.stamp)}`;

/** @param {string} name @param {string} result @param {string} stamp @param {number} frame @param {number} width */
export const resultUrl = (name, result, stamp, frame, width) =>
  `${at(name)}/results/${encodeURIComponent(result)}/${frame}?w=${width}&v=${encodeURIComponent(stamp)}`;

/** @param {string} name @param {string} path "masks/…" */
export const maskUrl = (name, path) => `${at(name)}/masks/${encodeURIComponent(path.replace("masks/", ""))}`;
/** @param {string} name @returns {Promise<{file: string, bytes: number}[]>} what was saved */
export const exported = (name) => json(`${at(name)}/exports`);
/** @param {string} name @param {string} file */
export const exportUrl = (name, file) => `${at(name)}/exports/${encodeURIComponent(file)}`;

/** Listen to the server, for as long as the page is open; the browser connects again by itself. @param {object} heard
 * @param {(job: Job) => void} heard.job
 * @param {(changed: {name: string, rev: number, tab: string}) => void} heard.project
 * @param {(made: {name: string, results: Results}) => void} heard.results
 * @param {(note: {text: string}) => void} heard.note @param {(online: boolean) => void} heard.online */
export function listen(heard) {
  const events = new EventSource("/api/events");
  for (const kind of /** @type {const} */ (["job", "project", "results", "note"])) {
    events.addEventListener(kind, (event) => heard[kind](JSON.parse(/** @type {MessageEvent} */ (event).data)));
  }
  events.onopen = () => heard.online(true);
  events.onerror = () => heard.online(false);
}
