"""Random forests as torch modules: what scikit-learn fitted, in a form that is saved and exported with a network."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

_ARRAYS: Final = ("feature", "threshold", "child", "value", "roots")


class Forest(nn.Module):
    """The mean over decision trees; without trees until `set_trees`, or until a state with trees is loaded.

    All trees are in the same arrays, and the two children of a node are neighbours there, so that a step down all trees
    is a look-up and a comparison. A leaf is its own child.

    Attributes:
        feature: ``(n_nodes,)`` int32, the feature that a node looks at.
        threshold: ``(n_nodes,)`` float64; above it the right child follows. Infinite in a leaf.
        child: ``(n_nodes,)`` int32, the left child; the right one is the next node.
        value: ``(n_nodes, n_outputs)`` float64.
        roots: ``(n_trees,)`` int32, the first node of each tree.
        depth: Steps from a root to the deepest leaf.
        fitted: Whether there are trees.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("feature", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("child", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("value", torch.zeros(0, 1, dtype=torch.float64))
        self.register_buffer("roots", torch.zeros(0, dtype=torch.int32))
        self.feature: Tensor
        self.threshold: Tensor
        self.child: Tensor
        self.value: Tensor
        self.roots: Tensor
        self.depth = 0
        self.fitted = False

    def set_trees(self, arrays: Mapping[str, Tensor]) -> None:
        """Take the arrays of other trees, by the names of the attributes."""
        for name in _ARRAYS:
            setattr(self, name, arrays[name].to(getattr(self, name)))
        self.depth, self.fitted = self._measure(), len(self.roots) > 0

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(n_rows, n_outputs)`` float64 of ``(n_rows, n_features)`` float64; NaN where a feature is NaN."""
        # scikit-learn compares features in single precision with thresholds in double.
        rounded = features.to(torch.float32).to(torch.float64)
        node = self.roots.to(torch.int64).unsqueeze(0) + torch.zeros_like(rounded[:, :1], dtype=torch.int64)
        feature, child = self.feature.to(torch.int64), self.child.to(torch.int64)
        for _ in range(self.depth):
            right = rounded.gather(1, feature[node]) > self.threshold[node]
            node = child[node] + right.to(torch.int64)
        unknown = (features * 0.0).sum(1, keepdim=True)
        return self.value[node].mean(1) + unknown

    def _measure(self) -> int:
        """Return the steps after which every walk, whatever the features, is in a leaf."""
        depth, nodes = 0, self.roots.to(torch.int64)
        while len(nodes := nodes[self.child[nodes] != nodes]):
            first = self.child[nodes].to(torch.int64)
            nodes, depth = torch.cat([first, first + 1]), depth + 1
        return depth

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        if f"{prefix}roots" in state_dict:
            self.set_trees({name: state_dict[f"{prefix}{name}"] for name in _ARRAYS})
        super()._load_from_state_dict(state_dict, prefix, *args)
