"""kimgnn.param: what is written is read, and nothing else."""

from pathlib import Path

import pytest

from kimgnn.errors import ModelError
from kimgnn.export.contract import CONTRACT
from kimgnn.export.parameter_file import Parameters, read_parameters

PARAMETERS = Parameters("onnx", "model.onnx", 0.1 + 0.2, 3, ["Si", "C"])
COMMITTEE = PARAMETERS._replace(members=5)


@pytest.mark.parametrize("parameters", [PARAMETERS, COMMITTEE])
def test_what_is_written_is_read(parameters: Parameters, tmp_path: Path) -> None:
    """Every value, the cutoff to its last bit."""
    (tmp_path / "kimgnn.param").write_text(str(parameters))
    assert read_parameters(tmp_path / "kimgnn.param") == parameters


def test_one_network_is_written_as_before() -> None:
    """In the version that older drivers read; a committee's is another, which they refuse."""
    assert str(PARAMETERS).splitlines()[0] == "kimgnn 2"
    assert "members" not in str(PARAMETERS)
    assert str(COMMITTEE).splitlines()[0::6] == ["kimgnn 3", "members 5"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("members 5\n", ""), "a line is missing.*species, members"),
        (lambda text: text.replace("kimgnn 3", "kimgnn 2"), "not expected"),
        (lambda text: text.replace("members 5", "members 1"), "a wrong value: 1 members"),
        (lambda text: text.replace("members 5", "members five"), "a wrong value: .*'five'"),
        (lambda text: text.replace("members 5", "members 5 6"), "a wrong value"),
    ],
)
def test_damaged_files_of_committees(damage, message: str, tmp_path: Path) -> None:
    """A number of members that is missing, or none, is told."""
    (tmp_path / "kimgnn.param").write_text(damage(str(COMMITTEE)))
    with pytest.raises(ModelError, match=rf"kimgnn\.param: .*{message}"):
        read_parameters(tmp_path / "kimgnn.param")


def test_no_file(tmp_path: Path) -> None:
    """The message names the file that belongs there."""
    with pytest.raises(ModelError, match=r"kimgnn\.param: cannot be read.*keep the files of its folder together"):
        read_parameters(tmp_path / "kimgnn.param")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("layers 3\n", ""), r"a line is missing.*Allowed: kimgnn, .*, layers, species"),
        (lambda text: text + "cutoff 4.0\n", "not expected"),
        (lambda text: text.replace("layers", "lairs"), "not expected.*'lairs'"),
        (lambda text: text.replace("layers 3", "layers three"), "a wrong value: .*'three'"),
        (lambda text: text.replace("layers 3", "layers 3 4"), "a wrong value: too many"),
        (lambda text: text.replace(f"kimgnn {CONTRACT}", "kimgnn 1"), "another version.*'kimgnn 1'.*Export the model"),
        (lambda text: "", "another version"),
    ],
)
def test_damaged_files(damage, message: str, tmp_path: Path) -> None:
    """A line that is missing, too much or wrong is told, with what is expected."""
    (tmp_path / "kimgnn.param").write_text(damage(str(PARAMETERS)))
    with pytest.raises(ModelError, match=rf"kimgnn\.param: .*{message}"):
        read_parameters(tmp_path / "kimgnn.param")
