// The dial of a model with `skip_levels`: a slider per long skip, the answer as they stand, and
// beside it the pair with all skips and without any.

import { difference, spellDifference } from "./difference.js";
import { fillPanel, newPanel } from "./panel.js";

const SETTLE_MS = 150;
const byId = (id) => document.getElementById(id);
const settings = new Map(); // a model's gains by its name; they stay for the next image

function gainsOf(model) {
  if (!settings.has(model.name)) settings.set(model.name, model.skip_levels.map(() => 1));
  return settings.get(model.name);
}

// As the REST option takes them; null where there is no dial, or it is at rest.
export function spellGains(model) {
  const gains = gainsOf(model);
  return gains.some((gain) => gain !== 1) ? gains.join(",") : null;
}

// Elements for the page, and `fill`, which asks for the three answers. `request` is as `fillPanel`
// takes it; `onTurn` is called when a slider was let go.
export function turnable(model, panel, request, onTurn) {
  const dial = byId("dial").content.firstElementChild.cloneNode(true);
  const [whole, bare] = ["with all skips", "without skips"].map((what) => newPanel(`${model.name}, ${what}`));
  panel.querySelector(".name").textContent = `${model.name}, as set`;
  [whole.dataset.pair, bare.dataset.pair] = ["with", "without"];
  const ask = (where, gains, signal) =>
    fillPanel(where, { model, ...request, signal, query: { skip_gain: gains.join(",") } });
  let withAll = null; // a promise of the answer that the others are held against
  let turning = new AbortController();
  let timer = 0;

  // The newest setting wins: an older request is given up, and its answer, if it comes, dropped.
  async function askAsSet() {
    turning.abort();
    turning = new AbortController();
    const signal = AbortSignal.any([request.signal, turning.signal]);
    say(dial, ".setting", "Working …");
    const [answer, all] = await Promise.all([ask(panel, gainsOf(model), signal), withAll]);
    if (!signal.aborted) say(dial, ".setting", `As set, against all skips: ${spell(answer, all)}.`);
    return answer;
  }

  async function fill() {
    const { signal } = request;
    withAll = ask(whole, model.skip_levels.map(() => 1), signal);
    const without = ask(bare, model.skip_levels.map(() => 0), signal);
    const answers = await Promise.all([withAll, without, askAsSet()]);
    if (!signal.aborted) say(dial, ".pair", `With and without skips: ${spell(answers[1], answers[0])}.`);
    return answers.slice(0, 2).every(Boolean);
  }

  addSliders(dial, model, () => {
    onTurn();
    clearTimeout(timer);
    timer = setTimeout(() => !request.signal.aborted && askAsSet(), SETTLE_MS);
  });
  return { elements: [dial, panel, whole, bare], fill };
}

function spell(answer, other) {
  return answer && other ? spellDifference(difference(answer, other)) : "no answers to compare";
}

function say(dial, place, text) {
  dial.querySelector(place).textContent = text;
}

function addSliders(dial, model, turned) {
  const gains = gainsOf(model);
  dial.dataset.dial = model.name;
  dial.querySelector(".of").textContent = model.name;
  const sliders = model.skip_levels.map(({ stride, kind }, level) => {
    const row = byId("level").content.firstElementChild.cloneNode(true);
    const [label, slider, shown] = ["label", "input", "output"].map((tag) => row.querySelector(tag));
    slider.id = `gain-${model.name}-${level}`;
    label.htmlFor = shown.htmlFor = slider.id;
    label.textContent = `1:${stride}${level === 0 ? " (finest)" : ""}`;
    const show = () => {
      shown.textContent = kind === "none" ? "no skip" : `${Math.round(100 * slider.value)} %`;
      slider.setAttribute("aria-valuetext", shown.textContent);
    };
    slider.disabled = kind === "none";
    slider.addEventListener("input", show);
    slider.addEventListener("change", () => {
      gains[level] = Number(slider.value);
      turned();
    });
    const set = (gain) => {
      if (kind === "none") return;
      gains[level] = gain;
      slider.value = gain;
      show();
    };
    slider.value = gains[level];
    show();
    dial.querySelector(".levels").append(row);
    return { set };
  });
  for (const [place, gain] of [[".all-on", 1], [".all-off", 0]]) {
    dial.querySelector(place).addEventListener("click", () => {
      for (const slider of sliders) slider.set(gain);
      turned();
    });
  }
}
