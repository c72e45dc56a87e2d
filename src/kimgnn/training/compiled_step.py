"""Steps of training a potential, compiled: loss and gradient as one function of the weights and a batch.

Forces are a derivative, and the loss is derived through them: about a thousand operations on small tensors, each of
which torch calls by itself. Here torch writes them down once, derivatives and all, with the sizes of a batch left open
(`make_fx`), and its compiler makes a few dozen loops and the matrix products of them (Inductor). What is validated and
saved is the network itself, which has the same weights.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Final, NamedTuple

import torch
from loguru import logger
from torch import Tensor, nn
from torch._dynamo.source import ConstantSource
from torch._inductor import standalone_compile
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch._subclasses import FakeTensorMode
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from kimgnn.errors import ManifestError, TrainingError
from kimgnn.fields import (
    CELL,
    CONFIG_WEIGHT,
    CONTRIBUTIONS,
    COORDS,
    EDGE_INDEX,
    EDGE_OF_PAIR,
    ENERGY,
    ENERGY_WEIGHT,
    FORCES,
    FORCES_WEIGHT,
    PAIR_OF_EDGE,
    SHIFTS,
    STRESS,
    STRESS_WEIGHT,
    Z,
)
from kimgnn.models.network import Network
from kimgnn.models.schnet import SchNet
from kimgnn.nn.pair_convolution import Slots, in_slots, slots_of
from kimgnn.nn.splines import Columns
from kimgnn.nn.step_tables import FoundPlaces
from kimgnn.physics.potential import Potential
from kimgnn.training.losses import Loss, LossTerms, atom_counts
from kimgnn.training.tables import StepTables

WHERE: Final = "training.compile"

_AXES: Final[dict[str, tuple[str | int, ...]]] = {
    COORDS: ("atoms", 3),
    Z: ("atoms",),
    CONTRIBUTIONS: ("atoms",),
    FORCES: ("atoms", 3),
    FORCES_WEIGHT: ("atoms", 1),
    EDGE_INDEX: (2, "edges"),
    SHIFTS: ("edges", 3),
    PAIR_OF_EDGE: ("edges",),
    EDGE_OF_PAIR: ("pairs",),
    CELL: ("graphs", 3, 3),
    ENERGY: ("graphs",),
    STRESS: ("graphs", 6),
    CONFIG_WEIGHT: ("graphs",),
    ENERGY_WEIGHT: ("graphs",),
    STRESS_WEIGHT: ("graphs",),
}
"""What is needed of a batch, and its sizes: those with a name are open."""

_AXES_BESIDE: Final[tuple[tuple[str | int, ...], ...]] = (("graphs",), *(("slots", "atoms"),) * 3)
"""The same of the numbers of atoms, and of `Slots`."""

_AXES_OF_PLACES: Final[tuple[tuple[str | int, ...], ...]] = (("sites",), (), ("pairs",), ("sites",), ("entries",))
"""The same of `FoundPlaces`."""

_OPTIONS: Final = {"config_patches": {"size_asserts": False, "assert_indirect_indexing": False}}
"""Of the compiler: what graphs hold was made by us, and eager steps do not look either."""


@torch.library.custom_op("kimgnn::add_rows", mutates_args=())
def add_rows(table: Tensor, index: Tensor, rows: Tensor, factor: float) -> Tensor:
    """Return a table with rows added to it, in their order: compiled loops would add them as threads come by."""
    return table.index_add(0, index, rows, alpha=factor)


@add_rows.register_fake
def _(table: Tensor, index: Tensor, rows: Tensor, factor: float) -> Tensor:
    return torch.empty_like(table)


def _index_add(table: Tensor, dim: int, index: Tensor, rows: Tensor, *, alpha: float = 1.0) -> Tensor:
    if dim != 0:
        return NotImplemented
    return add_rows(table, index, rows, float(alpha))


def _embedding_backward(gradient: Tensor, index: Tensor, n_rows: int, *others: Any) -> Tensor:
    return add_rows(gradient.new_zeros(n_rows, gradient.shape[1]), index, gradient, 1.0)


_IN_ORDER: Final[dict[Any, Callable[..., Any]]] = {
    torch.ops.aten.index_add.default: _index_add,
    torch.ops.aten.embedding_dense_backward.default: _embedding_backward,
}
"""Operators that runs would not repeat bit by bit -> what stands for them."""


class Step(NamedTuple):
    """What a step has computed.

    Attributes:
        loss: ``()``, whose gradient by the weights is known.
        terms: Of the loss.
        predicted: ``energy``, and the labels that the loss uses; nothing is derived of these.
    """

    loss: Tensor
    terms: LossTerms
    predicted: dict[str, Tensor]


class CompiledStep:
    """Computes steps by a compiled function, which is made of the first batch.

    Args:
        potential: Whose weights are learned.
        loss: What is made small.
        tables: Stand for parts of the network.
        several: Batches have several structures, as a rule: one of a single structure is not compiled for then.

    Raises:
        ManifestError: The network is not one that can be compiled.
        TrainingError: There is no compiler.
    """

    def __init__(self, potential: nn.Module, loss: Loss, tables: StepTables | None, several: bool) -> None:
        if reason := refusal(potential):
            raise ManifestError(reason, where=WHERE, value=True, allowed="false")
        _require_compiler()
        self._network = _WithTables(potential, tables)
        self._loss = loss
        self._tables = tables
        self._several = several
        self._weights: dict[str, Tensor] = {}
        self._learned: list[Tensor] = []
        self._compiled: Callable[..., Sequence[Tensor]] | None = None
        self._holds: Callable[[Sequence[Tensor]], bool]

    def __deepcopy__(self, memo: dict[int, Any]) -> "CompiledStep":
        return self  # averaged weights have a copy of all, and take no steps

    def check(self, device: torch.device, processes: int) -> None:
        """Do nothing where steps can be compiled for the devices that are trained on.

        Raises:
            ManifestError: They cannot.
        """
        if device.type != "cpu":
            raise ManifestError("is for CPUs", where=WHERE, value=True, allowed="false")
        if processes > 1:
            raise ManifestError("is for a single process", where=WHERE, value=True, allowed="false")

    def __call__(self, batch: Any) -> Step | None:
        """Return what is computed for a batch, or ``None`` for one that was not compiled for, such as a single atom."""
        given = self._given(batch)
        if given is None:
            return None
        with torch.no_grad():
            if self._compiled is None:
                self._compile(given)
            inputs = [*self._weights.values(), *given]
            if self._compiled is None or not self._holds(inputs):
                return None
            loss, sums, counts, *found = self._compiled(*inputs)
        names = self._labels()
        gradients = found[len(names) :]
        known: Tensor = _Known.apply(loss, gradients, *self._learned)  # type: ignore[no-untyped-call]
        return Step(known, LossTerms(sums, counts), dict(zip(names, found, strict=False)))

    def _labels(self) -> list[str]:
        return [ENERGY, *(label for label in (FORCES, STRESS) if self._loss.uses(label))]

    def _given(self, batch: Any) -> list[Tensor] | None:
        """Return what the compiled function takes of a batch, or ``None`` where it takes none such."""
        graph = {name: batch[name] for name in _AXES} | {CELL: batch[CELL].view(-1, 3, 3)}
        if (graph[CELL].shape[0] > 1) != self._several:  # a size of 1 is never left open
            return None
        edges, pairs, coords = graph[EDGE_INDEX], graph[EDGE_OF_PAIR], graph[COORDS]
        given = [*graph.values(), atom_counts(batch), *slots_of(edges, graph[PAIR_OF_EDGE], coords.shape[0])]
        if self._tables is not None:
            ends = edges.index_select(1, pairs)
            vectors = coords.index_select(0, ends[1]) - coords.index_select(0, ends[0])
            vectors += graph[SHIFTS].index_select(0, pairs)
            places = self._tables.find(torch.linalg.vector_norm(vectors.to(self._tables.dtype), dim=-1))
            if places is None:
                return None
            sites, skipped, first, columns = places
            given += [sites, skipped, first, *columns]
        return given

    def _compile(self, given: list[Tensor]) -> None:
        """Make the compiled function, and what says which inputs it takes; neither, of a batch without an open size.

        Raises:
            TrainingError: It fails, with the reason.
        """
        self._weights = dict(self._network.named_parameters()) | dict(self._network.named_buffers())
        self._learned = [weight for weight in self._weights.values() if weight.requires_grad]
        sizes = _sizes_of(given)
        if min(size for name, size in sizes.items() if self._several or name != "graphs") < 2:
            return
        start = time.perf_counter()
        try:
            inputs = _open_inputs(list(self._weights.values()), given, sizes)
            follow = make_fx(self._step, _IN_ORDER, tracing_mode="fake", _allow_non_fake_inputs=True)
            graph = follow(*inputs)
            graph.graph.eliminate_dead_code()
            graph.recompile()
            compiled = standalone_compile(graph, inputs, options=_OPTIONS)
        except Exception as error:
            raise TrainingError(
                f"the step cannot be compiled: {type(error).__name__}: {str(error).strip().splitlines()[0]}",
                where=WHERE,
                remedy="Set training.compile to false.",
            ) from error
        # What torch took for granted on the way: which sizes are the same, and that none is below 2.
        environment = inputs[-1].fake_mode.shape_env
        condition = compile(environment.produce_guards_expression(inputs), "<sizes>", "eval")
        self._holds = partial(environment.evaluate_guards_expression, condition)
        self._compiled = compiled
        logger.info(f"The training step is compiled ({time.perf_counter() - start:.0f} s).")

    def _step(self, *flat: Tensor) -> tuple[Tensor, ...]:
        """Compute a step, for torch to write down."""
        weights = dict(zip(self._weights, flat, strict=False))
        given = flat[len(weights) :]
        graph = dict(zip(_AXES, given, strict=False))
        atoms, *beside = given[len(graph) :]
        places: FoundPlaces | None = None
        if self._tables is not None:
            sites, skipped, first, *columns = beside[3:]
            places = FoundPlaces(sites, skipped, first, Columns(*columns))
        learned = {
            name: weights[name].detach().requires_grad_() for name, own in self._weights.items() if own.requires_grad
        }
        with torch.enable_grad(), in_slots(Slots(*beside[:3])):
            # A layer that is applied several times is one module: by the first of its names it is found already.
            arguments = (graph, self._loss, places)
            predicted = functional_call(self._network, weights | learned, arguments, tie_weights=False)
            terms = self._loss.terms(predicted, graph, atoms)
            loss = terms.mean()
            gradients = torch.autograd.grad(loss, list(learned.values()), materialize_grads=True)
        said = (loss, terms.sums, terms.counts, *(predicted[name] for name in self._labels()))
        return *(tensor.detach() for tensor in said), *(gradient.contiguous() for gradient in gradients)


class _WithTables(nn.Module):
    """A potential, with tables in the place of parts of its network where there are any."""

    def __init__(self, potential: nn.Module, tables: StepTables | None) -> None:
        super().__init__()
        self.potential = potential
        self._tables = tables

    def forward(self, graph: Mapping[str, Tensor], loss: Loss, places: FoundPlaces | None) -> dict[str, Tensor]:
        """Return what is predicted of the labels that the loss uses."""
        wanted = {"forces": loss.uses(FORCES), "stress": loss.uses(STRESS)}
        with self._tables.in_place(places) if self._tables else nullcontext():
            predicted: dict[str, Tensor] = self.potential(graph, **wanted)
        return predicted


class _Known(torch.autograd.Function):
    """A number whose gradient by the weights was computed with it."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *weights: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scale = float(grad)
        return None, None, *(ctx.gradients if scale == 1.0 else [scale * gradient for gradient in ctx.gradients])


def refusal(potential: nn.Module) -> str:
    """Return why the steps of a potential cannot be compiled, or an empty string."""
    network = potential.network if isinstance(potential, Potential) else None
    if not isinstance(network, Network) or not isinstance(network.trunk, SchNet):
        return "is for SchNet alone"
    if list(network.heads) != [ENERGY]:
        return "is for networks with an energy head alone"
    if network.state_inputs or network.spec.composition:
        return "is for networks of the structure alone, without states or compositions"
    if any(isinstance(module, nn.Dropout) for module in network.modules()):
        return "is for networks without dropout"
    return ""


def _require_compiler() -> None:
    """Do nothing if there is a C++ compiler.

    Raises:
        TrainingError: There is none.
    """
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise TrainingError(
            "needs a C++ compiler, and torch finds none",
            where=WHERE,
            remedy="Install g++ (or name one in the variable CXX), or set training.compile to false.",
        ) from error


def _axes() -> list[tuple[str | int, ...]]:
    """Return the sizes of what `CompiledStep` takes of a batch, the last of which are those of tables."""
    return [*_AXES.values(), *_AXES_BESIDE, *_AXES_OF_PLACES]


def _sizes_of(given: list[Tensor]) -> dict[str, int]:
    """Return the open sizes of a batch, by name."""
    sizes: dict[str, int] = {}
    for tensor, axes in zip(given, _axes(), strict=False):
        sizes |= {axis: size for axis, size in zip(axes, tensor.shape, strict=True) if isinstance(axis, str)}
    return sizes


def _open_inputs(weights: list[Tensor], given: list[Tensor], sizes: Mapping[str, int]) -> list[Any]:
    """Return tensors like these, without numbers, for torch to follow; their sizes with a name are left open."""
    distinct: dict[str, int] = {}
    for name, size in sizes.items():
        while size > 1 and size in distinct.values():
            size += 1  # torch takes sizes that are equal here for equal in all batches
        distinct[name] = size
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    axes = [*(tuple(weight.shape) for weight in weights), *_axes()]
    inputs = []
    for index, (tensor, names) in enumerate(zip([*weights, *given], axes, strict=False)):
        example = tensor.new_empty([distinct[axis] if isinstance(axis, str) else axis for axis in names])
        is_open = [isinstance(axis, str) and distinct[axis] > 1 for axis in names]
        kinds: Any = StatelessSymbolicContext(
            [DimDynamic.DUCK if is_free else DimDynamic.STATIC for is_free in is_open]
        )
        inputs.append(mode.from_tensor(example, source=ConstantSource(f"input_{index}"), symbolic_context=kinds))
    return inputs
