// The service's REST interface, as this page uses it. Addresses are relative, for a proxy's prefix.

import { askForKey, keyHeaders } from "./key.js";

export class Problem extends Error {}

async function checked(response) {
  if (response.ok) return response;
  let text = `the service answered ${response.status}`;
  let detail = text;
  try {
    const problem = await response.json();
    detail = problem.detail;
    text = `${problem.title}: ${detail}`;
  } catch { /* not a problem document: the status must do */ }
  if (response.status === 401 || response.status === 403) text = askForKey(response.status, detail);
  throw new Problem(text);
}

export async function listModels() {
  return (await (await checked(await fetch("v1/models", { headers: keyHeaders() }))).json()).models;
}

export async function listSamples() {
  const response = await fetch("page/samples");
  return response.ok ? response.json() : [];
}

export async function segment(model, image, query, signal) {
  const address = `v1/models/${encodeURIComponent(model)}/segment?${new URLSearchParams(query)}`;
  const headers = { "Content-Type": "application/octet-stream", ...keyHeaders() };
  try {
    return await checked(await fetch(address, { method: "POST", body: image, headers, signal }));
  } catch (error) {
    if (error instanceof TypeError) throw new Problem("The service cannot be reached.");
    throw error;
  }
}

// Milliseconds of one stage out of Server-Timing.
export function stageMs(response, stage) {
  const timing = response.headers.get("Server-Timing") ?? "";
  const found = timing.match(new RegExp(`(?:^|, )${stage};dur=([\\d.]+)`));
  return found ? Number(found[1]) : null;
}
