// Elements made by hand: text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function html(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Shows problems in an element that screen readers announce.
export function show(element, problems, kind = "problem") {
  element.replaceChildren(...problems.map((problem) => html("p", { class: kind }, sentence(problem))));
}

// In the order in which a reader needs it, as kimgnn says it in a terminal.
export function sentence(problem) {
  if (typeof problem === "string") return problem;
  let text = problem.where ? `${problem.where}: ${problem.message}` : String(problem.message);
  const value = problem.value;
  if (value !== null && value !== undefined && value !== "") {
    const told = typeof value === "string" ? value : JSON.stringify(value);
    text += ` (got ${told.length > 200 ? `${told.slice(0, 200)}…` : told})`;
  }
  text += ".";
  if (problem.allowed) text += ` Allowed: ${problem.allowed}.`;
  if (problem.remedy) text += ` ${problem.remedy}`;
  return text;
}
