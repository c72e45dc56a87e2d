"""What heads that speak of a whole structure, or of each atom, have in common: pooling and an MLP."""

from dataclasses import dataclass

from kimgnn.nn.activations import Activation
from kimgnn.nn.options import Options
from kimgnn.nn.pooling import Readout


@dataclass(frozen=True)
class ReadoutOptions(Options):
    """Options of the layers between node features and a property or class.

    Attributes:
        target: The label that it learns: its name in `dataset.targets` or in the data.
        name: What its predictions are called; the target's name when absent.
        weight: What its loss counts for beside those of the other heads.
        readout: How the features of atoms become the structure's: ``mean``, ``sum`` or ``max``.
        num_hidden_layers: Hidden layers of the MLP after it.
        hidden_channels: Their width; the trunk's when absent.
        activation: Their activation function.
        dropout: Probability that a hidden feature is dropped in training.
    """

    target: str
    name: str | None = None
    weight: float = 1.0
    readout: Readout = "mean"
    num_hidden_layers: int = 1
    hidden_channels: int | None = None
    activation: Activation = "softplus"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: An option is out of range; the message names it.
        """
        for option in ("target", "name"):
            value = getattr(self, option)
            if value is not None and (not value or set(value) & set("./\\") or value in RESERVED):
                raise ValueError(
                    f"{option} must be a word without . / \\, and none of {', '.join(RESERVED)} (got {value!r})"
                )
        if not self.weight >= 0:
            raise ValueError(f"weight must not be negative (got {self.weight})")
        if self.num_hidden_layers < 0:
            raise ValueError(f"num_hidden_layers must not be negative (got {self.num_hidden_layers})")
        if self.hidden_channels is not None and self.hidden_channels < 1:
            raise ValueError(f"hidden_channels must be at least 1 (got {self.hidden_channels})")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1 (got {self.dropout})")


RESERVED = ("energy", "forces", "stress", "atomic_energies")
"""Names that the energy head's predictions have."""
