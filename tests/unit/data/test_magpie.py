import sys

import numpy as np
import pytest

from kimgnn.data.magpie import MAGPIE_PROPERTIES, magpie_table
from kimgnn.errors import DataError


def test_known_values():
    pytest.importorskip("matminer")
    table = magpie_table(["Fe", "O"])
    assert table.shape == (2, 22)
    assert np.isfinite(table).all()
    row = dict(zip(MAGPIE_PROPERTIES, table[0], strict=True))
    assert (row["Number"], row["Electronegativity"], row["NdValence"], row["Row"]) == (26, 1.83, 6, 4)


def test_tells_each_element_that_lacks_a_property():
    pytest.importorskip("matminer")
    with pytest.raises(DataError) as caught:
        magpie_table(["He", "Fe", "Ar"])
    assert [problem.value for problem in caught.value.problems] == ["He", "Ar"]
    assert "MeltingT, Electronegativity" in caught.value.problems[0].message
    assert "fractions" in caught.value.problems[0].remedy


def test_tells_where_matminer_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "matminer.utils.data", None)
    with pytest.raises(DataError, match=r"pip install 'kimgnn\[matminer\]'"):
        magpie_table(["Fe"])
