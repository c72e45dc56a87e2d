// A structure drawn in three dimensions on a canvas, nearer things over farther ones.

const MOST_ATOMS = 5000; // drawn
const MOST_BONDED = 2500; // atoms among which bonds are looked for
const BOND = 1.15; // in sums of covalent radii
const NEAREST = 1.2; // a bond is no longer than so many times the shortest one of either atom
const ON_A_FACE = 1e-3; // fraction of the cell
const PIECES = 8; // of a cell's edge, so that atoms can hide a part of it
const STEP = Math.PI / 24; // radians an arrow key turns
const START = turned(turned(identity(), 0, 0.3), 1, -0.45);

export class Drawing {
  constructor(canvas) {
    this.canvas = canvas;
    this.scene = null;
    this.rotation = START;
    this.zoom = 1;
    this.listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // `found` is a structure as POST /structures returns it; null for none.
  show(found, elements) {
    this.scene = found === null ? null : sceneOf(found, elements);
    this.rotation = START;
    this.zoom = 1;
    this.canvas.setAttribute("aria-label", found === null ? "No structure yet" : described(found));
    this.draw();
  }

  listen() {
    const { canvas } = this;
    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      last = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (last === null) return;
      const [dx, dy] = [event.clientX - last[0], event.clientY - last[1]];
      last = [event.clientX, event.clientY];
      this.turn(dx / 120, dy / 120);
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (document.activeElement !== canvas) return; // the page scrolls on
        event.preventDefault();
        this.magnify(Math.exp(-event.deltaY / 600));
      },
      { passive: false },
    );
    const keys = {
      ArrowLeft: () => this.turn(-STEP, 0),
      ArrowRight: () => this.turn(STEP, 0),
      ArrowUp: () => this.turn(0, -STEP),
      ArrowDown: () => this.turn(0, STEP),
      "+": () => this.magnify(1.15),
      "=": () => this.magnify(1.15),
      "-": () => this.magnify(1 / 1.15),
      0: () => {
        this.rotation = START;
        this.magnify(1 / this.zoom);
      },
    };
    canvas.addEventListener("keydown", (event) => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    });
  }

  turn(aboutUp, aboutRight) {
    this.rotation = turned(turned(this.rotation, 1, aboutUp), 0, aboutRight);
    this.draw();
  }

  magnify(factor) {
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.2), 20);
    this.draw();
  }

  draw() {
    const { canvas, scene } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    if (scene === null || width === 0) return;
    const paper = canvas.getContext("2d");
    paper.scale(ratio, ratio);
    paper.translate(width / 2, height / 2);
    const style = getComputedStyle(canvas);
    const scale = (0.5 * Math.min(width, height) * this.zoom) / scene.reach;
    const place = (point) => {
      const [x, y, z] = times(this.rotation, minus(point, scene.centre));
      return [scale * x, -scale * y, z]; // z towards the reader
    };
    const parts = [];
    for (const [from, to] of scene.edges) {
      const [a, b] = [place(from), place(to)];
      // Behind the atoms that it runs through.
      parts.push([(a[2] + b[2]) / 2 - scene.thickest, () => line(paper, a, b, 1.25, style.getPropertyValue("--edge"))]);
    }
    const centres = scene.atoms.map(({ position }) => place(position));
    for (const [i, j] of scene.bonds) {
      const [a, b] = surfaces(scene.atoms[i], scene.atoms[j]).map(place);
      const middle = a.map((value, axis) => (value + b[axis]) / 2);
      for (const [end, atom] of [[a, scene.atoms[i]], [b, scene.atoms[j]]]) {
        const depth = (end[2] + middle[2]) / 2;
        parts.push([depth, () => line(paper, end, middle, Math.max(0.16 * scale, 1.5), shade(atom.color, 0.8))]);
      }
    }
    const labelled = scene.atoms.length <= 200;
    scene.atoms.forEach((atom, index) => {
      parts.push([centres[index][2], () => ball(paper, centres[index], scale * atom.radius, atom, labelled)]);
    });
    parts.sort((first, second) => first[0] - second[0]);
    for (const [, paint] of parts) paint();
  }
}

export const tooLarge = (found) => found.atoms > MOST_ATOMS;

// Lengths (Å) and angles (degrees) of a cell; null without three periodic directions.
export function cellOf({ structure }) {
  if (!structure.pbc.every(Boolean)) return null;
  const [a, b, c] = structure.cell;
  const angle = (u, v) => (180 / Math.PI) * Math.acos(Math.min(1, Math.max(-1, dot(u, v) / (length(u) * length(v)))));
  return {
    lengths: [a, b, c].map(length),
    angles: [angle(b, c), angle(a, c), angle(a, b)],
    volume: Math.abs(dot(a, cross(b, c))),
  };
}

function described(found) {
  const cell = cellOf(found);
  const size = cell ? `cell of ${cell.lengths.map((value) => value.toFixed(2)).join(" × ")} Å` : "not periodic";
  return `Drawing of ${found.formula}, ${found.atoms} atoms, ${size}`;
}

function sceneOf({ structure, symbols }, elements) {
  const { cell, pbc } = structure;
  const volume = dot(cell[0], cross(cell[1], cell[2]));
  const periodic = pbc.some(Boolean) && Math.abs(volume) > 1e-6;
  const inverse = periodic && [cross(cell[1], cell[2]), cross(cell[2], cell[0]), cross(cell[0], cell[1])];
  const atoms = [];
  structure.positions.slice(0, MOST_ATOMS).forEach((position, index) => {
    const { color, radius } = elements[symbols[index]];
    const atom = (place) => atoms.push({ position: place, color, radius: 0.45 * radius, bond: radius, symbol: symbols[index], site: index });
    if (!periodic) return atom(position);
    // Into the cell, and those on its faces on the opposite ones too, as crystals are drawn.
    const inside = inverse.map((row, axis) => {
      const fraction = dot(row, position) / volume;
      if (!pbc[axis]) return [fraction];
      const wrapped = fraction - Math.floor(fraction + ON_A_FACE);
      return wrapped < ON_A_FACE ? [wrapped, wrapped + 1] : [wrapped];
    });
    for (const x of inside[0]) for (const y of inside[1]) for (const z of inside[2]) atom(combined(cell, [x, y, z]));
  });
  const edges = periodic ? edgesOf(cell) : [];
  const points = [...atoms.map(({ position }) => position), ...edges.flat()];
  const low = [0, 1, 2].map((axis) => points.reduce((least, point) => Math.min(least, point[axis]), Infinity));
  const high = [0, 1, 2].map((axis) => points.reduce((most, point) => Math.max(most, point[axis]), -Infinity));
  const centre = low.map((value, axis) => (value + high[axis]) / 2);
  const margin = atoms.reduce((most, atom) => Math.max(most, atom.radius), 0.3);
  const reach = margin + points.reduce((most, point) => Math.max(most, length(minus(point, centre))), 0);
  return { atoms, edges, bonds: bondsOf(atoms), centre, reach, thickest: margin };
}

function edgesOf(cell) {
  const edges = [];
  for (const axis of [0, 1, 2]) {
    const [second, third] = [0, 1, 2].filter((other) => other !== axis);
    for (const [u, v] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      const at = (part) => {
        const fraction = [0, 0, 0];
        [fraction[axis], fraction[second], fraction[third]] = [part / PIECES, u, v];
        return combined(cell, fraction);
      };
      for (let part = 0; part < PIECES; part += 1) edges.push([at(part), at(part + 1)]);
    }
  }
  return edges;
}

function bondsOf(atoms) {
  const near = [];
  const shortest = new Map(); // by site: of its images, some have neighbours that are not drawn
  if (atoms.length > MOST_BONDED) return near;
  for (let i = 0; i < atoms.length; i += 1) {
    for (let j = 0; j < i; j += 1) {
      const distance = length(minus(atoms[i].position, atoms[j].position));
      if (distance > BOND * (atoms[i].bond + atoms[j].bond)) continue;
      near.push([i, j, distance]);
      for (const { site } of [atoms[i], atoms[j]]) shortest.set(site, Math.min(distance, shortest.get(site) ?? Infinity));
    }
  }
  const reach = (atom) => NEAREST * shortest.get(atom.site);
  return near.filter(([i, j, distance]) => distance <= Math.max(reach(atoms[i]), reach(atoms[j])));
}

// Where a bond leaves each of its two atoms.
function surfaces(first, second) {
  const along = minus(second.position, first.position);
  const share = (atom) => Math.min(0.9 * atom.radius / length(along), 0.5);
  const at = (fraction) => first.position.map((value, axis) => value + fraction * along[axis]);
  return [at(share(first)), at(1 - share(second))];
}

function line(paper, from, to, width, color) {
  paper.beginPath();
  paper.moveTo(from[0], from[1]);
  paper.lineTo(to[0], to[1]);
  paper.lineWidth = width;
  paper.lineCap = "round";
  paper.strokeStyle = color;
  paper.stroke();
}

function ball(paper, [x, y], radius, atom, labelled) {
  const light = paper.createRadialGradient(x - 0.35 * radius, y - 0.4 * radius, 0.1 * radius, x, y, radius);
  light.addColorStop(0, shade(atom.color, 1.35));
  light.addColorStop(0.5, atom.color);
  light.addColorStop(1, shade(atom.color, 0.62));
  paper.beginPath();
  paper.arc(x, y, radius, 0, 2 * Math.PI);
  paper.fillStyle = light;
  paper.fill();
  paper.lineWidth = 1;
  paper.strokeStyle = shade(atom.color, 0.4);
  paper.stroke();
  if (!labelled || radius < 7) return;
  paper.fillStyle = brightness(atom.color) > 0.45 ? "#000000" : "#ffffff";
  paper.font = `600 ${Math.min(radius, 16)}px system-ui, sans-serif`;
  paper.textAlign = "center";
  paper.textBaseline = "middle";
  paper.fillText(atom.symbol, x, y);
}

const channels = (color) => [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));

function shade(color, factor) {
  const parts = channels(color).map((part) => Math.min(255, Math.round(part * factor)));
  return `rgb(${parts.join(" ")})`;
}

function brightness(color) {
  const [red, green, blue] = channels(color);
  return (0.299 * red + 0.587 * green + 0.114 * blue) / 255;
}

function identity() {
  return [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
}

// The rotation followed by one about an axis of the screen: 0 to the right, 1 up.
function turned(rotation, axis, angle) {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  const about = axis === 0 ? [[1, 0, 0], [0, c, -s], [0, s, c]] : [[c, 0, s], [0, 1, 0], [-s, 0, c]];
  const columns = [0, 1, 2].map((column) => rotation.map((row) => row[column]));
  return about.map((row) => columns.map((column) => dot(row, column)));
}

function dot(u, v) {
  return u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
}

function cross(u, v) {
  return [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
}

function length(u) {
  return Math.sqrt(dot(u, u));
}

function minus(u, v) {
  return [u[0] - v[0], u[1] - v[1], u[2] - v[2]];
}

function times(matrix, u) {
  return matrix.map((row) => dot(row, u));
}

// The sum of the rows of a cell, each times a fraction.
function combined(cell, fractions) {
  return [0, 1, 2].map((axis) => cell.reduce((sum, row, index) => sum + fractions[index] * row[axis], 0));
}
