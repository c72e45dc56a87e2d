"""What the benchmarks share tells the truth: of a clock that is known, of a process that is known."""

import json
import math

import numpy as np
import pytest
from benchmarks.harness import (
    BESIDE,
    Results,
    arguments_of,
    bars,
    bars_beside,
    in_child,
    in_turn,
    lines,
    median,
    nothing,
    spread,
)

MIB = 2**20


class Clock:
    """A clock that goes on by what calls say they take, and remembers them."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def call(self, name, takes):
        def call():
            self.calls.append(name)
            self.now += next(takes)

        return call


def steady(seconds):
    while True:
        yield seconds


def test_rounds_alternate():
    """Each call takes its turn in each round, as often as fits, and its time is its own."""
    clock = Clock()
    calls = {"slow": clock.call("slow", steady(1.0)), "fast": clock.call("fast", steady(0.25))}
    times = in_turn(calls, rounds=2, seconds=0.5, clock=clock)
    assert times["slow"].tolist() == [1.0, 1.0]
    assert times["fast"].tolist() == [0.25, 0.25]
    # One call that is not counted; then a round is one slow call, and two fast ones after one that is not counted.
    assert clock.calls == ["slow", "fast", "fast", *["slow", "fast", "fast", "fast"] * 2]


def test_a_round_is_the_median_of_its_calls():
    """A call that was held up for once does not count; the first of a round never does."""
    clock = Clock()
    takes = iter([2.0, 1.0, *[7.0, 1.0, 1.0, 50.0], *[7.0, 2.0, 2.0, 50.0]])
    times = in_turn({"one": clock.call("one", takes)}, rounds=2, seconds=3.0, clock=clock)
    assert times["one"].tolist() == [1.0, 2.0]


def test_median_and_spread():
    """The quartiles of 1 to 5 are 2 and 4, which is two thirds of the median apart."""
    values = np.array([5.0, 1.0, 3.0, 2.0, 4.0])
    assert median(values) == 3.0
    assert math.isclose(spread(values), 200 / 3)


def hold(mib):
    """Hold memory, and let it go: what counts is the most that was held."""
    held = np.ones(mib * MIB // 8)
    return float(held.sum() * 8 / MIB)


def test_memory_is_the_peak_of_another_process():
    """A process that holds 300 MiB for a moment is told from one that holds none; its result comes back."""
    _, empty = in_child(nothing)
    result, peak = in_child(hold, 300)
    assert result == 300
    assert 290 < peak - empty < 330  # of the interpreter's own, a few MiB come and go


def test_results_are_written(tmp_path, capsys):
    """A row is printed when it comes; the file holds it with the machine and the command."""
    results = Results("speed", "Speed of light", {"what": "s", "size": "d", "m/s": ".0f", "MiB": ".0f"})
    results.add(what="light", size=1, **{"m/s": 299_792_458.0}, seconds=[1.0])
    results.add(what="light", size=10, **{"m/s": 299_792_458.4, "MiB": 3})
    assert capsys.readouterr().out.splitlines()[-1].split() == ["light", "10", "299792458", "3"]

    def draw(figure, rows):
        left, right = figure.subplots(1, 2)
        lines(left, rows, "size", "m/s", "what")
        bars(right, rows, "what", "MiB")
        (line,) = left.get_lines()
        assert line.get_xdata().tolist() == [1, 10]
        assert len(right.patches) == 1  # of the one that has a value

    results.write(tmp_path, draw)
    written = json.loads((tmp_path / "speed.json").read_text())
    assert written["rows"][0] == {"what": "light", "size": 1, "m/s": 299_792_458.0, "seconds": [1.0]}
    assert written["machine"]["packages"]["numpy"] == np.__version__
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_others_beside_ours(tmp_path):
    """What another takes is a ratio of rounds, to ours and to ours with tables; one that is not there has no bar."""
    results = Results("beside", "Others", BESIDE)
    group = {"what": "train", "precision": "double", "batch": 1}
    times = {"ours": [1.0, 2.0, 4.0], "ours, tables": [0.5, 1.0, 4.0], "theirs": [3.0, 8.0, 8.0]}
    seconds = {name: np.array(values) for name, values in times.items()}
    results.add_beside(seconds, {"theirs": 300.0}, calls=10, **group)
    results.add_beside({name: seconds[name] for name in ("ours", "theirs")}, {}, **group | {"what": "evaluate"})
    results.add(network="another: not measured")
    theirs = results.rows[2]
    assert (theirs["times ours"], theirs["times tables"]) == (3.0, 6.0)  # of 3, 4, 2 and of 6, 8, 2
    assert (theirs["ms"], theirs["MiB"], theirs["seconds"]) == (800.0, 300.0, [0.3, 0.8, 0.8])
    assert results.rows[0]["times ours"] == 1.0
    assert "times tables" not in results.rows[3]

    def draw(figure, rows):
        bars_beside(figure, rows)
        assert [len(axes.patches) for axes in figure.axes] == [3, 2]

    results.write(tmp_path, draw)


def test_arguments(tmp_path):
    """Every benchmark has them."""
    options = arguments_of("What it does.", rounds=3).parse_args(["--output", str(tmp_path)])
    assert (options.rounds, options.output) == (3, tmp_path)
    with pytest.raises(SystemExit):
        arguments_of(None).parse_args(["--rounds", "many"])
