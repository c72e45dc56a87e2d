"""The property head: node features to a scalar, vector or per-atom property, in the property's own unit."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from kimgnn.errors import ModelError
from kimgnn.heads.members import MeanProperty
from kimgnn.heads.readout import ReadoutOptions
from kimgnn.nn.fusion import NoForest
from kimgnn.nn.mlp import make_mlp
from kimgnn.nn.pooling import pool

Transform: TypeAlias = Literal["none", "log10", "per_atom"]
"""What is learned instead of a value: itself, its decimal logarithm, or its share of an atom."""


@dataclass(frozen=True)
class PropertyOptions(ReadoutOptions):
    """Options of the property head.

    Attributes:
        unit: Unit of the target, for reports; nothing is converted.
        components: Numbers in the target: 3 for a vector.
        per_atom: The target is a property of each atom, not of the structure.
        extensive: The target grows with the number of atoms, as a total energy does: atoms contribute to a sum.
        transform: What is learned: the value itself (``none``), its decimal logarithm (``log10``) or the value divided
            by the number of atoms (``per_atom``; always so for an extensive target). Undone in every prediction.
        standardize: Learn the deviation from the mean of the training set in units of its standard deviation.
        reference: A value for each element, added to what the network says (averaged over the atoms): ``fit`` (ridge
            regression on the training set), ``none``, or given as ``{Si: -5.4}``. Without it, ``fit`` for an extensive
            target and ``none`` for others.
        loss: ``mse``, ``mae``, ``huber``, or ``nll``: the likelihood of a normal distribution whose width the network
            predicts too (Nix & Weigend 1994).
        huber_delta: Where Huber's error turns from squared to absolute, in units of the spread.
        mean: Of what is learned; ``fit``, or numbers.
        spread: Its unit: the standard deviation of what is learned; ``fit``, or numbers.
    """

    unit: str = ""
    components: int = 1
    per_atom: bool = False
    extensive: bool = False
    transform: Transform = "none"
    standardize: bool = True
    reference: Literal["fit", "none"] | dict[str, float] | None = None
    loss: Literal["mse", "mae", "huber", "nll"] = "mse"
    huber_delta: float = 1.0
    mean: Literal["fit"] | list[float] = "fit"
    spread: Literal["fit"] | list[float] = "fit"

    def __post_init__(self) -> None:
        """Check ranges, and what goes together.

        Raises:
            ValueError: An option is out of range; the message names it.
        """
        super().__post_init__()
        if self.components < 1:
            raise ValueError(f"components must be at least 1 (got {self.components})")
        if not self.huber_delta > 0:
            raise ValueError(f"huber_delta must be positive (got {self.huber_delta})")
        if self.extensive and self.per_atom:
            raise ValueError("extensive cannot be true for a property of each atom (per_atom: true)")
        if self.extensive and self.transform == "log10":
            raise ValueError("transform must be 'none' or 'per_atom' for an extensive target: its logarithm is no sum")
        if self.per_atom and self.transform == "per_atom":
            raise ValueError("transform cannot be 'per_atom' for a property of each atom (per_atom: true)")
        if self.components > 1 and self.reference not in (None, "none"):
            raise ValueError("reference must be 'none' for a target of several components")
        for option in ("mean", "spread"):
            values = getattr(self, option)
            if values != "fit" and len(values) != self.components:
                raise ValueError(f"{option} must have {self.components} numbers (got {len(values)})")
        if self.spread != "fit" and min(self.spread) <= 0:
            raise ValueError(f"spread must be positive (got {self.spread})")

    @property
    def learned(self) -> Transform:
        """What is learned instead of the value."""
        return "per_atom" if self.extensive else self.transform


class PropertyHead(nn.Module):
    """``t = mean + spread · MLP + ⟨reference(z_i)⟩``: the property itself, its logarithm or its share of an atom.

    An intensive property is that of the pooled features (CGCNN's pooling and hidden layer, Xie & Grossman 2018); an
    extensive one is the sum of what the MLP says of each atom, so that a supercell has exactly its multiple. Heads work
    in what they learn; `physical` gives what a user sees.

    Args:
        options: Options with numbers: nothing left to ``fit``.
        in_channels: Features of a node.
        atomic_numbers: Element -> atomic number, for the elements of the reference values.

    Raises:
        ModelError: Something still says ``fit``.
    """

    Options = PropertyOptions

    def __init__(self, options: PropertyOptions, in_channels: int, atomic_numbers: dict[str, int]) -> None:
        super().__init__()
        for option in ("reference", "mean", "spread"):
            if getattr(options, option) == "fit":
                raise ModelError(
                    "must be given when the network is built",
                    where=f"heads.{options.target}.{option}",
                    value="fit",
                    remedy="The trainer fits it on the training set; give numbers when building a network by hand.",
                )
        self.options = options
        self.components = options.components
        self.per_atom = options.per_atom
        self.extensive = options.extensive
        self.readout = options.readout
        self.learned: str = options.learned  # not the options: TorchScript knows no dataclasses
        outputs = options.components * (2 if options.loss == "nll" else 1)
        hidden = options.hidden_channels or in_channels
        self.mlp = make_mlp(
            in_channels, hidden, options.num_hidden_layers, outputs, options.activation, options.dropout
        )
        reference = torch.zeros(119, dtype=torch.float64)
        if isinstance(options.reference, dict):
            for symbol, value in options.reference.items():
                reference[atomic_numbers[symbol]] = value
        self.late: nn.Module = NoForest()
        self.has_reference = isinstance(options.reference, dict)
        self.register_buffer("reference", reference)
        self.register_buffer("mean", torch.tensor(options.mean, dtype=torch.float64))
        self.register_buffer("spread", torch.tensor(options.spread, dtype=torch.float64))
        self.reference: Tensor
        self.mean: Tensor
        self.spread: Tensor

    def forward(self, features: Tensor, z: Tensor, node_graph: Tensor | None, n_graphs: int) -> Tensor:
        """Return what is learned, ``(n_graphs, components)`` float64; ``(n_atoms, components)`` of a per-atom property.

        With ``loss: nll`` there are twice as many columns: after the values, the logarithms of their variances in units
        of the squared spread.

        Args:
            features: ``(n_atoms, in_channels)``.
            z: ``(n_atoms,)`` int64, atomic numbers.
            node_graph: ``(n_atoms,)`` int64, the graph of each atom; ``None`` for a single structure.
            n_graphs: Number of graphs.
        """
        by_atom = self.per_atom or self.extensive
        if not by_atom:
            features = pool(features, node_graph, n_graphs, self.readout)
        output = self.mlp(features).to(torch.float64)
        if self.extensive:
            # The share of an atom: the sum over atoms, divided by their number.
            output = pool(output, node_graph, n_graphs, "mean")
        values = self.mean + self.spread * output[:, : self.components]
        if self.has_reference:
            reference = self.reference[z].unsqueeze(-1)
            values = values + (reference if self.per_atom else pool(reference, node_graph, n_graphs, "mean"))
        return self.late(torch.cat([values, output[:, self.components :]], dim=1), z, node_graph, n_graphs)

    def mean_of_members(self) -> MeanProperty:
        """Return what joins the outputs of several such heads, of one mean and spread."""
        return MeanProperty(self.components, self.spread)

    def physical(self, output: Tensor, n_atoms: Tensor) -> Tensor:
        """Return the property in its own unit, ``(n_graphs, components)``, of what `forward` returned.

        Args:
            output: As `forward` returned it.
            n_atoms: ``(n_graphs,)`` int64, atoms of each structure.
        """
        return undo_transform(output[:, : self.components], self.learned, n_atoms)

    def deviation(self, output: Tensor, n_atoms: Tensor) -> Tensor | None:
        """Return the standard deviation that a head with ``loss: nll`` predicts, in the property's unit; else ``None``.

        That of a logarithm is carried over to first order: ``ln 10 · y · σ``.
        """
        if output.shape[1] == self.components:
            return None
        deviation = self.spread * torch.exp(0.5 * output[:, self.components :])
        if self.learned == "per_atom":
            return deviation * n_atoms.unsqueeze(-1)
        if self.learned == "log10":
            return deviation * self.physical(output, n_atoms) * torch.log(torch.tensor(10.0, dtype=torch.float64))
        return deviation


def apply_transform(target: Tensor, transform: Transform, n_atoms: Tensor) -> Tensor:
    """Return what is learned of targets ``(n_graphs, components)``; ``n_atoms`` is ``(n_graphs,)``. NaN stays NaN."""
    if transform == "log10":
        return torch.log10(target)
    return target / n_atoms.unsqueeze(-1) if transform == "per_atom" else target


def undo_transform(learned: Tensor, transform: str, n_atoms: Tensor) -> Tensor:
    """Return the values ``(n_graphs, components)`` that `apply_transform` made ``learned`` of."""
    if transform == "log10":
        return torch.pow(10.0, learned)
    return learned * n_atoms.unsqueeze(-1) if transform == "per_atom" else learned
