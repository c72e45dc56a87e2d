"""What a checkpoint says of the data."""

import numpy as np
import pytest
from kliff.dataset import Configuration

from kimgnn.evaluation.domain import SUMMARY
from kimgnn.training.description import dataset_hash, describe_data
from kimgnn.transforms.graph import TARGETS


def configuration(symbols, energy=None):
    return Configuration(np.eye(3) * 9, symbols, np.zeros((len(symbols), 3)), [True] * 3, energy)


def test_elements_and_samples_are_those_that_were_trained_on():
    """An export is tried on structures that it takes, of the part that was learned from least."""
    splits = {
        "train": [configuration(["Si", "C"], -2.0), configuration(["Si"], -5.0)],
        "validation": [configuration(["C", "C"]), configuration(["C", "Ge"])],
        "test": [configuration(["Si", "Ge", "C"])],
    }
    data = describe_data(splits, "a.xyz", "digest")
    assert data["elements"] == ["C", "Si"]
    assert [sample["symbols"] for sample in data["samples"]] == [["C", "C"]]
    assert data["structure"]["symbols"] == ["Si"]


def test_the_histogram_of_a_target_of_which_the_logarithm_is_learned_has_its_bins():
    part = [configuration(["Si"], -1.0) for _ in range(3)]
    for item, value in zip(part, (1.0, 10.0, 1e20), strict=True):
        item.metadata[TARGETS] = {"modulus": np.array([value])}
    splits = {"train": part, "validation": [], "test": []}
    told = describe_data(splits, "a.xyz", "digest", logarithmic={"modulus"})[SUMMARY]["labels"]["modulus"]
    assert told["histogram"]["edges"] == pytest.approx(np.logspace(0, 20, 21))
    assert told["histogram"]["counts"] == [1, 1, *[0] * 17, 1]


def test_hashes_of_files_of_their_own():
    """Structures, order and labels count."""
    part = [configuration(["Si"], -1.0), configuration(["C"], -2.0)]
    splits = {"train": part, "validation": part[:1], "test": part}
    assert describe_data(splits, "a.xyz", "digest")["file_hashes"] == {}
    data = describe_data(splits, "a.xyz", "digest", ["test"])
    assert data["file_hashes"] == {"test": dataset_hash(part)}
    others = [dataset_hash(part[::-1]), dataset_hash([part[0], configuration(["C"], -2.1)]), dataset_hash(part[:1])]
    assert len({data["file_hashes"]["test"], *others}) == 4
