"""Tables and picture of a data set show what was counted."""

from __future__ import annotations

import io

import numpy as np
import pytest
from ase.build import bulk, molecule

from kimgnn.data.records import Record
from kimgnn.data.stats import DataStatistics, data_statistics
from kimgnn.evaluation.data_plots import statistics_plot, statistics_table


@pytest.fixture(scope="module")
def statistics() -> DataStatistics:
    """Forty crystals with a gap on some, a wide quantity, two classes, and text of which each is another."""
    records = [
        Record(
            str(number),
            bulk("Cu" if number % 4 else "Si"),
            {
                "gap": 0.1 * number if number % 3 else None,
                "epsilon": 1.0 + 10.0 ** (number / 8),
                "metal": number % 2 == 0,
                "formula": f"Cu{number}",
                "forces": np.full((2, 3), number),
            },
        )
        for number in range(40)
    ]
    return data_statistics(records)


def test_table(statistics: DataStatistics) -> None:
    """Counts, shares, missing labels and the spread of a value are there."""
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in statistics_table(statistics).splitlines()
    ]
    assert ["structures", "40"] in rows
    assert ["Cu", "30", "75.0"] in rows
    assert ["Fm-3m (225)", "30", "75.0"] in rows
    assert ["cubic", "40", "100.0"] in rows
    assert ["gap", "26", "14", "1.95", f"{np.std([0.1 * n for n in range(40) if n % 3]):.4g}"] in [
        row[:5] for row in rows
    ]
    assert ["True", "20", "50.0"] in rows
    assert ["40 different ones", "40", "100.0"] in rows


def test_picture(statistics: DataStatistics) -> None:
    """Every value has a panel with all its numbers; a wide one has a logarithmic axis; text of many kinds has none."""
    figure = statistics_plot(statistics)
    panels = {ax.get_title().split("\n")[0]: ax for ax in figure.axes}
    assert {"2 elements", "atoms in a structure", "crystal system", "space group", "gap", "metal"} <= panels.keys()
    assert "formula" not in panels
    assert sum(patch.get_height() for patch in panels["gap"].patches) == 26
    assert sum(patch.get_height() for patch in panels["forces"].patches) == 240
    assert [patch.get_height() for patch in panels["metal"].patches] == [20, 20]
    assert (panels["epsilon"].get_xscale(), panels["gap"].get_xscale()) == ("log", "linear")
    assert sum(patch.get_height() for patch in panels["epsilon"].patches) == 40
    assert {"Cu", "30", "Si", "10"} <= {text.get_text() for text in panels["2 elements"].texts}
    figure.savefig(io.BytesIO(), format="png")


def test_one_molecule() -> None:
    """A single structure without symmetry and values makes a picture too."""
    found = data_statistics([Record("water", molecule("H2O"), {})])
    assert "0; 1 structures without" in statistics_table(found)
    statistics_plot(found).savefig(io.BytesIO(), format="png")
