"""Exported files in Python: a staged graph to atomic energies and their gradient, whatever the format."""

import json
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kimgnn.errors import ModelError
from kimgnn.evaluation.domain import SUMMARY
from kimgnn.export.contract import (
    COMMITTEE_CONTRACT,
    CONTRACT,
    INPUTS,
    MEMBER_OUTPUTS,
    METADATA_ENTRY,
    OUTPUTS,
    StagedGraph,
    find_pairs,
)
from kimgnn.export.parameter_file import PARAMETER_FILE, read_parameters
from kimgnn.models.checkpoint import CALIBRATION
from kimgnn.physics.derivatives import gradient

Evaluate: TypeAlias = Callable[[StagedGraph], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Returns the contributing atoms' energies ``(n_atoms,)``, eV, and the gradient of their sum ``(n_edges, 3)``, eV/Å.

An edge may hold the gradient of its reverse too, which then has none: only sums over edges have a meaning.
"""


@dataclass(frozen=True)
class RunnableModel:
    """A potential that can be evaluated, and what its caller has to know.

    Attributes:
        evaluate: Staged graph to energies and gradient.
        species: Elements, in the order of their codes.
        cutoff: Of every layer, Å.
        num_layers: Message-passing layers.
        evaluate_members: Of a committee, the same for each member: arrays with the members in front.
        calibration: Of the deviations of a committee's energies, forces and stress, plain (see
            `kimgnn.evaluation.calibrated.Calibration`); empty without one.
        training_data: What it tells of the structures that it was trained on; empty in older files.
    """

    evaluate: Evaluate
    species: list[str]
    cutoff: float
    num_layers: int
    evaluate_members: Evaluate | None = None
    calibration: Mapping[str, Any] = field(default_factory=dict)
    training_data: Mapping[str, Any] = field(default_factory=dict)


def load_exported(path: str | Path) -> RunnableModel:
    """Load ``model.pt``, ``model.pt2`` or ``model.onnx``.

    The first two do not say what their species, cutoff and layers are: ``kimgnn.param`` has to lie beside them. ONNX
    Runtime takes as many threads as torch does (``OMP_NUM_THREADS``, or `torch.set_num_threads`).

    Raises:
        ModelError: There is no such file, it is damaged, it was not exported by kimgnn or by another version of it, or
            the package that runs it is missing.
    """
    path = Path(path)
    if path.suffix not in LOADERS:
        allowed = ", ".join(LOADERS)
        raise ModelError("not the suffix of an exported model", where=str(path), value=path.suffix, allowed=allowed)
    if not path.is_file():
        raise ModelError("no such file", where=str(path), remedy="Give the model's file in an exported folder.")
    return LOADERS[path.suffix](path)


def differentiated(potential: Callable[..., Tensor]) -> Evaluate:
    """Return a function of torch with the inputs of `StagedGraph`, which gives energies only, as an `Evaluate`."""

    def evaluate(graph: StagedGraph) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        with torch.enable_grad():
            vectors = graph.edge_vectors.detach().requires_grad_()
            energies = potential(*graph._replace(edge_vectors=vectors))
            (edge_gradient,) = gradient(energies, [vectors], create_graph=False)
        return energies.detach().numpy(), edge_gradient.numpy()

    return evaluate


def one_by_one(members: Sequence[Evaluate]) -> Evaluate:
    """Return a function that evaluates each member of a committee, given one of each."""

    def evaluate(graph: StagedGraph) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        energies, gradients = zip(*(evaluate_member(graph) for evaluate_member in members), strict=True)
        return np.stack(energies), np.stack(gradients)

    return evaluate


def _load_torchscript(path: Path) -> RunnableModel:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", DeprecationWarning)
            module = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
        inputs = [argument.name for argument in module.forward.schema.arguments[1:]]
    except Exception as error:  # torch raises many kinds on a damaged file
        raise _damaged(path, "TorchScript", error) from error
    if inputs != list(INPUTS):
        raise _foreign(path, f"a forward of {', '.join(inputs)}", f"a forward of {', '.join(INPUTS)}")

    def as_written(function: Callable[..., Tensor], *arguments: Tensor | list[int] | int) -> Tensor:
        # The optimiser specialises the code for the sizes it saw, and fails on others after an operation in place.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return function(*arguments)

    of_members = None
    if hasattr(module, "num_members"):
        members = range(module.num_members)
        of_members = one_by_one([differentiated(partial(as_written, module.member, index)) for index in members])
    return _described_beside(path, differentiated(partial(as_written, module)), of_members)


def _load_pt2(path: Path) -> RunnableModel:
    from torch._inductor import aoti_load_package

    try:
        with _quiet_about_processors():
            package = aoti_load_package(str(path))
    except Exception as error:  # torch raises many kinds on a damaged file
        raise _damaged(path, "an AOTInductor package", error) from error

    def evaluate(first: int, graph: StagedGraph) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        edge_of_pair, pair_of_edge, pair_counts = find_pairs(graph.reverse_edge, graph.edge_counts)
        counts = [*graph.node_counts, *graph.edge_counts, *pair_counts]
        outputs = package(
            graph.species_codes,
            graph.edge_index,
            graph.edge_vectors,
            edge_of_pair,
            pair_of_edge,
            *(torch.empty(count, dtype=torch.int64) for count in counts),
        )
        return outputs[first].numpy(), outputs[first + 1].numpy()

    return _described_beside(path, partial(evaluate, 0), partial(evaluate, len(OUTPUTS)))


@contextmanager
def _quiet_about_processors() -> Iterator[None]:
    """Silence torch's warning that a file was compiled for less than this very processor, as ours are on purpose."""
    logger = logging.getLogger("torch.export.pt2_archive._package")

    def other_than_that(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Device information mismatch")

    logger.addFilter(other_than_that)
    try:
        yield
    finally:
        logger.removeFilter(other_than_that)


def _load_onnx(path: Path) -> RunnableModel:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("onnxruntime is not installed", where=str(path), remedy="pip install kimgnn[onnx]") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_mem_pattern = False  # a plan of the memory for each number of edges, of which every step has another
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds
        raise _damaged(path, "ONNX", error) from error
    metadata = session.get_modelmeta().custom_metadata_map
    if metadata.get("contract") not in (str(CONTRACT), str(COMMITTEE_CONTRACT)):
        found = f"contract {metadata.get('contract', '(none)')}"
        raise _foreign(path, found, f"contract {CONTRACT} or {COMMITTEE_CONTRACT}")

    def evaluate(outputs: Sequence[str], graph: StagedGraph) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        inputs = {name: np.asarray(value) for name, value in zip(INPUTS, graph, strict=True)}
        energies, gradients = session.run(outputs, inputs)
        return energies, gradients

    return RunnableModel(
        partial(evaluate, OUTPUTS),
        metadata["species"].split(),
        float(metadata["cutoff"]),
        int(metadata["layers"]),
        partial(evaluate, MEMBER_OUTPUTS) if metadata["contract"] == str(COMMITTEE_CONTRACT) else None,
        **_known(metadata),
    )


LOADERS: Final = {".pt": _load_torchscript, ".pt2": _load_pt2, ".onnx": _load_onnx}
"""Suffix -> what loads such a file."""


def _described_beside(path: Path, evaluate: Evaluate, of_members: Evaluate | None) -> RunnableModel:
    parameter_file = path.with_name(PARAMETER_FILE)
    parameters = read_parameters(parameter_file)
    if parameters.model != path.name:
        raise ModelError("describes another file", where=str(parameter_file), value=parameters.model, allowed=path.name)
    of_members = of_members if parameters.members > 1 else None
    said = _known(_archived(path))
    return RunnableModel(evaluate, parameters.species, parameters.cutoff, parameters.layers, of_members, **said)


def _archived(path: Path) -> dict[str, str]:
    """Return what a TorchScript or pt2 file tells of itself; nothing if it is older than that."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(f"/{METADATA_ENTRY}"):
                return json.loads(archive.read(name))
    return {}


def _known(metadata: Mapping[str, str]) -> dict[str, Any]:
    return {
        "calibration": json.loads(metadata.get(CALIBRATION, "{}")),
        "training_data": json.loads(metadata.get(SUMMARY, "{}")),
    }


def _damaged(path: Path, what: str, error: Exception) -> ModelError:
    reason = str(error).strip().partition("\n")[0]
    return ModelError(
        f"the file is damaged or not {what} ({type(error).__name__}: {reason})",
        where=str(path),
        remedy="Export the model again, with the version of torch and kimgnn that it shall run with.",
    )


def _foreign(path: Path, found: str, allowed: str) -> ModelError:
    return ModelError(
        "not exported by kimgnn, or by another version of it",
        where=str(path),
        value=found,
        allowed=allowed,
        remedy="Export the model again with this version.",
    )
