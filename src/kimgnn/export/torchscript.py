"""The network as TorchScript, in the edge-vector contract of our KIM model driver."""

import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from kimgnn.errors import ExportError
from kimgnn.models.network import Network


class ExportedPotential(nn.Module):
    """Species codes and edge vectors to atomic energies; the simulator's driver differentiates it.

    Args:
        network: A network that can be a potential; it is copied, not changed.
    """

    atomic_numbers: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.trunk = deepcopy(network.trunk)
        self.head = deepcopy(network.heads["energy"])
        numbers = [atomic_numbers[symbol] for symbol in network.spec.species]
        self.register_buffer("atomic_numbers", torch.tensor(numbers))
        self.eval().requires_grad_(False)

    def forward(
        self,
        species_codes: Tensor,
        edge_index: Tensor,
        edge_vectors: Tensor,
        node_counts: list[int],
        edge_counts: list[int],
    ) -> Tensor:
        """Return the energies, ``(node_counts[-1],)`` float64, eV, of the contributing atoms.

        Args:
            species_codes: (n_nodes,) int64, index in the exported list of species.
            edge_index: (2, n_edges) int64, sender and receiver, ordered as `stage_by_hop` does.
            edge_vectors: (n_edges, 3) float64, Å, receiver minus sender.
            node_counts: Nodes, from the first, that each layer updates.
            edge_counts: Edges, from the first, that each layer uses.
        """
        z = self.atomic_numbers[species_codes]
        features = self.trunk(z, edge_index, edge_vectors, node_counts, edge_counts)
        energies: Tensor = self.head(features, z[: node_counts[-1]])
        return energies


def export_torchscript(network: Network) -> torch.jit.ScriptModule:
    """Return ``network`` as a script module with `ExportedPotential`'s contract.

    Raises:
        ExportError: The network cannot be a potential, or TorchScript cannot compile it.
    """
    refuse_unless_potential(network)
    return script(ExportedPotential(network))


def refuse_unless_potential(network: Network) -> None:
    """Do nothing if ``network`` can run on a staged graph with continuous forces.

    Raises:
        ExportError: It cannot, with the reason.
    """
    if reason := network.potential_refusal():
        raise ExportError(f"the model cannot be a potential: {reason}", where="export")


def script(module: nn.Module, methods: str = "") -> torch.jit.ScriptModule:
    """Return ``module`` compiled by TorchScript.

    Args:
        module: In evaluation mode.
        methods: Source of methods to add, for those that Python cannot say: TorchScript has no ``*args``.

    Raises:
        ExportError: It is not scriptable; the message is TorchScript's.
    """
    with _torchscript_is_deprecated():
        try:
            scripted = torch.jit.script(module)
            if methods:
                scripted.define(methods)
            return scripted
        except Exception as error:  # torch raises many kinds on what it cannot compile
            raise ExportError(
                f"TorchScript cannot compile the model:\n{error}",
                where="export",
                remedy="Rewrite what the message points at; see https://pytorch.org/docs/stable/jit.html.",
            ) from error


def save(module: torch.jit.ScriptModule, path: str | Path) -> None:
    """Write a script module to ``path``, without the debugging records, which hold paths of this machine."""
    content = io.BytesIO()
    with _torchscript_is_deprecated():
        torch.jit.save(module, content)
    with zipfile.ZipFile(content) as archive, zipfile.ZipFile(path, "w") as file:
        for entry in archive.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                file.writestr(entry, archive.read(entry))


@contextmanager
def _torchscript_is_deprecated() -> Iterator[None]:
    """Silence torch's advice to move to torch.export, which the C++ of released torch cannot run without a compiler."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        yield
