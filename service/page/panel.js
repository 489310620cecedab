// One panel: a picture with its answer over it, what the service said of it, and the areas.

import { copyOf, drawImage, drawLabels } from "./drawing.js";
import { Problem, segment, stageMs } from "./rest.js";

const SMALL_PX = 160; // below this, interpolation would hide the pixels
const byId = (id) => document.getElementById(id);

export function newPanel(name) {
  const panel = byId("panel").content.firstElementChild.cloneNode(true);
  panel.querySelector(".name").textContent = name;
  panel.classList.add("busy");
  return panel;
}

export function originalPanel(shown) {
  const panel = newPanel("Image");
  panel.classList.remove("busy");
  panel.querySelector(".facts").textContent = `${shown.width} × ${shown.height} px`;
  putPictures(panel, [shown]);
  return panel;
}

function putPictures(panel, pictures) {
  const picture = panel.querySelector(".picture");
  picture.classList.toggle("pixelated", Math.max(pictures[0].width, pictures[0].height) <= SMALL_PX);
  picture.querySelectorAll(":scope > :not(.wait)").forEach((old) => old.remove());
  picture.append(...pictures);
}

// Ask `model` about `image` and show the answer, which is returned; null where there is none.
// `query` holds what the request asks for beyond the format, `shown` the image as a canvas, or null
// where the browser cannot show it. An aborted `signal` leaves the panel to whoever comes next.
export async function fillPanel(panel, { model, image, shown, query = {}, signal }) {
  const problem = panel.querySelector(".problem");
  panel.classList.add("busy");
  if (shown && !panel.querySelector("canvas")) putPictures(panel, [copyOf(shown)]);
  try {
    const response = await segment(model.name, image, { ...query, format: "json" }, signal);
    const answer = await response.json();
    signal.throwIfAborted();
    const colours = new Map(model.classes.map((entry) => [entry.index, entry.colour]));
    showFacts(panel, response);
    showClasses(panel, answer, colours);
    problem.hidden = true;
    if (shown) putPictures(panel, [copyOf(shown), ...drawLabels(answer, colours)]);
    else await showDrawnByService(panel, model.name, image, query, signal);
    offerDownload(panel, model, image, query);
    return answer;
  } catch (error) {
    if (error.name === "AbortError") return null;
    problem.textContent = error instanceof Problem ? error.message : "This page failed; reload it.";
    problem.hidden = false;
    if (!(error instanceof Problem)) console.error(error);
    return null;
  } finally {
    if (!signal.aborted) panel.classList.remove("busy");
  }
}

function showFacts(panel, response) {
  const total = stageMs(response, "total");
  const inModel = stageMs(response, "run");
  const version = response.headers.get("X-Longskip-Version");
  const provider = (response.headers.get("X-Longskip-Provider") ?? "").replace("ExecutionProvider", "");
  panel.querySelector(".facts").textContent = `v${version} · ${provider} · ${Math.round(inModel)} ms in the model, ${Math.round(total)} ms in all`;
}

function showClasses(panel, answer, colours) {
  const [height, width] = answer.size;
  const rows = answer.classes.map((entry) => {
    const row = document.createElement("tr");
    const swatch = Object.assign(document.createElement("span"), { className: "swatch" });
    swatch.style.background = `rgb(${colours.get(entry.index).join(" ")})`;
    const share = (100 * entry.area_px) / (height * width);
    const texts = [entry.name, `${entry.area_px.toLocaleString("en")} px`, `${share.toFixed(1)} %`, String(entry.boxes_xyxy.length)];
    row.append(...texts.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    row.firstElementChild.prepend(swatch);
    return row;
  });
  panel.querySelector("tbody").replaceChildren(...rows);
  panel.querySelector(".classes").hidden = false;
}

// A TIFF, say, that the browser cannot show: the service draws the overlay.
async function showDrawnByService(panel, name, image, query, signal) {
  if (signal.aborted) return;
  const opacity = byId("opacity").value / 100;
  const response = await segment(name, image, { ...query, format: "overlay", opacity }, signal);
  const drawn = await drawImage(await response.blob());
  signal.throwIfAborted();
  putPictures(panel, [drawn]);
  panel.redraw = () => showDrawnByService(panel, name, image, query, signal);
}

function offerDownload(panel, model, image, query) {
  const format = model.task === "multilabel" ? "npz" : "png";
  const button = panel.querySelector(".download");
  button.hidden = false;
  button.onclick = async () => {
    const response = await segment(model.name, image, { ...query, format });
    const address = URL.createObjectURL(await response.blob());
    Object.assign(document.createElement("a"), { href: address, download: `mask-${model.name}.${format}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  };
}
