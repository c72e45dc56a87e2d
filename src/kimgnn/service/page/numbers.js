// Numbers as people read them. Files keep every digit.

const minus = (text) => text.replace(/-/g, "−");

// Four digits, or as many as an error of two digits leaves.
export function shown(value, deviation) {
  if (Math.abs(value) === Infinity) return value > 0 ? "∞" : "−∞";
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (Number.isFinite(deviation) && deviation > 0) {
    const decimals = 1 - Math.floor(Math.log10(deviation));
    if (decimals <= 6 && size < 1e7) return minus(value.toFixed(Math.max(decimals, 0)));
  }
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return minus(value.toExponential(3));
  return minus(String(Number(value.toPrecision(size >= 1000 ? 6 : 4))));
}

export function withDeviation(value, deviation) {
  const positive = Number.isFinite(deviation) && deviation > 0;
  return positive ? `${shown(value, deviation)} ± ${shown(deviation, deviation)}` : shown(value);
}

// JSON has no infinity: the service writes it as text, and NaN as null.
export const numberOf = (value) => ({ inf: Infinity, "-inf": -Infinity })[value] ?? value;

export const whole = (count) => count.toLocaleString("en");

export const some = (count, one, many = `${one}s`) => `${whole(count)} ${count === 1 ? one : many}`;

export const percent = (share, deviation) => {
  const text = `${(100 * share).toFixed(1)}`;
  return Number.isFinite(deviation) ? `${text} ± ${(100 * deviation).toFixed(1)} %` : `${text} %`;
};
