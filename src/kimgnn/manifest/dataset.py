"""The `dataset` block: which structures, and what their labels are called and measured in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from kimgnn.manifest.block import AnyCase, Block, InputPath, NotNegative, Text, wrong
from kimgnn.manifest.materials_project import MaterialsProject

EnergyUnit = Literal["eV", "meV", "Hartree", "Ry", "kcal/mol", "kJ/mol"]
ForceUnit = Literal["eV/Å", "eV/A", "meV/Å", "Hartree/Bohr", "Ry/Bohr", "kcal/mol/Å", "kJ/mol/Å", "kJ/mol/nm"]
StressUnit = Literal[
    "eV/Å³", "eV/Å^3", "eV/A^3", "Hartree/Bohr^3", "Ry/Bohr^3", "GPa", "MPa", "Pa", "kbar", "bar", "atm"
]


def _is_slice(text: str) -> str:
    parts = text.split(":")
    if not 2 <= len(parts) <= 3 or any(part and not part.removeprefix("-").isdigit() for part in parts):
        raise wrong("is not a slice", allowed="start:stop or start:stop:step, in quotes, such as '0:100' or '::10'")
    return text


class Keys(Block):
    """What the labels are called in the file."""

    energy: Text = "energy"
    """Total energy of a structure."""
    forces: Text = "forces"
    """Forces on its atoms."""
    stress: Text = "stress"
    """Its stress: six Voigt components, nine, or three by three."""


class Units(Block):
    """What the labels are measured in; they are converted to eV, eV/Å and eV/Å³ where they are read."""

    energy: EnergyUnit = "eV"
    """Unit of the energies."""
    forces: ForceUnit = "eV/Å"
    """Unit of the forces."""
    stress: StressUnit = "eV/Å³"
    """Unit of the stresses."""


class LabelWeights(Block):
    """What each label counts for, the same in all structures. A label that is not named is not fitted."""

    config: NotNegative = 1.0
    """Multiplies a structure's other weights."""
    energy: NotNegative = 0.0
    """Weight of the energy."""
    forces: NotNegative = 0.0
    """Weight of the forces."""
    stress: NotNegative = 0.0
    """Weight of the stress."""


class ColabFit(Block):
    """Where a ColabFit data set is."""

    dataset_name: Text | None = None
    """Its name."""
    database_name: Text | None = None
    """The database that holds it."""
    database_url: Text | None = None
    """The database's address."""


class Dataset(Block):
    """Structures and labels."""

    type: Annotated[
        Literal["ase", "path", "colabfit", "cif_folder", "table", "matbench", "materials_project"], AnyCase
    ] = "path"
    """`ase` reads any format of ASE and its databases; `path` KLIFF's extended XYZ, labels by KLIFF's names; `colabfit`
    asks KLIFF; `cif_folder` is CGCNN's layout, CIFs and a table of targets; `table` a structure in each row of CSV,
    Parquet, JSON or JSON lines; `matbench` matminer's JSON; `materials_project` downloads."""
    path: InputPath | list[InputPath] | None = None
    """A file, folder or glob, or a list of them; needed unless the type is `colabfit` or `materials_project`."""
    targets: dict[Text, Text] = Field(default_factory=dict)
    """What a head learns: the target's name and the column or key that has it, by default the one of its name."""
    id_column: Text | None = None
    """Column, or key of type `ase`, with the id of a structure; for a table, by default the first of a usual name."""
    structure_column: Text | None = None
    """Column of a table with the structures; by default the first that holds any."""
    table: Text | None = None
    """Table of ids and targets in a `cif_folder`; by default `id_prop.csv`."""
    materials_project: MaterialsProject | None = None
    """What to download, for type `materials_project`."""
    on_error: Literal["stop", "skip"] = "stop"
    """What a bad structure or label does: `stop` tells all of them before training, `skip` leaves them out, told."""
    cache: bool | Text = False
    """Keep structures and graphs for the next run: in the user's folder of caches, or in the folder named here."""
    slices: Annotated[str, AfterValidator(_is_slice)] | None = None
    """Which structures to take, as `start:stop:step`; all when absent."""
    shuffle: bool = False
    """KLIFF's; splits by size are always drawn at random, by the workspace's seed (use index files for others)."""
    keys: Keys = Keys()
    """What the labels are called."""
    units: Units = Units()
    """What they are measured in."""
    stress_positive: Literal["tension", "compression"] = "tension"
    """The sign of a positive stress in the file; kimgnn's own is tension."""
    weights: LabelWeights | InputPath | None = None
    """Weights of the labels, or a file with a row of them for each structure (KLIFF's format)."""
    save: bool = False
    """Save the structures as they were read."""
    save_path: Text | None = None
    """Folder to save them in."""
    dynamic_loading: bool | None = None
    """Build graphs, or get them from the cache, when they are needed instead of before training.

    Only with a cache when absent."""
    colabfit_dataset: ColabFit = ColabFit()
    """The ColabFit data set, for type `colabfit`."""
