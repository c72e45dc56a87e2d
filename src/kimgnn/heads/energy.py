"""The energy head: node features to atomic energies."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from kimgnn.errors import ModelError
from kimgnn.heads.members import MeanEnergy
from kimgnn.nn.activations import ShiftedSoftplus
from kimgnn.nn.options import Options


@dataclass(frozen=True)
class EnergyOptions(Options):
    """Options of the energy head.

    Attributes:
        reference_energies: Energy of an atom of each element, eV, added to what the network says: ``fit`` (least
            squares on the training set), ``none``, or given as ``{Si: -5.4}``.
        scale: Unit of the network's output, eV: ``fit`` (root mean square of the training forces, or the spread of
            the energies where there are none) or a number.
        hidden_channels: Width of the hidden layer; half of the trunk's when absent.
        dropout: Probability that a hidden feature is dropped in training, and in samples of the model's uncertainty.
    """

    reference_energies: Literal["fit", "none"] | dict[str, float] = "fit"
    scale: Literal["fit"] | float = "fit"
    hidden_channels: int | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: An option is out of range; the message names it.
        """
        if self.scale != "fit" and not self.scale > 0:
            raise ValueError(f"scale must be positive, in eV, or 'fit' (got {self.scale})")
        if self.hidden_channels is not None and self.hidden_channels < 1:
            raise ValueError(f"hidden_channels must be at least 1 (got {self.hidden_channels})")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1 (got {self.dropout})")


class EnergyHead(nn.Module):
    """Atomic energy ``E_i = scale · MLP(x_i) + reference(z_i)``, summed to the total in float64.

    The MLP is SchNet's atom-wise output (Schütt et al. 2018, figure 2): dense, shifted softplus, dense to one.

    Args:
        options: Options with numbers: nothing left to ``fit``.
        in_channels: Features of a node.
        atomic_numbers: Element -> atomic number, for the elements of the reference energies.

    Raises:
        ModelError: ``reference_energies`` or ``scale`` still says ``fit``.
    """

    Options = EnergyOptions

    def __init__(self, options: EnergyOptions, in_channels: int, atomic_numbers: dict[str, int]) -> None:
        super().__init__()
        for name in ("reference_energies", "scale"):
            if getattr(options, name) == "fit":
                raise ModelError(
                    "must be a number when the network is built",
                    where=f"heads.energy.{name}",
                    value="fit",
                    remedy="The trainer fits it on the training set; give numbers when building a network by hand.",
                )
        self.options = options
        hidden = options.hidden_channels or max(1, in_channels // 2)
        layers = [nn.Linear(in_channels, hidden), ShiftedSoftplus(), nn.Linear(hidden, 1)]
        if options.dropout > 0:
            layers.insert(2, nn.Dropout(options.dropout))
        self.mlp = nn.Sequential(*layers)
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        reference = torch.zeros(119, dtype=torch.float64)
        if isinstance(options.reference_energies, dict):
            for symbol, energy in options.reference_energies.items():
                reference[atomic_numbers[symbol]] = energy
        self.register_buffer("reference", reference)
        self.register_buffer("scale", torch.tensor(float(options.scale), dtype=torch.float64))
        self.reference: Tensor
        self.scale: Tensor

    def forward(self, features: Tensor, z: Tensor, node_graph: Tensor | None = None, n_graphs: int = 1) -> Tensor:
        """Return atomic energies, ``(n_atoms,)`` float64, eV.

        Args:
            features: ``(n_atoms, in_channels)``.
            z: ``(n_atoms,)`` int64, atomic numbers.
            node_graph: As other heads take it; an atom's energy does not depend on whose atom it is.
            n_graphs: Likewise.
        """
        return self.scale * self.mlp(features).squeeze(-1).to(torch.float64) + self.reference[z]

    def mean_of_members(self) -> MeanEnergy:
        """Return what joins the outputs of several such heads."""
        return MeanEnergy()
