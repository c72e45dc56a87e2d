"""Other packages' potentials beside kimgnn's SchNet on the same structures: energies and forces, and a training step.

    pip install 'kimgnn[bench]'
    OMP_NUM_THREADS=2 python benchmarks/peers.py

Each has the same batch of rattled 64-atom silicon cells, with neighbours found beforehand to the same cutoff, and the
same loss of energies and forces; all of one precision and batch size take turns. SchNetPack's SchNet is the same
network with the same weights, and its energies and forces are compared first. MACE (two layers of 64 scalars and
vectors, correlation 3) and MatGL's M3GNet (as it comes, three-body terms within 4 Å) are other networks, of their
usual sizes: more costly and, for as many structures to learn from, often more accurate. A package that is not there,
or that cannot be imported, is told with the reason. train_schnet_peers.py says more of training SchNet alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness import Results, arguments_of, bars, in_child, in_turn, installed, median, nothing, spread
from kimgnn.training.lightning_run import keep_freed_memory
from made_up import silicon
from train_schnet_peers import SchNetPack, batch_of, our_step, ours, their_step

COLUMNS = {"potential": "s", "batch": "d", "what": "s", "ms": ".1f", "spread %": ".0f", "times ours": ".2f",
           "MiB": ".0f"}  # fmt: skip
CUTOFF = 5.0
DTYPES = {"double": torch.float64, "single": torch.float32}


class Ours(nn.Module):
    """Ours, called as the others are."""

    def __init__(self, precision: str, size: int) -> None:
        super().__init__()
        self.potential = ours(CUTOFF, precision)

    def forward(self, graph: Any) -> tuple[Tensor, Tensor]:
        """Return energies and forces."""
        found = self.potential(graph, stress=False)
        return found["energy"], found["forces"]


class MACE(nn.Module):
    """MACE: two layers, 64 scalars and vectors, products of three."""

    def __init__(self, precision: str, size: int) -> None:
        super().__init__()
        from mace import data, modules, tools
        from mace.tools import torch_geometric

        # isort: split
        from e3nn import o3  # after MACE, which lets it read its own pickled constants

        torch.set_default_dtype(DTYPES[precision])  # of its data
        try:
            table = tools.AtomicNumberTable([14])
            graphs = [data.AtomicData.from_config(data.config_from_atoms(atoms), table, CUTOFF)
                      for atoms in frames(size)]  # fmt: skip
            self.batch = next(iter(torch_geometric.dataloader.DataLoader(graphs, size))).to_dict()
            block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
            self.network = modules.ScaleShiftMACE(
                r_max=CUTOFF, num_bessel=8, num_polynomial_cutoff=5, max_ell=3, interaction_cls_first=block,
                interaction_cls=block, num_interactions=2, num_elements=1, hidden_irreps=o3.Irreps("64x0e + 64x1o"),
                MLP_irreps=o3.Irreps("16x0e"), atomic_energies=np.zeros(1), avg_num_neighbors=28.0,
                atomic_numbers=[14], correlation=3, gate=nn.functional.silu, atomic_inter_scale=1.0,
                atomic_inter_shift=0.0,
            )  # fmt: skip
        finally:
            torch.set_default_dtype(torch.float32)

    def forward(self, graph: Any) -> tuple[Tensor, Tensor]:
        """Return energies and forces of its own batch of the same structures."""
        found = self.network(self.batch, training=self.training)
        return found["energy"], found["forces"]


class M3GNet(nn.Module):
    """MatGL's M3GNet."""

    def __init__(self, precision: str, size: int) -> None:
        super().__init__()
        from matgl.apps.pes import Potential
        from matgl.ext.pymatgen import Structure2Graph
        from matgl.models import M3GNet
        from pymatgen.io.ase import AseAtomsAdaptor
        from torch_geometric.data import Batch

        network = M3GNet(element_types=("Si",), is_intensive=False, cutoff=CUTOFF)
        self.network = Potential(network, calc_stresses=False).to(DTYPES[precision])
        convert = Structure2Graph(("Si",), CUTOFF)
        made = [convert.get_graph(AseAtomsAdaptor.get_structure(atoms)) for atoms in frames(size)]
        self.batch = Batch.from_data_list([graph for graph, _, _ in made])
        self.lattice = torch.cat([lattice for _, lattice, _ in made])
        self.states = torch.zeros(size, 2, dtype=DTYPES[precision])

    def forward(self, graph: Any) -> tuple[Tensor, Tensor]:
        """Return energies and forces of its own batch of the same structures."""
        energy, forces, *_ = self.network(self.batch, self.lattice, self.states)
        return energy.reshape(-1), forces


def frames(size: int) -> list:
    """Return the structures that `batch_of` has."""
    random = np.random.default_rng(0)
    return [silicon(random) for _ in range(size)]


def schnetpack(precision: str, size: int) -> nn.Module:
    """Return SchNetPack's network, with the weights of ours, and its Gaussians, which it makes in single precision."""
    potential = ours(CUTOFF, precision)
    module = SchNetPack(potential)
    theirs, gaussians = module.network.representation.radial_basis, potential.network.trunk.options.num_gaussians
    centres = torch.linspace(0.0, CUTOFF, gaussians, dtype=torch.float64)
    theirs.offsets.copy_(centres)
    theirs.widths.copy_((centres[1] - centres[0]).expand(gaussians))
    return module


OURS, TABLES, SAME = "kimgnn SchNet", "kimgnn SchNet, tables", "SchNetPack SchNet"
PEERS: dict[str, tuple[str, Callable[[str, int], nn.Module]]] = {
    OURS: ("kimgnn", Ours),
    TABLES: ("kimgnn", Ours),
    SAME: ("schnetpack", schnetpack),
    "MACE": ("mace-torch", MACE),
    "MatGL M3GNet": ("matgl", M3GNet),
}
"""Name -> its package, and what makes it for so many structures."""


def call_of(name: str, module: nn.Module, graph: Any, training: bool) -> Callable[[], object]:
    """Return a function that takes a training step, or computes energies and forces."""
    module.train(training)
    if not training:
        return lambda: module(graph)
    return our_step(module.potential, graph, name == TABLES) if isinstance(module, Ours) else their_step(module, graph)


def three_times(name: str, precision: str, size: int, training: bool) -> None:
    """Do it three times, for the memory that it takes."""
    warnings.simplefilter("ignore")  # of what the peers are compiled from
    keep_freed_memory()
    call = call_of(name, PEERS[name][1](precision, size), batch_of(size, CUTOFF), training)
    for _ in range(3):
        call()


def main() -> None:
    parser = arguments_of(__doc__, rounds=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--precisions", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--peers", nargs="+", choices=list(PEERS)[1:], default=list(PEERS)[1:])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    keep_freed_memory()
    results = Results("peers", f"Potentials on 64-atom cells of silicon, {CUTOFF} Å", COLUMNS)
    results.machine["packages"] |= {package: installed(package) for package, _ in PEERS.values()}
    for precision in options.precisions:
        for size in options.batch_sizes:
            measure(results, [OURS, *options.peers], precision, size, options.rounds)
    print(f"a process that has only imported: {in_child(nothing)[1]:.0f} MiB")
    rows = [row | {"potential": f"{row['potential']}, {row['what']}, {row['batch']}"} for row in results.rows]
    results.write(options.output, lambda figure, _: bars(figure.subplots(), rows, "potential", "ms"))


def measure(results: Results, names: list[str], precision: str, size: int, rounds: int) -> None:
    """Add rows of energies and forces, and of training steps."""
    graph, peers = batch_of(size, CUTOFF), {}
    for name in names:
        package, make = PEERS[name]
        torch.manual_seed(0)
        try:
            peers[name] = make(precision, size)
        except ImportError as error:
            print(f"{name}: {package} {installed(package) or '(not installed)'} is not measured: {error}")
    if SAME in peers:
        require_same(peers[OURS].eval()(graph), peers[SAME].eval()(graph), precision)
    for training, what in ((False, "evaluate"), (True, "train")):
        calls = {name: call_of(name, peer, graph, training) for name, peer in peers.items()}
        if not training:
            calls.pop(TABLES, None)  # which are there in training steps only
        times = in_turn(calls, rounds)
        for name, seconds in times.items():
            _, memory = in_child(three_times, name, precision, size, training)
            found = {"ms": 1e3 * median(seconds), "spread %": spread(seconds), "MiB": memory,
                     "times ours": median(seconds / times[OURS])}  # fmt: skip
            results.add(potential=f"{name}, {precision}", batch=size, what=what, **found, seconds=seconds.tolist())


def require_same(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], precision: str) -> None:
    """Refuse to compare two networks that are not the same function."""
    off = [float((a - b).detach().abs().max() / a.detach().abs().max()) for a, b in zip(ours, theirs, strict=True)]
    print(f"{precision}: SchNetPack's energies and forces differ from ours by {off[0]:.0e} and {off[1]:.0e} of them")
    if not max(off) < {"double": 1e-9, "single": 1e-3}[precision]:
        raise SystemExit("SchNetPack's network is another function: its time says nothing")


if __name__ == "__main__":
    main()
