"""What the benchmarks share: calls timed in turn, memory of processes, and results as a table, a picture and JSON."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("kimgnn", "torch", "numpy", "kliff", "torch_geometric", "onnxruntime")

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""Those of ``--clock``."""

BESIDE = {"network": "s", "what": "s", "precision": "s", "batch": "d", "ms": ".1f", "spread %": ".0f",
          "times ours": ".2f", "times tables": ".2f", "MiB": ".0f"}  # fmt: skip
"""Columns of what is measured beside others: `Results.add_beside`."""

Row = dict[str, Any]


def in_turn(
    calls: Mapping[str, Callable[[], object]],
    rounds: int = 7,
    seconds: float = 0.2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, NDArray[np.float64]]:
    """Return the seconds of a call in each round, ``(rounds,)``, by the calls' names.

    In a round each is called, one after the other, for about ``seconds``, at least once, and the median counts: what
    else the machine does slows all of a round, so that their ratios are better known than their times. A call that
    is repeated is called once more before: another one's data lie in the caches, and its threads wait awake for more.
    """

    def timed(call: Callable[[], object]) -> float:
        start = clock()
        call()
        return clock() - start

    repeats = {}
    for name, call in calls.items():
        first = timed(call)  # and loads what is loaded late
        repeats[name] = 1 if first >= seconds else max(1, round(seconds / max(timed(call), 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if repeats[name] > 1:
                call()
            times[name].append(float(np.median([timed(call) for _ in range(repeats[name])])))
    return {name: np.array(found) for name, found in times.items()}


def median(values: NDArray[np.float64]) -> float:
    """Return the median, as JSON takes it."""
    return float(np.median(values))


def spread(values: NDArray[np.float64]) -> float:
    """Return how far apart the quartiles are, in percent of the median."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(100 * (high - low) / middle)


def peak_mib() -> float:
    """Return the most memory that this process held at once, MiB."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))[0]) / 1024


def in_child(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Return what a function returns in a process of its own, and the most memory that this held, MiB.

    Imports are part of it: `in_child` of a function that does nothing says how much.
    """
    context = multiprocessing.get_context("forkserver")
    # A server that has imported what the benchmark has forks the process: imports are waited for once.
    context.set_forkserver_preload([name for name in sys.modules if name.startswith("kimgnn.")])
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_with_peak, function, arguments).result()


def _with_peak(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, float]:
    return function(*arguments), peak_mib()


def nothing() -> None:
    """Do nothing, for what an empty process holds."""


def machine() -> dict[str, Any]:
    """Return what the figures depend on, besides the code."""
    described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    processor = re.findall(r"model name\s*: (.+)", described)
    return {
        "processor": processor[0] if processor else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": _threads(),
        "memory GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        # Of others, when the benchmark begins.
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
    }


def installed(package: str) -> str | None:
    """Return the version of a package, or ``None`` where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _threads() -> int:
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))


def arguments_of(doc: str | None, rounds: int = 7) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has; its description is ``doc``."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the JSON and the picture")
    parser.add_argument("--rounds", type=int, default=rounds, help="the median of them counts")
    return parser


def with_clock(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Let it say which clock counts."""
    told = "cpu: the processor's time, the steadier one on a busy machine; with OMP_NUM_THREADS=1"
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help=told)
    return parser


class Results:
    """Rows of one benchmark: printed as they come, written at the end.

    Args:
        name: Of the files.
        title: What is measured.
        columns: Name -> format of its values, such as ``".1f"``; a value may be missing.
    """

    def __init__(self, name: str, title: str, columns: Mapping[str, str]) -> None:
        self.name = name
        self.title = title
        self.columns = columns
        self.machine = machine()
        self.rows: list[Row] = []
        told = self.machine
        print(f"{title}\n{told['processor']}, {told['cores']} cores, {told['threads']} threads, load {told['load']}\n")
        print(self._line({column: column for column in columns}), flush=True)

    def add(self, **row: Any) -> None:
        """Print a row, and keep it. What is no column is only kept."""
        self.rows.append(row)
        print(self._line(row), flush=True)

    def add_beside(
        self, times: Mapping[str, NDArray[np.float64]], memory: Mapping[str, float], *, calls: int = 1, **row: Any
    ) -> None:
        """Add what took turns, row by row, and how many times as long as the first, ours, each takes in a round.

        Args:
            times: Name -> seconds in each round, `in_turn`'s. One that ends in "tables" is ours too.
            memory: Name -> MiB.
            calls: Steps that the seconds are those of.
            row: What all have in common.
        """
        against = {"times ours": next(iter(times))}
        for name in times:
            if name.endswith("tables"):
                against["times tables"] = name
        for name, seconds in times.items():
            ratios = {column: median(seconds / times[other]) for column, other in against.items()}
            found = {"ms": 1e3 * median(seconds) / calls, "spread %": spread(seconds), "MiB": memory.get(name)}
            self.add(network=name, **row, **found, **ratios, seconds=(seconds / calls).tolist())

    def _line(self, row: Row) -> str:
        cells = []
        for column, form in self.columns.items():
            value = row.get(column)
            text = "" if value is None else value if isinstance(value, str) else format(value, form)
            cells.append(text.ljust(28) if not cells else "  " + text.rjust(max(8, len(column))))
        return "".join(cells).rstrip()

    def write(self, folder: Path, draw: Callable[[Any, list[Row]], None] | None = None) -> None:
        """Write ``<name>.json`` and, with what draws into a figure, ``<name>.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
        written = {"title": self.title, "command": command, "machine": self.machine, "rows": self.rows}
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"\n{path}")
        if draw is not None:
            from matplotlib.figure import Figure

            figure = Figure(figsize=(8, 5), layout="constrained")
            draw(figure, self.rows)
            figure.suptitle(self.title, fontsize=9)
            figure.savefig(path.with_suffix(".png"), dpi=150)
            print(path.with_suffix(".png"))


def lines(axes: Any, rows: Sequence[Row], x: str, y: str, series: str) -> None:
    """Draw a column against another, on logarithmic axes, one line for each value of a third."""
    for name in dict.fromkeys(row[series] for row in rows):
        points = sorted((row[x], row[y]) for row in rows if row[series] == name and row.get(y) is not None)
        if points:
            axes.loglog(*zip(*points, strict=True), "o-", label=name)
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)


def bars(axes: Any, rows: Sequence[Row], label: str, value: str) -> None:
    """Draw a column as bars, one for each row that has it."""
    shown = [row for row in rows if row.get(value) is not None][::-1]
    drawn = axes.barh([str(row[label]) for row in shown], [row[value] for row in shown])
    axes.bar_label(drawn, fmt="%.3g", padding=3)
    axes.margins(x=0.15)
    axes.set(xlabel=value)


def bars_beside(figure: Any, rows: Sequence[Row]) -> None:
    """Draw how many times as long as ours each takes, in axes of their own for what took turns with one another."""
    measured = [row for row in rows if row.get("times ours") is not None]
    groups = list(dict.fromkeys((row["what"], row["precision"], row["batch"]) for row in measured))
    across = min(3, len(groups))
    down = -(-len(groups) // across)
    figure.set_size_inches(4.5 * across, 2.2 * down)
    for axes, group in zip(figure.subplots(down, across, squeeze=False).flat, groups, strict=False):
        what, precision, batch = group
        bars(axes, [row for row in measured if (row["what"], row["precision"], row["batch"]) == group], "network",
             "times ours")  # fmt: skip
        axes.set_title(f"{what}, {precision}, batch of {batch}", fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in figure.axes[len(groups) :]:
        axes.remove()
