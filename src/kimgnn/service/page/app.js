// The page: structures in, a drawing, predictions of the chosen models, a table of the session.

import { Refused, ask, hasKey, setKey } from "./api.js";
import { byId, html, show, svg } from "./dom.js";
import { Drawing, cellOf, tooLarge } from "./drawing.js";
import { exampleFor, formatOf } from "./formats.js";
import { shown, some, whole } from "./numbers.js";
import { cards } from "./results.js";
import { Session, download } from "./session.js";

const TOGETHER = 32; // structures of a request, as `kimgnn predict` takes them
const PATIENCE = 350; // milliseconds without a key before text is read
const LONGEST_SHOWN = 300000; // characters of a file that the text field takes

const drawing = new Drawing(byId("canvas"));
const session = new Session();
let models = [];
let limits = {};
let files = []; // {name, text} of dropped or chosen files; empty where the text field counts
let structures = []; // as POST /structures returns them
let elements = {};
let outcomes = new Map(); // index of a structure -> [model, outcome] pairs
let pasted = 1; // the number of the text in the field
let parsing = { done: Promise.resolve(), stop: new AbortController() };
let predicting = null;

// Models

async function loadModels() {
  try {
    const answer = await ask("/models");
    models = answer.models;
    limits = answer.limits ?? {};
  } catch (error) {
    if (refusedForKey(error)) return;
    show(byId("predict-problem"), problemsOf(error));
    byId("server").textContent = "The models are not known; load this page again.";
    return;
  }
  byId("key-form").hidden = true;
  byId("server").textContent = some(models.length, "model") + " ready";
  byId("models").replaceChildren(...models.map(choice));
  tellModels();
}

function choice(model, index) {
  const box = html("input", { type: "checkbox", id: `model-${index}`, value: model.name, checked: index < 3, "aria-describedby": `about-${index}` });
  box.addEventListener("change", tellModels);
  const about = html("div", { class: "quiet", id: `about-${index}` }, aboutOf(model));
  return html("div", { class: "model" }, box, html("div", {}, html("label", { for: `model-${index}` }, model.name), about, html("div", { id: `unknown-${index}` })));
}

function aboutOf(model) {
  const predicted = model.tasks.map((task) => (task.unit ? `${task.name} (${task.unit})` : task.name));
  if (model.is_potential) predicted.unshift("energy, forces, stress");
  const { structures: count } = model.training_data ?? {};
  const species = model.species.length <= 8 ? model.species.join(", ") : some(model.species.length, "element");
  return [predicted.join(", "), species, count && some(count, "training structure"), model.format].filter(Boolean).join(" · ");
}

const chosen = () => models.filter((_, index) => byId(`model-${index}`).checked);

// Says what chosen models do not know of the structures, and asks for what they need besides.
function tellModels() {
  const present = [...new Set(structures.flatMap(({ symbols }) => symbols))];
  models.forEach((model, index) => {
    const foreign = present.filter((symbol) => !model.species.includes(symbol));
    const told = foreign.length && byId(`model-${index}`).checked;
    show(byId(`unknown-${index}`), told ? [`Never saw ${foreign.join(", ")}: it will refuse the structure.`] : [], "warning");
  });
  askForStates();
  byId("predict").disabled = chosen().length === 0 || predicting !== null;
}

function askForStates() {
  const needed = new Map(chosen().flatMap(({ states }) => (states ?? []).map((state) => [state.name, state])));
  const place = byId("states");
  for (const field of [...place.children]) if (!needed.has(field.dataset.name)) field.remove();
  for (const [name, state] of needed) {
    if ([...place.children].some((field) => field.dataset.name === name)) continue;
    const id = `state-${name}`;
    const known = Number.isFinite(state.mean) ? `trained at ${shown(state.mean)} ± ${shown(state.spread)}` : "";
    const input = state.classes?.length
      ? html("select", { id }, ...state.classes.map((kind) => html("option", { value: kind }, kind)))
      : html("input", { id, inputmode: "decimal", size: 8, value: Number.isFinite(state.mean) ? String(state.mean) : "", "aria-describedby": `${id}-known` });
    const field = html("div", { class: "row" }, html("label", { for: id }, name), input, html("span", { class: "quiet", id: `${id}-known` }, known));
    field.dataset.name = name;
    place.append(field);
  }
}

function statesFor(model) {
  const values = {};
  for (const { name, classes } of model.states ?? []) {
    const text = byId(`state-${name}`).value.trim();
    values[name] = classes?.length || text === "" || !Number.isFinite(Number(text)) ? text : Number(text);
  }
  return values;
}

// Structures

function readSoon(wait) {
  parsing.stop.abort();
  const stop = new AbortController();
  const done = new Promise((resolve) => setTimeout(resolve, wait)).then(() => (stop.signal.aborted ? null : read(stop.signal)));
  parsing = { done, stop };
}

async function read(signal) {
  const text = byId("text").value;
  const given = files.length ? files : text.trim() ? [{ name: "", text }] : [];
  const found = [];
  const looks = {};
  const problems = [];
  for (const { name, text: data } of given) {
    const id = name || `pasted-${pasted}`;
    const format = byId("format").value || formatOf(name, data);
    try {
      const answer = await ask("/structures", { structures: [{ format, data, id }] }, { signal });
      found.push(...answer.structures);
      Object.assign(looks, answer.elements);
    } catch (error) {
      if (error.name === "AbortError" || signal.aborted) return;
      if (refusedForKey(error)) return;
      const guessed = !byId("format").value && error.status === 422;
      problems.push(...problemsOf(error));
      if (guessed) problems.push(`It was read as ${nameOf(format)}. If it is not, choose its format.`);
    }
  }
  if (signal.aborted) return;
  [structures, elements, outcomes] = [found, looks, new Map()];
  show(byId("input-problem"), problems);
  byId("text").setAttribute("aria-invalid", String(problems.length > 0));
  show(byId("predict-problem"), []);
  byId("status").textContent = "";
  const names = structures.map(({ id, formula }, index) => html("option", { value: index }, `${id} (${formula})`));
  byId("which").replaceChildren(...names);
  byId("which").hidden = structures.length < 2;
  document.querySelector("label[for=which]").hidden = structures.length < 2;
  showStructure();
  tellModels();
}

const nameOf = (format) => [...byId("format").options].find(({ value }) => value === format).text;

function showStructure() {
  const index = Number(byId("which").value) || 0;
  const found = structures[index] ?? null;
  drawing.show(found, elements);
  byId("legend").replaceChildren(...(found ? legendOf(found) : []));
  byId("cell").textContent = found ? tellCell(found) : "";
  show(byId("input-warning"), found?.warnings ?? [], "warning");
  const said = outcomes.get(index);
  byId("results").hidden = !said;
  if (said) {
    byId("results-title").textContent = `Prediction for ${found.id} (${found.formula})`;
    byId("cards").replaceChildren(...cards(found, said));
  }
}

function legendOf({ symbols }) {
  const counts = new Map();
  for (const symbol of symbols) counts.set(symbol, (counts.get(symbol) ?? 0) + 1);
  return [...counts].map(([symbol, count]) => {
    const { color, name } = elements[symbol];
    const dot = svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("circle", { cx: 5, cy: 5, r: 4.5, fill: color, stroke: "#777777" }));
    return html("li", {}, dot, `${symbol} ${whole(count)}`, html("span", { class: "quiet" }, ` ${name}`));
  });
}

function tellCell(found) {
  const cell = cellOf(found);
  const drawn = tooLarge(found) ? " Too many atoms to draw: the first 5,000 are shown." : "";
  if (cell === null) return `${some(found.atoms, "atom")}; periodic in ${found.structure.pbc.filter(Boolean).length} directions.${drawn}`;
  const lengths = cell.lengths.map((value) => value.toFixed(3)).join(", ");
  const angles = cell.angles.map((value) => `${value.toFixed(1)}°`).join(", ");
  return `${some(found.atoms, "atom")}; ${lengths} Å; ${angles}; ${cell.volume.toFixed(1)} Å³.${drawn}`;
}

async function takeFiles(list) {
  files = await Promise.all([...list].map(async (file) => ({ name: file.name, text: await file.text() })));
  if (files.length === 0) return;
  const shownHere = files.length === 1 && files[0].text.length <= LONGEST_SHOWN;
  byId("text").value = shownHere ? files[0].text : "";
  byId("text").placeholder = shownHere ? "" : `${files.map(({ name }) => name).join("\n")}\n\nText typed here takes their place.`;
  readSoon(0);
}

function takeText() {
  if (session.rows.some(({ id }) => id === `pasted-${pasted}`)) pasted += 1;
  files = [];
  byId("text").placeholder = "";
  readSoon(PATIENCE);
}

// Predictions

async function predict() {
  if (predicting !== null) return;
  for (let waited = null; waited !== parsing; ) {
    waited = parsing; // the text may change meanwhile
    await waited.done;
  }
  show(byId("predict-problem"), []);
  if (structures.length === 0) {
    const bad = byId("input-problem").childElementCount > 0;
    show(byId("predict-problem"), [bad ? "The structure cannot be used; see the message below the text field." : "There is no structure. Paste one, drop a file, or take the example."]);
    byId("text").focus();
    return;
  }
  predicting = new AbortController();
  byId("stop").hidden = false;
  byId("predict").disabled = true;
  const started = performance.now();
  const asked = [structures, chosen()];
  const said = new Map(structures.map((_, index) => [index, []]));
  let done = 0;
  const tell = (more) => {
    done += more;
    byId("status").textContent = `${whole(done)} of ${whole(asked[0].length * asked[1].length)}…`;
  };
  tell(0);
  try {
    await Promise.all(asked[1].map((model, place) => byModel(model, place, said, tell, predicting.signal)));
    const seconds = ((performance.now() - started) / 1000).toFixed(2);
    byId("status").textContent = `${some(asked[0].length, "structure")}, ${some(asked[1].length, "model")}: ${seconds} s.`;
  } catch (error) {
    predicting.abort();
    if (error.name === "AbortError") byId("status").textContent = `Stopped after ${whole(done)}.`;
    else {
      byId("status").textContent = "";
      if (!refusedForKey(error)) show(byId("predict-problem"), problemsOf(error));
    }
  }
  predicting = null;
  byId("stop").hidden = true;
  // In the order of the reader's lists, whatever came first.
  for (const pairs of said.values()) {
    for (const [model, { result }] of pairs.filter(Boolean)) if (result) session.add(model.name, result);
  }
  if (structures === asked[0]) {
    outcomes = new Map([...said].map(([index, pairs]) => [index, pairs.filter(Boolean)]).filter(([, pairs]) => pairs.length));
    showStructure();
    const title = byId("results-title");
    if (title.getBoundingClientRect().top > 0.7 * window.innerHeight) title.scrollIntoView({ block: "start" });
  }
  showSession();
  tellModels();
}

// Predicts all structures by one model; where a batch is refused, one by one, so that a bad one stops no other.
async function byModel(model, place, said, tell, signal) {
  const most = Math.min(TOGETHER, limits.max_structures || TOGETHER);
  for (let start = 0; start < said.size; start += most) {
    const indices = [...said.keys()].slice(start, start + most);
    for (const [index, outcome] of await outcomesOf(model, indices, signal)) {
      said.get(index)[place] = [model, outcome];
    }
    tell(indices.length);
  }
}

async function outcomesOf(model, indices, signal) {
  const states = statesFor(model);
  const body = {
    model: model.name,
    structures: indices.map((index) => ({ format: "ase", data: structures[index].structure, id: structures[index].id, states })),
  };
  const waiting = (seconds) => (byId("status").textContent = `The server is busy; trying again in ${seconds} s…`);
  try {
    const answer = await ask("/predict", body, { signal, waiting });
    return indices.map((index, place) => [index, { result: answer.results[place] }]);
  } catch (error) {
    if (!(error instanceof Refused) || ![404, 413, 422].includes(error.status)) throw error;
    if (indices.length === 1) return [[indices[0], { problems: error.problems }]];
    const alone = [];
    for (const index of indices) alone.push(...(await outcomesOf(model, [index], signal)));
    return alone;
  }
}

// The session

function showSession() {
  byId("session").hidden = session.rows.length === 0;
  byId("session-count").textContent = session.count();
  byId("table").replaceChildren(session.table());
}

// Errors

function problemsOf(error) {
  if (error instanceof Refused) return error.problems;
  throw error; // a mistake of this page
}

// Whether the server wants a key: the field for it is then shown.
function refusedForKey(error) {
  if (!(error instanceof Refused) || error.status !== 401) return false;
  byId("key-form").hidden = false;
  byId("server").textContent = "The server asks for a key.";
  show(byId("key-problem"), hasKey() ? ["The server does not take this key. Correct it, or ask whoever runs the server."] : []);
  byId("key").focus();
  return true;
}

// What the reader does

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(byId("key").value.trim());
  loadModels().then(() => readSoon(0));
});
byId("text").addEventListener("input", takeText);
byId("format").addEventListener("change", () => readSoon(0));
byId("choose").addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", async ({ target }) => {
  await takeFiles(target.files);
  target.value = ""; // the same file may be chosen again
});
byId("example").addEventListener("click", () => {
  byId("text").value = exampleFor(models);
  takeText();
});
byId("clear-input").addEventListener("click", () => {
  byId("text").value = "";
  takeText();
  byId("text").focus();
});
byId("which").addEventListener("change", showStructure);
byId("predict").addEventListener("click", predict);
byId("stop").addEventListener("click", () => predicting?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !byId("predict").disabled) predict();
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    byId("text").classList.add("drop");
  });
}
for (const kind of ["dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (kind === "drop" || event.relatedTarget === null) byId("text").classList.remove("drop");
  });
}
document.addEventListener("drop", (event) => {
  if (event.dataTransfer.files.length === 0) return; // dropped text goes where it falls
  event.preventDefault();
  takeFiles(event.dataTransfer.files);
});
byId("csv").addEventListener("click", () => download("predictions.csv", session.csv(), "text/csv"));
byId("json").addEventListener("click", () => download("predictions.json", session.json(), "application/json"));
byId("clear").addEventListener("click", () => {
  session.clear();
  showSession();
  byId("text").focus();
});

loadModels();
