// The page: an image, one or two models, their answers side by side.

import { copyOf, drawImage, drawLabels } from "./drawing.js";
import { listModels, listSamples, Problem, segment, stageMs } from "./rest.js";

const MOST_MODELS = 2;
const MOST_SAMPLES = 8;
const SMALL_PX = 160; // below this, interpolation would hide the pixels
const byId = (id) => document.getElementById(id);

const page = { image: null, models: new Map(), chosen: [], running: new AbortController() };

function say(text) {
  byId("status").textContent = text;
}

// ---- image -------------------------------------------------------------------------------------

// The bytes are taken in at once: a file may change or vanish before a second model is picked.
async function useImage(blob, name) {
  byId("drop-title").textContent = name;
  say("Working …");
  try {
    page.image = new Blob([await blob.arrayBuffer()]);
  } catch {
    page.image = null;
    page.running.abort();
    byId("answer").hidden = true;
    say("This file cannot be read.");
    return;
  }
  run();
}

function watchDrop() {
  const drop = byId("drop");
  byId("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) {
      pressSample(null);
      useImage(file, file.name);
    }
    event.target.value = "";
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      const file = kind === "drop" ? event.dataTransfer?.files[0] : null;
      if (file) {
        pressSample(null);
        useImage(file, file.name);
      }
    });
  }
}

function pressSample(pressed) {
  for (const button of byId("samples").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button === pressed));
  }
}

async function offerSamples() {
  const names = (await listSamples()).slice(0, MOST_SAMPLES);
  byId("samples").hidden = names.length === 0;
  for (const name of names) {
    const address = `page/samples/${encodeURIComponent(name)}`;
    const button = Object.assign(document.createElement("button"), { type: "button", className: "sample", title: name });
    button.append(Object.assign(document.createElement("img"), { src: address, alt: `Sample ${name}`, loading: "lazy" }));
    button.addEventListener("click", async () => {
      pressSample(button);
      useImage(await (await fetch(address)).blob(), name);
    });
    byId("samples").append(button);
  }
}

// ---- models ------------------------------------------------------------------------------------

async function offerModels() {
  const models = await listModels();
  for (const model of models) {
    page.models.set(model.name, model);
    const usable = model.state === "ready" && model.dims === 2;
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: model.name, disabled: !usable });
    const label = Object.assign(document.createElement("label"), { className: "model", title: model.reason ?? model.description ?? "" });
    const note = document.createElement("small");
    note.textContent = usable ? `v${model.default_version} · ${model.precision}` : "cannot be used";
    label.append(box, model.name, note);
    box.addEventListener("change", () => choose(model.name, box.checked));
    byId("models").append(label);
  }
  const usable = [...byId("models").querySelectorAll("input:enabled")].map((box) => box.value);
  byId("no-models").hidden = usable.length > 0;
  byId("no-models").textContent = models.length ? "No model can be used; hover for the reason." : "There are no models in this service.";
  page.chosen = usable.slice(0, MOST_MODELS);
  showChosen();
}

function choose(name, wanted) {
  page.chosen = page.chosen.filter((chosen) => chosen !== name);
  if (wanted) page.chosen = [...page.chosen, name].slice(-MOST_MODELS);
  showChosen();
  run();
}

function showChosen() {
  for (const box of byId("models").querySelectorAll("input")) box.checked = page.chosen.includes(box.value);
  const address = new URL(`v1/models/${page.chosen[0] ?? "…"}/segment`, document.baseURI);
  byId("curl").textContent = `curl -F file=@image.png '${decodeURI(address)}' -o mask.png`;
}

// ---- answers -----------------------------------------------------------------------------------

async function run() {
  page.running.abort();
  if (!page.image || page.chosen.length === 0) {
    say(page.image ? "Pick a model." : "");
    return;
  }
  page.running = new AbortController();
  const { signal } = page.running;
  const { image, chosen } = page;
  say("Working …");
  const shown = await drawImage(image);
  if (signal.aborted) return;
  const panels = chosen.map((name) => newPanel(name));
  const original = shown ? [originalPanel(shown)] : [];
  byId("panels").replaceChildren(...original, ...panels);
  byId("answer").hidden = false;
  const done = await Promise.all(panels.map((panel, n) => fillPanel(panel, chosen[n], image, shown, signal)));
  if (signal.aborted) return;
  const answered = done.filter(Boolean).length;
  say(answered === done.length ? "Done." : `${done.length - answered} of ${done.length} models gave no answer.`);
}

function newPanel(name) {
  const panel = byId("panel").content.firstElementChild.cloneNode(true);
  panel.querySelector(".name").textContent = name;
  panel.classList.add("busy");
  panel.dataset.model = name;
  return panel;
}

function originalPanel(shown) {
  const panel = newPanel("Image");
  delete panel.dataset.model;
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

async function fillPanel(panel, name, image, shown, signal) {
  const model = page.models.get(name);
  if (shown) putPictures(panel, [copyOf(shown)]);
  try {
    const response = await segment(name, image, { format: "json" }, signal);
    const answer = await response.json();
    const colours = new Map(model.classes.map((entry) => [entry.index, entry.colour]));
    showFacts(panel, response);
    showClasses(panel, answer, colours);
    if (shown) putPictures(panel, [copyOf(shown), ...drawLabels(answer, colours)]);
    else await showDrawnByService(panel, name, image, signal);
    offerDownload(panel, model, image);
    return true;
  } catch (error) {
    if (error.name === "AbortError") return false;
    const problem = panel.querySelector(".problem");
    problem.textContent = error instanceof Problem ? error.message : "This page failed; reload it.";
    problem.hidden = false;
    if (!(error instanceof Problem)) console.error(error);
    return false;
  } finally {
    panel.classList.remove("busy");
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
async function showDrawnByService(panel, name, image, signal) {
  const opacity = byId("opacity").value / 100;
  const response = await segment(name, image, { format: "overlay", opacity }, signal);
  putPictures(panel, [await drawImage(await response.blob())]);
  panel.redraw = () => showDrawnByService(panel, name, image, signal);
}

function offerDownload(panel, model, image) {
  const format = model.task === "multilabel" ? "npz" : "png";
  const button = panel.querySelector(".download");
  button.hidden = false;
  button.addEventListener("click", async () => {
    const response = await segment(model.name, image, { format });
    const address = URL.createObjectURL(await response.blob());
    Object.assign(document.createElement("a"), { href: address, download: `mask-${model.name}.${format}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  });
}

// ---- controls ----------------------------------------------------------------------------------

function watchControls() {
  const opacity = byId("opacity");
  const show = () => {
    byId("panels").style.setProperty("--opacity", opacity.value / 100);
    byId("opacity-shown").textContent = `${opacity.value} %`;
  };
  opacity.addEventListener("input", show);
  opacity.addEventListener("change", () => {
    for (const panel of byId("panels").children) panel.redraw?.();
  });
  byId("contours").addEventListener("change", (event) => {
    byId("panels").classList.toggle("without-contours", !event.target.checked);
  });
  show();
}

watchDrop();
watchControls();
Promise.all([offerModels(), offerSamples()]).catch((error) => say(error.message));
