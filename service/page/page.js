// The page: an image, one or two models, their answers side by side.

import { spellGains, turnable } from "./dial.js";
import { drawImage } from "./drawing.js";
import { hasKey, watchKey } from "./key.js";
import { fillPanel, newPanel, originalPanel } from "./panel.js";
import { listModels, listSamples } from "./rest.js";

const MOST_MODELS = 2;
const MOST_SAMPLES = 8;
const byId = (id) => document.getElementById(id);

const page = { image: null, models: new Map(), chosen: [], running: new AbortController() };

function say(text) {
  byId("status").textContent = text;
}

// Why there are no models; that a key is needed stands with its field.
function sayWhy(error) {
  say(byId("key-form").hidden ? error.message : "");
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
  byId("models").querySelectorAll(".model").forEach((label) => label.remove());
  page.models.clear();
  page.chosen = [];
  const models = await listModels();
  for (const model of models) {
    page.models.set(model.name, model);
    const usable = ["ready", "idle"].includes(model.state) && model.dims === 2;
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: model.name, disabled: !usable });
    const label = Object.assign(document.createElement("label"), { className: "model", title: model.reason ?? model.description ?? "" });
    const note = document.createElement("small");
    note.textContent = usable ? `v${model.default_version} · ${model.precision ?? "on demand"}` : "cannot be used";
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
  showCurl();
}

function showCurl() {
  const model = page.models.get(page.chosen[0]);
  const gains = model ? spellGains(model) : null;
  const query = gains ? `?skip_gain=${gains}` : "";
  const address = new URL(`v1/models/${model?.name ?? "…"}/segment${query}`, document.baseURI);
  const key = hasKey() ? "-H 'Authorization: Bearer KEY' " : "";
  byId("curl").textContent = `curl ${key}-F file=@image.png '${decodeURI(address)}' -o mask.png`;
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
  const answers = chosen.map((name) => answerOf(page.models.get(name), { image, shown, signal }));
  const original = shown ? [originalPanel(shown)] : [];
  // A dial takes a row of its own, so it stands below the panels that share one.
  const rows = answers.toSorted((one, other) => one.elements.length - other.elements.length);
  byId("panels").replaceChildren(...original, ...rows.flatMap((answer) => answer.elements));
  byId("answer").hidden = false;
  const done = await Promise.all(answers.map((answer) => answer.fill()));
  if (signal.aborted) return;
  const answered = done.filter(Boolean).length;
  say(answered === done.length ? "Done." : `${done.length - answered} of ${done.length} models gave no answer.`);
}

// What stands in the page for one model, and how it is filled; true where it answered.
function answerOf(model, request) {
  const panel = newPanel(model.name);
  panel.dataset.model = model.name;
  if (model.skip_levels.length > 0) return turnable(model, panel, request, showCurl);
  return { elements: [panel], fill: async () => (await fillPanel(panel, { model, ...request })) !== null };
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
watchKey(() => {
  say("");
  offerModels().then(run, sayWhy);
});
Promise.all([offerModels(), offerSamples()]).catch(sayWhy);
