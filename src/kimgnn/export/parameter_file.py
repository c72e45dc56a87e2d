"""``kimgnn.param``: what a KIM model driver of ours has to know besides the exported file."""

from pathlib import Path
from typing import Final, NamedTuple

from kimgnn.errors import ModelError
from kimgnn.export.contract import COMMITTEE_CONTRACT, CONTRACT

PARAMETER_FILE: Final = "kimgnn.param"

KEYS: Final = ("kimgnn", "backend", "model", "cutoff", "layers", "species")
"""First words of its lines, in their order."""

COMMITTEE_KEYS: Final = (*KEYS, "members")
"""Those of a committee."""


class Parameters(NamedTuple):
    """The file's values.

    Attributes:
        backend: What runs the exported file: ``torchscript``, ``onnx`` or ``pt2``.
        model: Name of the exported file, which is in the same folder.
        cutoff: Of every layer, Å.
        layers: Message-passing layers.
        species: Elements, in the order of their codes.
        members: Networks of a committee; 1 for a single one.
    """

    backend: str
    model: str
    cutoff: float
    layers: int
    species: list[str]
    members: int = 1

    def __str__(self) -> str:
        values = [self.backend, self.model, repr(float(self.cutoff)), self.layers, " ".join(self.species)]
        if self.members == 1:
            lines = zip(KEYS, [CONTRACT, *values], strict=True)
        else:
            lines = zip(COMMITTEE_KEYS, [COMMITTEE_CONTRACT, *values, self.members], strict=True)
        return "".join(f"{key} {value}\n" for key, value in lines)


def read_parameters(path: str | Path) -> Parameters:
    """Read a parameter file.

    Raises:
        ModelError: There is no such file, it is damaged, or it is of another version of the contract.
    """
    where, remedy = str(path), "Export the model again, and keep the files of its folder together."
    try:
        lines = [line.split() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot be read: {error}", where=where, remedy=remedy) from error
    expected = {f"{KEYS[0]} {CONTRACT}": KEYS, f"{KEYS[0]} {COMMITTEE_CONTRACT}": COMMITTEE_KEYS}
    first = " ".join(lines[0] if lines else [])
    if first not in expected:
        allowed = ", ".join(expected)
        raise ModelError("of another version of kimgnn", where=where, value=first, allowed=allowed, remedy=remedy)
    keys, of_version = [" ".join(line[:1]) for line in lines], expected[first]
    if keys != list(of_version):
        raise ModelError("a line is missing, or not expected", where=where, value=keys, allowed=", ".join(of_version))
    try:
        (backend,), (model,), (cutoff,), (layers,), species, *rest = (line[1:] for line in lines[1:])
        members = 1
        if of_version == COMMITTEE_KEYS:
            ((text,),) = rest
            members = int(text)
            if members < 2:
                raise ValueError(f"{members} members")
        return Parameters(backend, model, float(cutoff), int(layers), species, members)
    except ValueError as error:
        raise ModelError(f"a line has a wrong value: {error}", where=where, remedy=remedy) from error
