// All predictions since the page was opened: a table, and files with every digit.

import { html } from "./dom.js";
import { shown, some, whole } from "./numbers.js";

const MOST_ROWS = 300; // on the page; files have all

export class Session {
  rows = [];

  // The columns of `kimgnn predict`, and which model it was.
  add(model, { id, formula, atoms, columns, warnings }) {
    this.rows.push({ id, formula, atoms, model, ...columns, warnings: warnings ?? [] });
  }

  clear() {
    this.rows = [];
  }

  count() {
    const left = this.rows.length > MOST_ROWS ? `; the last ${whole(MOST_ROWS)} are shown` : "";
    return `${some(this.rows.length, "prediction")}${left}. A file has every digit; JSON also has what belongs to each atom.`;
  }

  // Names of the columns that a cell can hold, warnings last.
  columns() {
    const names = new Set();
    for (const row of this.rows) {
      for (const [name, value] of Object.entries(row)) if (!Array.isArray(value)) names.add(name);
    }
    return [...names, "warnings"];
  }

  csv() {
    const columns = this.columns();
    const lines = this.rows.map((row) => columns.map((name) => quoted(plain(row[name]))).join(","));
    return [columns.map(quoted).join(","), ...lines, ""].join("\n");
  }

  json() {
    return `${JSON.stringify(this.rows, null, 1)}\n`;
  }

  table() {
    const columns = this.columns();
    const head = html("tr", {}, ...columns.map((name) => html("th", { scope: "col" }, name)));
    const rows = this.rows.slice(-MOST_ROWS).reverse();
    const cell = (value) =>
      typeof value === "number"
        ? html("td", { class: "number" }, Number.isInteger(value) ? String(value) : shown(value))
        : html("td", {}, plain(value));
    const body = rows.map((row) => html("tr", {}, ...columns.map((name) => cell(row[name]))));
    return html("table", {}, html("thead", {}, head), html("tbody", {}, ...body));
  }
}

function plain(value) {
  if (Array.isArray(value)) return value.join(" ");
  return value === null || value === undefined ? "" : String(value);
}

const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

export function download(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = html("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
