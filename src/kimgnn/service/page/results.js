// What models say of one structure, side by side: a card for each.

import { html, show, svg } from "./dom.js";
import { numberOf, percent, shown, some, whole, withDeviation } from "./numbers.js";
import { axisOf, rangeOf, shareBelow, strip } from "./strip.js";

const ENERGY = "energy per atom";
const MOST_ROWS = 500; // of a table of atoms
const VOIGT = ["xx", "yy", "zz", "yz", "xz", "xy"];

// `outcomes`: pairs of a model and either {result} or {problems}. `found`: the structure as it was parsed.
export function cards(found, outcomes) {
  const numbers = outcomes.map(([model, { result }]) => (result ? numbersOf(model, result) : new Map()));
  const axes = new Map();
  for (const name of new Set(numbers.flatMap((one) => [...one.keys()]))) {
    axes.set(name, axisOf(numbers.filter((one) => one.has(name)).map((one) => one.get(name))));
  }
  return outcomes.map(([model, outcome], index) => card(found, model, outcome, numbers[index], axes));
}

function card(found, model, { result, problems }, numbers, axes) {
  const box = html("article", { class: "card", "aria-label": model.name }, html("h3", {}, model.name));
  if (problems) {
    const place = html("div", { role: "alert" });
    show(place, problems);
    box.append(place);
    return box;
  }
  if (result.warnings?.length) {
    const place = html("div", {});
    show(place, result.warnings, "warning");
    box.append(place);
  }
  const { prediction } = result;
  for (const [name, number] of numbers) box.append(oneNumber(name, number, axes.get(name), model));
  if (prediction.forces) box.append(forces(found, prediction));
  if (prediction.stress?.some(Number.isFinite)) box.append(listed("stress", "eV/Å³", prediction.stress, [], null, VOIGT));
  for (const task of model.tasks) {
    const value = prediction.properties?.[task.name];
    if (value === undefined) continue;
    const deviation = prediction.deviations?.[task.name];
    if (task.kind === "classification") box.append(classes(task, value, deviation, prediction.sets?.[task.name], model));
    else if (task.per_atom) box.append(ofAtoms(task, value));
    else if (task.components > 1) box.append(listed(task.name, task.unit, value, deviation ?? [], prediction.intervals?.[task.name]));
  }
  if (Number.isFinite(prediction.attention)) {
    box.append(html("p", { class: "quiet" }, `Weight of the structure beside its composition: ${percent(prediction.attention)}.`));
  }
  box.append(...seen(found, model), ...everyAtom(found, model, prediction));
  return box;
}

// Name -> what a strip shows, of everything that is one number.
function numbersOf(model, { prediction, atoms }) {
  const numbers = new Map();
  const labels = model.training_data?.labels ?? {};
  if (Number.isFinite(prediction.energy)) {
    const per = (number) => (Number.isFinite(number) ? number / atoms : undefined);
    const interval = prediction.intervals?.energy;
    numbers.set(ENERGY, {
      value: per(prediction.energy),
      deviation: per(prediction.energy_deviation),
      interval: endsOf(interval)?.map((end) => end / atoms),
      known: labels.energy_per_atom,
      unit: "eV/atom",
      further: `Total energy: ${withDeviation(prediction.energy, prediction.energy_deviation)} eV`,
    });
  }
  for (const task of model.tasks) {
    const value = prediction.properties?.[task.name];
    if (value === undefined || task.kind === "classification" || task.per_atom || task.components > 1) continue;
    const interval = prediction.intervals?.[task.name];
    numbers.set(task.name, {
      value: value[0],
      deviation: prediction.deviations?.[task.name]?.[0],
      interval: endsOf(interval),
      known: labels[task.name] ?? labels[task.target],
      unit: task.unit,
      logarithmic: task.transform === "log10",
      ofCell: task.extensive && !task.per_atom,
    });
  }
  return numbers;
}

const endsOf = (interval) => interval?.flat().map(numberOf);

function heading(name, text, unit) {
  return [html("h4", {}, name), html("p", { class: "value" }, text, " ", html("small", {}, unit))];
}

function oneNumber(name, number, axis, model) {
  const { value, deviation, interval, known, unit, further, ofCell } = number;
  const box = html("section", {}, ...heading(name, withDeviation(value, deviation), unit));
  if (!Number.isFinite(value)) {
    box.append(html("p", { class: "quiet" }, "The model gives no number for this structure."));
    return box;
  }
  const notes = further ? [further] : [];
  if (!(deviation > 0) && !interval) notes.push("No error bar: this model does not say how sure it is");
  if (interval) notes.push(`${levelOf(model)}${shown(interval[0], deviation)} to ${shown(interval[1], deviation)} ${unit}`.trim());
  const share = shareBelow(known, value);
  const range = rangeOf(known);
  const outside = range.length > 0 && (value < range[0] || value > range[1]);
  const labels = known?.count ? some(known.count, "training label") : "Training labels";
  if (range.length) notes.push(`${labels}: ${shown(range[0])} to ${shown(range[1])} ${unit}`.trim());
  if (share !== null && !outside) notes.push(`${between(share)} of them are lower`);
  if (axis !== null) {
    const told = [`${name} ${withDeviation(value, deviation)} ${unit}`, ...notes].join("; ");
    box.append(strip(number, axis, unit, told));
  }
  if (ofCell && range.length) notes.push("Both are of whole cells, which may differ in size");
  if (outside && !ofCell) {
    box.append(html("p", { class: "warning" }, "Outside all labels of the training data: an extrapolation."));
  }
  box.append(html("p", { class: "quiet" }, notes.length ? `${notes.join(". ")}.` : "Nothing is known of the training labels."));
  return box;
}

const between = (ends) => `${[...new Set(ends.map((share) => Math.round(100 * share)))].join(" to ")} %`;

const levelOf = (model) => (Number.isFinite(model.level) ? `${Math.round(100 * model.level)} % interval: ` : "Interval: ");

function forces(found, { forces: vectors, forces_deviation: deviations }) {
  const sizes = vectors.map((vector) => Math.hypot(...vector));
  const largest = sizes.reduce((best, size, atom) => (size > sizes[best] ? atom : best), 0);
  const uncertain = (deviations ?? []).map((vector) => Math.hypot(...vector));
  const text = withDeviation(sizes[largest], uncertain[largest]);
  const box = html("section", {}, ...heading("largest force", text, "eV/Å"));
  const notes = [`On atom ${largest} (${found.symbols[largest]}, counted from 0)`];
  if (uncertain.length) {
    const worst = uncertain.reduce((best, size, atom) => (size > uncertain[best] ? atom : best), 0);
    notes.push(`the models of the committee differ most on atom ${worst}: ${shown(uncertain[worst])} eV/Å`);
  }
  box.append(html("p", { class: "quiet" }, `${notes.join("; ")}.`));
  return box;
}

function listed(name, unit, values, deviations, intervals, names) {
  const rows = values.map((value, index) => [names?.[index] ?? String(index), withDeviation(value, deviations[index])]);
  const header = ["component", unit || "value"];
  if (intervals) {
    header.push("interval");
    rows.forEach((row, index) => row.push(intervals.map((ends) => shown(numberOf(ends[index]), deviations[index])).join(" to ")));
  }
  return html("section", {}, html("h4", {}, name), table(header, rows));
}

function ofAtoms(task, values) {
  const flat = values.flat().filter(Number.isFinite);
  const least = flat.reduce((low, value) => Math.min(low, value), Infinity);
  const most = flat.reduce((high, value) => Math.max(high, value), -Infinity);
  const text = flat.length ? `${shown(least)} to ${shown(most)}` : "–";
  return html("section", {}, ...heading(`${task.name}, of the atoms`, text, task.unit));
}

function classes(task, shares, deviations, set, model) {
  const best = shares.reduce((first, share, index) => (share > shares[first] ? index : first), 0);
  const known = model.training_data?.labels?.[task.name]?.classes ?? {};
  const box = html("section", {}, html("h4", {}, task.name));
  if (!shares.every(Number.isFinite)) {
    box.append(html("p", { class: "quiet" }, "The model gives no probabilities for this structure."));
    return box;
  }
  box.append(html("p", { class: "value" }, task.classes[best]));
  const grid = html("div", { class: "share" });
  task.classes.forEach((name, index) => {
    const bar = svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
    bar.append(svg("rect", { class: "track", width: 100, height: 10 }), svg("rect", { class: "mark", width: 100 * shares[index], height: 10 }));
    const deviation = deviations?.[index];
    grid.append(html("span", {}, name), bar, html("span", {}, percent(shares[index], deviation)));
  });
  box.append(grid);
  if (set) {
    const told = task.classes.filter((_, index) => set[index]).join(" or ");
    const level = Number.isFinite(model.level) ? `With ${Math.round(100 * model.level)} % probability: ` : "Possible: ";
    box.append(html("p", { class: "quiet" }, `${level}${told}.`));
  }
  if (Object.keys(known).length) {
    const counts = task.classes.map((name) => `${whole(known[name] ?? 0)} ${name}`).join(", ");
    box.append(html("p", { class: "quiet" }, `Training labels: ${counts}.`));
  }
  return box;
}

// How often the training data had the elements of this structure.
function seen(found, model) {
  const { elements, structures } = model.training_data ?? {};
  if (!elements) return [];
  const counts = [...new Set(found.symbols)].map((symbol) => `${symbol} in ${whole(elements[symbol] ?? 0)}`);
  const all = structures ? ` of ${some(structures, "training structure")}` : " training structures";
  return [html("p", { class: "quiet" }, `${counts.join(", ")}${all}.`)];
}

// Values of atoms, where the model has any, folded away.
function everyAtom(found, model, prediction) {
  const columns = [];
  const { forces: vectors, forces_deviation: spread, atomic_energies: energies } = prediction;
  const add = (name, values) => columns.push([name, values]);
  if (energies) add("energy (eV)", energies);
  for (const axis of vectors ? [0, 1, 2] : []) {
    const of = (list) => list.map((vector) => vector[axis]);
    add(`F${"xyz"[axis]} (eV/Å)`, spread ? of(vectors).map((value, atom) => [value, spread[atom][axis]]) : of(vectors));
  }
  for (const task of model.tasks.filter(({ per_atom }) => per_atom)) {
    const [values, deviations] = [prediction.properties?.[task.name], prediction.deviations?.[task.name]];
    const unit = task.unit ? ` (${task.unit})` : "";
    for (let part = 0; values && part < task.components; part += 1) {
      const name = task.components > 1 ? `${task.name}[${part}]${unit}` : `${task.name}${unit}`;
      add(name, values.map((row, atom) => [row[part], deviations?.[atom][part]]));
    }
  }
  if (columns.length === 0) return [];
  const count = Math.min(found.atoms, MOST_ROWS);
  const rows = Array.from({ length: count }, (_, atom) => [
    String(atom),
    found.symbols[atom],
    ...columns.map(([, values]) => withDeviation(...[values[atom]].flat())),
  ]);
  const left = found.atoms > count ? `The first ${whole(count)} of ${whole(found.atoms)}; the JSON download has all.` : null;
  const scroll = html("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Atoms, ${model.name}` });
  scroll.append(table(["atom", "element", ...columns.map(([name]) => name)], rows));
  return [html("details", {}, html("summary", {}, `Each atom (${whole(found.atoms)})`), left && html("p", { class: "quiet" }, left), scroll)];
}

function table(header, rows) {
  const kinds = header.map((_, column) => (rows.every((row) => /^[−–\d]/.test(row[column])) ? "number" : null));
  const head = header.map((name, column) => html("th", { scope: "col", class: kinds[column] }, name));
  const body = rows.map((row) => html("tr", {}, ...row.map((text, column) => html("td", { class: kinds[column] }, text))));
  return html("table", { class: "narrow" }, html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...body));
}
