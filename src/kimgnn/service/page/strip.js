// One number on an axis: the labels of the training data as bars, the prediction as a line, its error as a bar.

import { html, svg } from "./dom.js";
import { shown } from "./numbers.js";

const WIDTH = 1000; // of the view box, stretched to the page
const [BARS, ERROR, HEIGHT] = [36, 47, 56]; // pixels from the top: foot of the bars, the error bar, all

// What the axis must hold, the same for every model: [low, high, logarithmic].
export function axisOf(shownOnes) {
  const ends = shownOnes.flatMap(({ value, deviation, interval, known }) => [
    ...(Number.isFinite(value) ? [value, value - (deviation ?? 0), value + (deviation ?? 0)] : []),
    ...(interval ?? []),
    ...rangeOf(known),
  ]);
  // Of a logarithm, a value less its deviation may be below zero: the axis ends before.
  const logarithmic = shownOnes.some(({ logarithmic, value }) => logarithmic && !(value <= 0));
  const finite = ends.filter((end) => Number.isFinite(end) && (!logarithmic || end > 0));
  if (new Set(finite).size < 2) return null; // one number has no place on an axis
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const room = logarithmic ? 1.1 : 0.05 * (high - low);
  if (logarithmic) return [low / room, high * room, true];
  // What is never negative starts at zero, not below.
  return [low >= 0 ? Math.max(low - room, 0) : low - room, high + room, false];
}

export function rangeOf(known) {
  const edges = known?.histogram?.edges;
  const ends = edges ? [edges[0], edges[edges.length - 1]] : [known?.min, known?.max];
  return ends.every(Number.isFinite) ? ends : [];
}

// The least and the largest share of training labels that may be below a value, as a histogram tells it; null without one.
export function shareBelow(known, value) {
  const histogram = known?.histogram;
  if (!histogram || !Number.isFinite(value)) return null;
  const { edges, counts } = histogram;
  const all = counts.reduce((sum, count) => sum + count, 0);
  const below = (passed) => counts.reduce((sum, count, bin) => (passed(bin) ? sum + count : sum), 0) / all;
  return [below((bin) => edges[bin + 1] <= value), below((bin) => edges[bin] < value)];
}

export function strip({ value, deviation, interval, known }, [low, high, logarithmic], unit, told) {
  const along = (number) => (logarithmic ? Math.log(Math.max(number, low) / low) / Math.log(high / low) : (number - low) / (high - low));
  const x = (number) => WIDTH * Math.min(1, Math.max(0, along(number)));
  const drawing = svg("svg", { class: "strip", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": told });
  drawing.append(...bars(known, x));
  const stroke = (x1, y1, x2, y2, thick, kind) =>
    drawing.append(svg("line", { x1, y1, x2, y2, class: kind, "stroke-width": thick, "vector-effect": "non-scaling-stroke" }));
  stroke(0, BARS, WIDTH, BARS, 1, "axis");
  if (Number.isFinite(value)) {
    if (interval) {
      stroke(x(interval[0]), ERROR, x(interval[1]), ERROR, 2, "mark");
      for (const end of interval) stroke(x(end), ERROR - 5, x(end), ERROR + 5, 2, "mark");
    }
    if (deviation > 0) stroke(x(value - deviation), ERROR, x(value + deviation), ERROR, 6, "mark");
    stroke(x(value), 0, x(value), HEIGHT - 2, 2.5, "mark");
  }
  const ends = html("div", { class: "ends", "aria-hidden": "true" }, html("span", {}, shown(low)), html("span", {}, unit), html("span", {}, shown(high)));
  return html("div", {}, drawing, ends);
}

function bars(known, x) {
  const histogram = known?.histogram;
  if (histogram) {
    const { edges, counts } = histogram;
    const tallest = Math.max(...counts, 1);
    return counts.map((count, bin) => {
      const [left, right] = [x(edges[bin]), x(edges[bin + 1])];
      // One that is there can be seen.
      const height = count === 0 ? 0 : Math.max(1.5, (BARS - 2) * (count / tallest));
      return svg("rect", { class: "bars", x: left, y: BARS - height, width: Math.max(right - left - 1.5, 1), height });
    });
  }
  const range = rangeOf(known);
  if (range.length === 0) return [];
  return [svg("rect", { class: "bars", x: x(range[0]), y: BARS - 12, width: Math.max(x(range[1]) - x(range[0]), 2), height: 12 })];
}
