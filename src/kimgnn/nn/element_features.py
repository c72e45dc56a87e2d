"""What an atom begins with: features of its element, learned or from a fixed table."""

from typing import Final

import torch
from torch import Tensor, nn

N_PROPERTIES: Final = 92
"""Width of CGCNN's table of binned properties."""

_BUILTIN: Final = ("embedding", "onehot", "properties")


def check_element_features(name: str) -> None:
    """Do nothing if ``name`` is what `make_element_features` takes.

    Raises:
        ValueError: It is not.
    """
    if name not in _BUILTIN and not name.endswith(".json"):
        raise ValueError(f"element_features must be {', '.join(_BUILTIN)} or a .json file (got {name!r})")


def make_element_features(name: str, channels: int, max_z: int) -> nn.Module:
    """Return what makes ``(n_nodes, channels)`` features of atomic numbers ``(n_nodes,)``.

    Args:
        name: ``embedding`` (learned), ``onehot``, ``properties`` (CGCNN's 92 binned ones) or a JSON file in CGCNN's
            format. Of the last two the table is given later, by `ElementTable.set_table`.
        channels: Features that come out.
        max_z: Largest atomic number that is embedded or one-hot.
    """
    if name == "embedding":
        return nn.Embedding(max_z + 1, channels)
    if name == "onehot":
        return ElementTable(torch.eye(max_z + 1), channels)
    # Until the table is there, whatever is computed is NaN.
    return ElementTable(torch.full((119, N_PROPERTIES), torch.nan), channels)


class ElementTable(nn.Module):
    """A row of a table for each atom, and a linear map of it, as CGCNN begins.

    The table is part of the weights' file, so that a network is read without what the table was computed from; one of
    another width than this module's is taken over when it is loaded. Elements without a row are NaN there: what is
    computed of one is NaN, not a wrong number.

    Args:
        table: ``(n_elements, width)``, a row for each atomic number from 0.
        channels: Features that come out.

    Attributes:
        table: The table.
        linear: What maps its rows.
    """

    def __init__(self, table: Tensor, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("table", table)
        self.table: Tensor
        self.linear = nn.Linear(table.shape[1], channels)

    def set_table(self, table: Tensor) -> None:
        """Take another table; if it has another width, with fresh weights.

        Args:
            table: ``(n_elements, width)``, a row for each atomic number from 0; NaN where an element has none.
        """
        table = table.to(self.table)
        if table.shape[1] != self.table.shape[1]:
            self.linear = nn.Linear(table.shape[1], self.channels).to(table)
        self.table = table

    def forward(self, z: Tensor) -> Tensor:
        """Return ``(n_nodes, channels)`` of atomic numbers ``(n_nodes,)``."""
        return self.linear(self.table.index_select(0, z))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        table = state_dict.get(f"{prefix}table")
        if table is not None and table.shape != self.table.shape:
            self.set_table(table)
        super()._load_from_state_dict(state_dict, prefix, *args)
