"""Several networks as one: the mean of what they say, and how far they are from one another.

Networks that were trained from different seeds agree where the data say what is right, and part where they do not (deep
ensembles, Lakshminarayanan et al. 2017); so do the networks that dropout makes of one (Gal & Ghahramani 2016). The mean
is taken of what a head learns (of the logarithm, where that is learned), of atomic energies and of probabilities; the
forces are then the derivative of the mean energy, to rounding.
"""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from kimgnn.errors import ModelError
from kimgnn.models.network import Network
from kimgnn.nn.inputs import GraphInputs

MEMBERS: Final = "_members"
"""After ``energy``: the atomic energies of each member, ``(n_members, n_atoms)``, eV; after a classification head's
name: the logarithms of each member's probabilities, ``(n_members, n_graphs, n_classes)``."""


class Ensemble(Network):
    """Networks of one description, which differ by their weights, as one network.

    Besides what each head says (`Network.forward`), the energy head and classification heads say ``{name}_members``; a
    property head says what one with ``loss: nll`` says, so that `PropertyHead.deviation` is the standard deviation of
    the members.

    Args:
        members: Two or more.

    Attributes:
        members: Them.
        trunk: The first one's.
        heads: The first one's.

    Raises:
        ModelError: There are fewer than two, or they are of different descriptions.
    """

    def __init__(self, members: list[Network]) -> None:
        if len(members) < 2:
            raise ModelError("needs two networks at least", where="model.ensemble", value=len(members))
        specs = [member.spec for member in members]
        if any(spec != specs[0] for spec in specs):
            raise ModelError(
                "the networks of an ensemble differ by more than their weights",
                where="model.ensemble",
                remedy="Train them by one manifest with model.ensemble, on one training set.",
            )
        super().__init__(members[0].trunk, dict(members[0].heads.items()), replace(specs[0], members=len(members)))
        self.members = nn.ModuleList(members)
        heads: Any = self.heads
        self.means = nn.ModuleDict({name: head.mean_of_members() for name, head in heads.items()})

    def says_deviation(self, name: str) -> bool:
        """Return whether a head says how sure it is: every one does."""
        return True

    def with_heads(self, chosen: Callable[[str], bool]) -> Self:
        """Return a copy with those heads whose names are chosen."""
        ensemble = copy(self)
        ensemble._modules = dict(self._modules)
        members: Any = self.members
        ensemble.members = nn.ModuleList(member.with_heads(chosen) for member in members)
        first: Any = ensemble.members[0]
        ensemble._modules["trunk"], ensemble._modules["heads"] = first.trunk, first.heads
        ensemble.means = nn.ModuleDict({name: mean for name, mean in self.means.items() if chosen(name)})
        return ensemble

    def at_temperatures(self, temperatures: Mapping[str, float]) -> Self:
        """Return a copy in which members' logits of classes are divided by a temperature before they are joined.

        Args:
            temperatures: Classification head -> its own.
        """
        ensemble = copy(self)
        ensemble._modules = dict(self._modules)
        heads: Any = self.heads
        tempered = {name: heads[name].mean_of_members(temperature) for name, temperature in temperatures.items()}
        ensemble.means = nn.ModuleDict({name: tempered.get(name, mean) for name, mean in self.means.items()})
        return ensemble

    def forward(self, inputs: GraphInputs) -> dict[str, Tensor]:
        """Return what the members say together; see the class."""
        return self.join(self.each(inputs))

    def each(self, inputs: GraphInputs) -> list[dict[str, Tensor]]:
        """Return what each member says; the derivative of one costs nothing of the others."""
        said: list[dict[str, Tensor]] = []
        for member in self.members:
            said.append(member(inputs))
        return said

    def join(self, said: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return what members say together, of what `each` returned."""
        outputs: dict[str, Tensor] = {}
        for name, mean in self.means.items():
            found, besides = mean(torch.stack([one[name] for one in said]))
            outputs[name] = found
            if besides is not None:
                outputs[name + "_members"] = besides
        return outputs


class DropoutSamples(Ensemble):
    """One network with its dropout at random, several times: batch statistics and everything else as in evaluation.

    Args:
        network: It is put into evaluation mode, and shared.
        samples: How many times; two at least.

    Raises:
        ModelError: The network has no dropout, so that all samples would be the same, or there are too few samples.
    """

    def __init__(self, network: Network, samples: int) -> None:
        super().__init__([network] * samples)
        self.spec = network.spec
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Take the mode, but leave dropout random and the rest as in evaluation."""
        super().train(False)
        for module in dropouts(self):
            module.train(True)
        self.training = mode
        return self


def with_dropout(network: Network, samples: int) -> DropoutSamples:
    """Return a network that says the mean of ``samples`` evaluations of another with random dropout.

    Raises:
        ModelError: The network has no dropout, or there are fewer than two samples.
    """
    if not dropouts(network):
        raise ModelError(
            "the network has no dropout, so that all its samples are the same",
            where="model.uncertainty.dropout_samples",
            value=samples,
            allowed="0",
            remedy="Train with the option dropout, of a head or of the composition, or an ensemble.",
        )
    return DropoutSamples(network, samples)


def dropouts(network: nn.Module) -> list[nn.Module]:
    """Return the modules of a network that drop features at random."""
    return [module for module in network.modules() if isinstance(module, nn.Dropout) and module.p > 0]
