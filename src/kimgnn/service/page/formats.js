// Which format a text has, by its file's name, else by how it begins; and structures to try.

const BY_SUFFIX = { cif: "cif", vasp: "poscar", poscar: "poscar", contcar: "poscar", xyz: "extxyz", extxyz: "extxyz" };

export function formatOf(name, text) {
  const base = name.split(/[\\/]/).pop().toLowerCase();
  const suffix = base.includes(".") ? base.split(".").pop() : "";
  if (suffix in BY_SUFFIX) return BY_SUFFIX[suffix];
  if (/^(poscar|contcar)/.test(base)) return "poscar";
  const start = text.trimStart();
  // A list in JSON starts with a bracket; no other format does.
  if (start.startsWith("{") || start.startsWith("[")) return /"sites"\s*:/.test(start) ? "pymatgen" : "ase";
  if (/_cell_length_a|_atom_site_/.test(text) || start.startsWith("data_")) return "cif";
  if (/^\d+[ \t]*\r?\n/.test(start) && !poscarCounts(start)) return "extxyz";
  return "poscar";
}

// A POSCAR whose title is a number: its second line is a scale, and three vectors follow.
function poscarCounts(text) {
  const numbers = (line) => (line ?? "").trim().split(/\s+/).filter((word) => word !== "").map(Number);
  const lines = text.split(/\r?\n/);
  const vectors = lines.slice(2, 5).map(numbers);
  return numbers(lines[1]).length === 1 && vectors.every((row) => row.length === 3 && row.every(Number.isFinite));
}

const poscar = (title, cell, symbols, counts, positions) =>
  [title, "1.0", ...cell, symbols, counts, "direct", ...positions, ""].join("\n");
const cubic = (a) => [`${a} 0 0`, `0 ${a} 0`, `0 0 ${a}`];
const fcc = (a) => [`0 ${a / 2} ${a / 2}`, `${a / 2} 0 ${a / 2}`, `${a / 2} ${a / 2} 0`];

const EXAMPLES = [
  {
    elements: ["Sr", "Ti", "O"],
    text: poscar("SrTiO3, perovskite", cubic(3.905), "Sr Ti O", "1 1 3", [
      "0 0 0", "0.5 0.5 0.5", "0.5 0.5 0", "0.5 0 0.5", "0 0.5 0.5",
    ]),
  },
  { elements: ["Si"], text: poscar("Si, diamond", fcc(5.431), "Si", "2", ["0 0 0", "0.25 0.25 0.25"]) },
  { elements: ["Na", "Cl"], text: poscar("NaCl, rock salt", fcc(5.64), "Na Cl", "1 1", ["0 0 0", "0.5 0.5 0.5"]) },
  { elements: ["Al"], text: poscar("Al, fcc", fcc(4.05), "Al", "1", ["0 0 0"]) },
  { elements: ["Cu"], text: poscar("Cu, fcc", fcc(3.615), "Cu", "1", ["0 0 0"]) },
];

// The first whose elements most models know.
export function exampleFor(models) {
  const known = ({ elements }) => models.filter((model) => elements.every((e) => model.species.includes(e))).length;
  return EXAMPLES.reduce((best, one) => (known(one) > known(best) ? one : best)).text;
}
