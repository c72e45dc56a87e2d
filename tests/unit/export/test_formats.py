"""The table of formats, and the KIM names that models of one network get in each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import pytest
from structures import small_network

from kimgnn.errors import ExportError
from kimgnn.export.driver import DriverKind
from kimgnn.export.formats import FORMATS, model_names
from kimgnn.kim_id import is_model_name
from kimgnn.manifest.schema import Manifest

NAME = "SchNet_test_SiC__MO_123456789012_004"


def test_the_manifest_has_the_same_formats() -> None:
    """By the same names; every format has a driver."""
    schema = Manifest.model_json_schema()["$defs"]["Export"]["properties"]["formats"]
    assert schema["items"]["enum"] == list(FORMATS)
    assert {chosen.driver for chosen in FORMATS.values()} == set(get_args(DriverKind))


def test_the_first_format_has_the_name() -> None:
    """The others get valid names of their own, which name the format and keep the version."""
    names = model_names(NAME, ["onnx", "torchscript", "pt2"])
    assert list(names) == ["onnx", "torchscript", "pt2"]
    assert names["onnx"] == NAME
    assert len(set(names.values())) == 3
    assert all(is_model_name(name) and name.endswith("_004") for name in names.values())
    assert names["pt2"].startswith("SchNet_test_SiC_pt2__MO_")


def test_names_do_not_change() -> None:
    """A KIM name, once given, is for ever; a new version of a model keeps its number in every format."""
    assert model_names(NAME, ["torchscript", "onnx"])["onnx"] == "SchNet_test_SiC_onnx__MO_984403241880_004"
    later = model_names(NAME.replace("_004", "_005"), ["torchscript", "onnx"])["onnx"]
    assert later == model_names(NAME, ["torchscript", "onnx"])["onnx"].replace("_004", "_005")
    other = model_names(NAME.replace("9012", "9013"), ["torchscript", "onnx"])["onnx"]
    assert other != model_names(NAME, ["torchscript", "onnx"])["onnx"]


def test_a_long_name_is_cut() -> None:
    """KIM allows a prefix of 100 characters."""
    names = model_names(f"{'a' * 100}__MO_123456789012_000", ["pt2", "torchscript"])
    assert is_model_name(names["torchscript"])


@pytest.mark.parametrize("formats", [[], ["onnx", "onnx"], ["tensorrt"]])
def test_what_is_no_list_of_formats(formats: list[str]) -> None:
    """The message has those that there are."""
    with pytest.raises(ExportError, match="torchscript, onnx, pt2, each once"):
        model_names(NAME, formats)


def test_onnx_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the package, and the command that installs it."""
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r"onnxscript is missing.*pip install 'kimgnn\[onnx\]'"):
        FORMATS["onnx"].write(small_network(["Si"]), tmp_path / "model.onnx", {})
