"""What a checkpoint says of the data."""

import numpy as np
from kliff.dataset import Configuration

from kimgnn.training.description import dataset_hash, describe_data


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


def test_hashes_of_files_of_their_own():
    """Structures, order and labels count."""
    part = [configuration(["Si"], -1.0), configuration(["C"], -2.0)]
    splits = {"train": part, "validation": part[:1], "test": part}
    assert describe_data(splits, "a.xyz", "digest")["file_hashes"] == {}
    data = describe_data(splits, "a.xyz", "digest", ["test"])
    assert data["file_hashes"] == {"test": dataset_hash(part)}
    others = [dataset_hash(part[::-1]), dataset_hash([part[0], configuration(["C"], -2.1)]), dataset_hash(part[:1])]
    assert len({data["file_hashes"]["test"], *others}) == 4
