// Requests to the service, and what it says where it refuses.

const KEY = "kimgnn-api-key";
const TRIES = 8;

export class Refused extends Error {
  constructor(status, problems) {
    super(problems.map((problem) => problem.message).join("; "));
    this.status = status;
    this.problems = problems;
  }
}

export const setKey = (key) => sessionStorage.setItem(KEY, key);
export const hasKey = () => Boolean(sessionStorage.getItem(KEY));

// The answer's JSON. A full queue is waited for as long as the server says, and `waiting` is told.
export async function ask(path, body, { signal, waiting = () => {} } = {}) {
  const headers = {};
  if (hasKey()) headers.Authorization = `Bearer ${sessionStorage.getItem(KEY)}`;
  const request = { headers, signal };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    request.method = "POST";
    request.body = JSON.stringify(body);
  }
  for (let tried = 1; ; tried += 1) {
    const response = await sent(path, request);
    if (response.status !== 429 || tried === TRIES) return await answer(response);
    const seconds = Math.min(Number(response.headers.get("Retry-After")) || 1, 60);
    waiting(seconds);
    await pause(1000 * seconds, signal);
  }
}

async function sent(path, request) {
  try {
    return await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, [
      { message: "the server cannot be reached", remedy: "Is `kimgnn serve` still running? Then try again." },
    ]);
  }
}

async function answer(response) {
  let content = null;
  try {
    content = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (response.ok && content !== null) return content;
  const told = content?.error;
  if (told) throw new Refused(response.status, told.problems?.length ? told.problems : [told]);
  const remedy = "Try again; if it stays, ask whoever runs the server.";
  throw new Refused(response.status, [{ message: `the server's answer cannot be used (HTTP ${response.status})`, remedy }]);
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
  });
}
