"""From a plain description to a network."""

from dataclasses import replace

from ase.data import atomic_numbers
from torch import nn

from kimgnn.errors import ModelError
from kimgnn.models.ensemble import Ensemble
from kimgnn.models.fusion import add_forest, fuse
from kimgnn.models.network import DTYPES, Network, NetworkSpec, SplitNetwork
from kimgnn.models.tasks import head_name
from kimgnn.registry import ARCHITECTURES, HEADS


def build_network(spec: NetworkSpec) -> Network:
    """Build the network that ``spec`` describes, with fresh weights in its precision, or the ensemble of them.

    Raises:
        ManifestError: The architecture or a head is not registered.
        ModelError: A head still has something to fit, or is of each atom where the trunk has but one set of features.
    """
    if spec.members > 1:
        return Ensemble([build_network(replace(spec, members=1)) for _ in range(spec.members)])
    architecture = ARCHITECTURES.get(spec.architecture, "model.architecture")
    trunk = architecture(architecture.Options(**spec.options)).to(DTYPES[spec.precision])
    tells_atoms_apart = getattr(trunk, "tells_atoms_apart", True)
    fusion = spec.composition
    if fusion is not None and fusion["fusion"] != "late":
        trunk = fuse(trunk, fusion, atomic_numbers, DTYPES[spec.precision])
    heads: dict[str, nn.Module] = {}
    for index, entry in enumerate(spec.heads):
        options = {key: value for key, value in entry.items() if key != "type"}
        head_class = HEADS.get(entry["type"], f"model.heads.{index}.type")
        head = head_class(head_class.Options(**options), trunk.out_channels, atomic_numbers)
        if getattr(head, "per_atom", False) and not tells_atoms_apart:
            raise ModelError(
                f"cannot be learned by {spec.architecture}, whose features are those of the whole structure",
                where=f"model.heads.{index}.per_atom",
                value=True,
                remedy="Take another architecture for a property of each atom.",
            )
        # Only the learned layers take the precision: scales and reference values stay float64.
        head.mlp.to(DTYPES[spec.precision])
        if fusion is not None and fusion["fusion"] == "late":
            add_forest(head, fusion, atomic_numbers)
        heads[head_name(entry)] = head
    return SplitNetwork(trunk, heads, spec) if spec.split_depth else Network(trunk, heads, spec)
