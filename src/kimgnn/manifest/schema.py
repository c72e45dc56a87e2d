"""The whole manifest, and its `export` block."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from kimgnn.kim_id import RULE, is_model_name
from kimgnn.manifest.active import Active
from kimgnn.manifest.block import Block, Text, wrong
from kimgnn.manifest.dataset import Dataset
from kimgnn.manifest.model import Model, Transforms, Workspace
from kimgnn.manifest.training import Training
from kimgnn.manifest.tuning import Tuning


def _is_model_name(name: str) -> str:
    if not is_model_name(name):
        raise wrong("is not a KIM model name", allowed=RULE)
    return name


def _is_version(version: str) -> str:
    if not (len(version) == 3 and version.isdecimal() and version.isascii()):
        raise wrong("is not a driver version", allowed="three digits in quotes, such as '000'")
    return version


def _are_distinct(formats: list[str]) -> list[str]:
    if not formats:
        raise wrong("names no format", allowed="one or more of torchscript, onnx, pt2")
    if len(set(formats)) < len(formats):
        raise wrong("names a format twice", remedy="Name each once.")
    return formats


class Export(Block):
    """The KIM portable model."""

    model_name: Annotated[Text, AfterValidator(_is_model_name)] | None = None
    """KIM's name of the model; made from the run's name when absent."""
    model_path: Text | None = None
    """Folder to write the model into."""
    formats: Annotated[list[Literal["torchscript", "onnx", "pt2"]], AfterValidator(_are_distinct)] = Field(
        default=["torchscript"], json_schema_extra={"minItems": 1, "uniqueItems": True}
    )
    """What to write, a KIM model each; the first has the name, the others one made from it."""
    driver: Literal["kimgnn", "torchml"] | None = None
    """The model driver it is for; `kimgnn` for an architecture and `torchml` for a module, when absent."""
    driver_version: Annotated[str, AfterValidator(_is_version)] = Field(
        default="001", json_schema_extra={"pattern": "^[0-9]{3}$"}
    )
    """Three digits, in quotes: the version of the TorchML driver that the model asks for."""
    tabulate: bool | Annotated[int, Field(ge=1)] = False
    """Write tables of splines in the place of what layers make of distances; a number says how many intervals each has.

    For SchNet, CGCNN (`convolution: gated`) and GAT. The export tells the tables' error, and fails if it is large."""
    generate_tarball: bool = False
    """Also write the model as a .tar.gz."""


class Manifest(BaseModel):
    """KLIFF's six blocks, `tuning` and `active`, every default filled; `kimgnn.manifest.load_manifest` makes one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    workspace: Workspace = Workspace()
    """Where runs live, and what makes them reproducible."""
    dataset: Dataset
    """Structures and labels."""
    transforms: Transforms = Transforms()
    """From structures to what the network sees."""
    model: Model
    """The network."""
    training: Training = Training()
    """How it is trained."""
    export: Export = Export()
    """The KIM portable model."""
    tuning: Tuning = Tuning()
    """What `kimgnn tune` looks for; training takes no notice of it."""
    active: Active = Active()
    """How `kimgnn active` explores, chooses and labels; training takes no notice of it."""

    def to_dict(self) -> dict[str, Any]:
        """Return the plain, JSON-safe dict of the six blocks that KLIFF gets, by KLIFF's key names."""
        return self.model_dump(mode="json", exclude={"tuning", "active"})
