"""The classification head: node features to the probabilities of classes."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from kimgnn.errors import ModelError
from kimgnn.heads.members import MeanClass
from kimgnn.heads.readout import ReadoutOptions
from kimgnn.nn.fusion import NoForest
from kimgnn.nn.mlp import make_mlp
from kimgnn.nn.pooling import pool


@dataclass(frozen=True)
class ClassificationOptions(ReadoutOptions):
    """Options of the classification head.

    Attributes:
        classes: The classes in order, as the data write them: ``[insulator, metal]``, ``[0, 1, 2]`` or
            ``[false, true]``. Of two, the second is the positive one.
        threshold: For a target that is a number: up to it is the first of two classes, above it the second.
        class_weights: What an example of each class counts for in the loss: ``none`` (all the same), ``balanced``
            (inverse to its share of the training set), or numbers. Weights shift the probabilities that come out: those
            of ``balanced`` are of data with as many of each class.
    """

    classes: list[str | int | bool] | None = None
    threshold: float | None = None
    class_weights: Literal["none", "balanced"] | list[float] = "none"

    def __post_init__(self) -> None:
        """Check ranges, and what goes together.

        Raises:
            ValueError: An option is out of range; the message names it.
        """
        super().__post_init__()
        names = self.class_names
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"classes must be two or more different ones (got {self.classes})")
        if self.threshold is not None and len(names) != 2:
            raise ValueError(f"threshold divides into two classes (got {len(names)})")
        if isinstance(self.class_weights, list):
            if len(self.class_weights) != len(names):
                raise ValueError(f"class_weights must have {len(names)} numbers (got {len(self.class_weights)})")
            if min(self.class_weights) < 0 or max(self.class_weights) == 0:
                raise ValueError(f"class_weights must not be negative, nor all 0 (got {self.class_weights})")

    @property
    def class_names(self) -> list[str]:
        """The classes as text; without ``classes``, those below and above the threshold, or 0 and 1."""
        if self.classes is not None:
            return [str(name).lower() if isinstance(name, bool) else str(name) for name in self.classes]
        return ["0", "1"] if self.threshold is None else [f"<= {self.threshold:g}", f"> {self.threshold:g}"]


class ClassificationHead(nn.Module):
    """Logits of the classes of a structure, from its pooled features.

    Args:
        options: Options with numbers: ``class_weights`` no more ``balanced``.
        in_channels: Features of a node.
        atomic_numbers: Not needed; heads are all built alike.

    Raises:
        ModelError: ``class_weights`` still says ``balanced``.
    """

    Options = ClassificationOptions

    def __init__(self, options: ClassificationOptions, in_channels: int, atomic_numbers: dict[str, int]) -> None:
        super().__init__()
        if options.class_weights == "balanced":
            raise ModelError(
                "must be given when the network is built",
                where=f"heads.{options.target}.class_weights",
                value="balanced",
                remedy="The trainer counts the training set; give numbers when building a network by hand.",
            )
        self.options = options
        self.readout = options.readout
        n_classes = len(options.class_names)
        weights = [1.0] * n_classes if options.class_weights == "none" else options.class_weights
        hidden = options.hidden_channels or in_channels
        outputs = 1 if n_classes == 2 else n_classes
        self.mlp = make_mlp(
            in_channels, hidden, options.num_hidden_layers, outputs, options.activation, options.dropout
        )
        self.late: nn.Module = NoForest()
        self.register_buffer("class_weights", torch.tensor(weights, dtype=torch.float64))
        self.class_weights: Tensor

    def forward(self, features: Tensor, z: Tensor, node_graph: Tensor | None, n_graphs: int) -> Tensor:
        """Return logits float64: ``(n_graphs, 1)`` of the second of two classes, or ``(n_graphs, n_classes)``.

        Arguments as those of `kimgnn.heads.property.PropertyHead.forward`.
        """
        logits = self.mlp(pool(features, node_graph, n_graphs, self.readout)).to(torch.float64)
        return self.late(logits, z, node_graph, n_graphs)

    def mean_of_members(self, temperature: float = 1.0) -> MeanClass:
        """Return what joins the outputs of several such heads, each divided by a temperature."""
        return MeanClass(temperature)


def probabilities(logits: Tensor) -> Tensor:
    """Return the probabilities of the classes, ``(n_graphs, n_classes)``, of what `ClassificationHead` returned."""
    if logits.shape[1] > 1:
        return torch.softmax(logits, dim=1)
    return torch.cat([torch.sigmoid(-logits), torch.sigmoid(logits)], dim=1)
