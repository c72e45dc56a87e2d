import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Element
from torch.fx.experimental.proxy_tensor import make_fx

from kimgnn.data.magpie import magpie_table
from kimgnn.nn.composition import CompositionFeatures

SPECIES = ["H", "O", "Si", "Ti", "Fe", "Cu", "Sn", "Ba", "La", "Gd", "Pb", "U"]
NUMBERS = [Element(symbol).Z for symbol in SPECIES]


@pytest.fixture(scope="module")
def matminer_preset():
    featurizers = pytest.importorskip("matminer.featurizers.composition")
    return featurizers.ElementProperty.from_preset("magpie")


@pytest.fixture(scope="module")
def magpie():
    pytest.importorskip("matminer")
    features = CompositionFeatures("magpie", NUMBERS)
    features.statistics.table.copy_(torch.from_numpy(magpie_table(SPECIES)))
    return features


def atoms_of(counts):
    return torch.tensor([NUMBERS[element] for element, count in counts for _ in range(count)])


# Few counts, so that several elements are often equally frequent.
FORMULAS = st.lists(
    st.tuples(st.integers(0, len(SPECIES) - 1), st.integers(1, 4)),
    min_size=1,
    max_size=6,
    unique_by=lambda pair: pair[0],
)


@settings(max_examples=60, deadline=None)
@given(formulas=st.lists(FORMULAS, min_size=1, max_size=4), order=st.randoms(use_true_random=False))
def test_equal_to_matminer(matminer_preset, magpie, formulas, order):
    atoms = [atoms_of(counts) for counts in formulas]
    shuffled = [one[torch.tensor(order.sample(range(len(one)), len(one)))] for one in atoms]
    node_graph = torch.repeat_interleave(torch.tensor([len(one) for one in shuffled]))
    features = magpie(torch.cat(shuffled), node_graph, len(formulas))
    for row, counts, own in zip(features, formulas, shuffled, strict=True):
        composition = Composition({SPECIES[element]: count for element, count in counts})
        expected = np.array(matminer_preset.featurize(composition))
        # The same few numbers are summed in another order; 1e-12 where a deviation is zero.
        np.testing.assert_allclose(row.numpy(), expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(magpie(own, None, 1)[0], row, rtol=1e-12, atol=1e-12)


def test_names_of_matminer(matminer_preset):
    from kimgnn.data.magpie import MAGPIE_PROPERTIES

    assert list(MAGPIE_PROPERTIES) == matminer_preset.features
    assert matminer_preset.stats == ["minimum", "maximum", "range", "mean", "avg_dev", "mode"]


def test_fractions_of_a_supercell_are_the_same():
    features = CompositionFeatures("fractions", [8, 22, 38])
    cell = torch.tensor([38, 22, 8, 8, 8])
    assert features(cell, None, 1).tolist() == [[3 / 5, 1 / 5, 1 / 5]]
    assert torch.equal(features(cell.repeat(7), None, 1), features(cell, None, 1))


def test_an_element_without_a_row_gives_nan(magpie):
    for features in (magpie, CompositionFeatures("fractions", NUMBERS)):
        found = features(torch.tensor([8, 9, 8, 14]), torch.tensor([0, 0, 1, 1]), 2)
        assert found[0].isnan().any()
        assert not found[1].isnan().any()


def test_scaled_by_the_training_set():
    features = CompositionFeatures("fractions", [8, 22, 38])
    z, node_graph = torch.tensor([8, 22, 8, 8, 22, 22]), torch.tensor([0, 0, 1, 1, 2, 2])
    for _ in range(2):  # setting it again, from what is scaled already, changes nothing
        features.set_scale(features(z, node_graph, 3))
        scaled = features(z, node_graph, 3)
        torch.testing.assert_close(scaled[:, :2].mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
        torch.testing.assert_close(scaled[:, :2].std(0, correction=0), torch.ones(2, dtype=torch.float64))
        assert scaled[:, 2].tolist() == [0, 0, 0]  # no structure has it: nothing to divide by


@pytest.mark.parametrize("kind", ["magpie", "fractions"])
def test_scripts_and_traces(magpie, kind):
    features = magpie if kind == "magpie" else CompositionFeatures("fractions", NUMBERS)
    z, node_graph = torch.tensor([8, 8, 22, 56, 8, 14]), torch.tensor([0, 0, 0, 1, 1, 1])
    scripted = torch.jit.script(features)
    assert torch.equal(scripted(z, node_graph, 2), features(z, node_graph, 2))
    assert torch.equal(scripted(z, None, 1), features(z, None, 1))
    traced = make_fx(lambda z: features(z, None, 1), tracing_mode="symbolic", _allow_non_fake_inputs=True)(z)
    other = torch.tensor([92, 1, 1, 1])
    assert torch.equal(traced(other), features(other, None, 1))
