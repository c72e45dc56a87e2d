"""What a network takes from its training set."""

import numpy as np
import pytest
from kliff.dataset import Configuration

from kimgnn.errors import DataError, ManifestError, ModelError
from kimgnn.models.build import build_network
from kimgnn.models.network import NetworkSpec
from kimgnn.training.networks import fit_spec, load_torchscript, set_element_features

MODEL = {"architecture": "schnet", "options": {"cutoff": 4.0}, "precision": "double", "split_depth": 0}


def configuration(symbols, energy, forces=None):
    return Configuration(np.eye(3), symbols, np.zeros((len(symbols), 3)), [True] * 3, energy, forces)


def head(**options):
    return {"type": "energy", "reference_energies": "fit", "scale": "fit", "hidden_channels": None} | options


def test_reference_energies_and_scale_are_fitted():
    """E = Σ E_ref exactly when the energies are additive; the scale is the root mean square of the forces."""
    forces = np.array([[3.0, 0, 0], [0, -3.0, 0]])
    training_set = [
        configuration(["Si", "Si"], -10.0, forces),
        configuration(["Si", "C"], -8.0, forces),
    ]
    spec = fit_spec(MODEL | {"heads": [head()]}, training_set, ["Si", "C"])
    assert spec.heads[0]["reference_energies"] == pytest.approx({"Si": -5.0, "C": -3.0})
    assert spec.heads[0]["scale"] == pytest.approx(np.sqrt(3.0))
    assert spec.species == ["Si", "C"]


def test_scale_without_forces_is_the_spread_of_the_energies():
    """Energies per atom of -1 and -3 eV spread by 1 eV about their reference."""
    training_set = [configuration(["Si"], -1.0), configuration(["Si"], -3.0)]
    spec = fit_spec(MODEL | {"heads": [head()]}, training_set, ["Si"])
    assert spec.heads[0]["scale"] == pytest.approx(1.0)
    spec = fit_spec(MODEL | {"heads": [head(reference_energies="none")]}, training_set, ["Si"])
    assert spec.heads[0]["scale"] == pytest.approx(1.0)
    assert spec.heads[0]["reference_energies"] == "none"


def test_one_structure_alone_has_unit_scale():
    """No spread, no forces: 1 eV."""
    spec = fit_spec(MODEL | {"heads": [head()]}, [configuration(["Si"], -1.0)], ["Si"])
    assert spec.heads[0]["scale"] == 1.0


def test_numbers_that_are_given_stay():
    """Nothing is fitted where the manifest says a number."""
    given = head(reference_energies={"Si": -4.0}, scale=2.5)
    assert fit_spec(MODEL | {"heads": [given]}, [configuration(["Si"], None)], ["Si"]).heads == [given]


def test_given_reference_energies_are_those_of_the_networks_elements():
    """One that is missing would silently be 0; a table of more elements is welcome."""
    training_set = [configuration(["Si"], -1.0)]
    with pytest.raises(ManifestError, match=r"reference_energies: has no value of Si"):
        fit_spec(MODEL | {"heads": [head(reference_energies={"C": -7.0})]}, training_set, ["Si"])
    spec = fit_spec(MODEL | {"heads": [head(reference_energies={"C": -7.0, "Si": -4.0})]}, training_set, ["Si"])
    assert spec.heads[0]["reference_energies"] == {"Si": -4.0}


def test_the_networks_elements_are_those_that_are_trained_on(recwarn):
    """In the order given; the fit is of them alone, and given values of others stay for the data that have them."""
    training_set = [configuration(["Si", "Si"], -10.0), configuration(["Si", "C"], -8.0)]
    spec = fit_spec(MODEL | {"heads": [head()]}, training_set, ["Si", "Ge", "C"])
    assert spec.species == ["Si", "C"]
    assert spec.heads[0]["reference_energies"] == pytest.approx({"Si": -5.0, "C": -3.0})
    given = {"C": -7.0, "Si": -4.0, "Ge": -3.0}
    spec = fit_spec(MODEL | {"heads": [head(reference_energies=given)]}, training_set, ["Si", "Ge", "C"])
    assert spec.species == ["Si", "C"]
    assert build_network(spec).heads["energy"].reference[[6, 14, 32]].tolist() == [-7.0, -4.0, -3.0]
    assert not recwarn.list


def test_given_reference_values_of_a_property_are_those_of_the_networks_elements():
    """As for energies."""
    item = configuration(["Si"], None)
    item.metadata = {"targets": {"gap": np.array([1.0])}}
    for given, told in (({"C": 1.0}, "gap.reference: has no value of Si"), ({"C": 1.0, "Si": 2.0}, None)):
        model = MODEL | {"heads": [{"type": "property", "target": "gap", "reference": given}]}
        if told:
            with pytest.raises(ManifestError, match=told):
                fit_spec(model, [item], ["Si"])
        else:
            spec = fit_spec(model, [item], ["Si"])
            assert spec.heads[0]["reference"] == {"Si": 2.0}
            assert spec.heads[0]["mean"] == [-1.0]


def test_element_beyond_the_embedding():
    """max_z is the largest atomic number that the network has weights for."""
    with pytest.raises(ManifestError, match=r"model\.options\.max_z: .*Si"):
        fit_spec(MODEL | {"options": {"cutoff": 4.0, "max_z": 13}, "heads": []}, [], ["C", "Si"])


def test_file_that_is_not_torchscript(tmp_path):
    """The error names the key of the manifest and the file."""
    (tmp_path / "model.pt").write_text("nonsense")
    with pytest.raises(ModelError, match=r"model\.model_path: .*model\.pt"):
        load_torchscript(tmp_path / "model.pt")


def test_a_table_of_elements_is_set_for_all_structures_or_refused(tmp_path):
    """The features of a file are the network's; a structure with other elements is told before training."""
    path = tmp_path / "atoms.json"
    path.write_text('{"14": [1.0, 2.0]}')
    energy = {"type": "energy", "reference_energies": "none", "scale": 1.0}
    network = build_network(NetworkSpec("cgcnn", {"element_features": str(path)}, [energy], ["Si"]))
    with pytest.raises(DataError, match="has elements that .*atoms.json has no features of .got 'C'"):
        set_element_features(network, [configuration(["Si"], 0.0), configuration(["Si", "C"], 0.0)])
    set_element_features(network, [configuration(["Si"], 0.0)])
    assert network.trunk.elements.table[14].tolist() == [1.0, 2.0]
    schnet = build_network(NetworkSpec("schnet", {"cutoff": 4.0}, [energy], ["Si"]))
    set_element_features(schnet, [configuration(["Si"], 0.0)])  # it has none, and needs none
