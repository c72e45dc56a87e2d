"""What a package says of its file of properties: inputs, outputs, units, how to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kimgnn.export import documents
from kimgnn.export.calibrated import calibration_section
from kimgnn.export.property_contract import DEVIATION, STATES_INPUT, PropertyDescription
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.tasks import Task
from kimgnn.nn.states import StateInput


def property_readme(
    name: str, checkpoint: Checkpoint, description: PropertyDescription, files: list[str], manifest: Mapping[str, Any]
) -> str:
    """Return the ``README.md`` of a package that holds no potential.

    Args:
        name: What the package is called.
        checkpoint: What was exported.
        description: Of the files.
        files: Their names.
        manifest: Of the run, without what tells of the machine.
    """
    facts = {
        "species": " ".join(description.species),
        "architecture": documents.architecture(manifest),
        "graph": graph_in_words(description),
        "precision": checkpoint.network.spec.precision,
        "files": ", ".join(f"`{file}`" for file in files),
    }
    data = {key: value for key, value in checkpoint.data.items() if isinstance(value, str | int | float)}
    return "\n".join(
        [
            f"# {name}\n",
            "Predicts properties of a structure. It is no interatomic potential, and no KIM item: nothing is "
            "installed, the files are loaded where they are.\n",
            documents.table(facts),
            how_to_use(description, files),
            *calibration_section(checkpoint),
            *documents.data_and_errors(documents.without_machine(data), checkpoint.metrics, description.tasks),
            "## Parity\n\n`parity.md` compares the files with PyTorch. Where it is missing, they were written without "
            "that check.\n",
            documents.versions(),
        ]
    )


def how_to_use(description: PropertyDescription, files: list[str]) -> str:
    """Return the sections on inputs, outputs and use of files of properties."""
    rows = "".join(_rows(task, description) for task in description.tasks)
    onnx = [file for file in files if file.endswith(".onnx")]
    return f"""\
## Properties

{" and ".join(f"`{file}`" for file in files)}, from one structure or several, whose atoms and edges follow one another:

| input | shape | type | |
|---|---|---|---|
| `z` | (n_atoms,) | int64 | atomic numbers |
| `atom_counts` | (n_structures,) | int64 | atoms of each structure, at least one |
| `edge_index` | (2, n_edges) | int64 | sender and receiver of each edge, as places in `z`; sorted by receiver |
| `edge_vectors` | (n_edges, 3) | float64 | Å, position of the receiver minus that of the sender |
| `edge_of_length` | (n_lengths,) | int64 | an edge of each length |
| `length_of_edge` | (n_edges,) | int64 | the length of each edge, as a place in `edge_of_length` |
{_COPIES_ROW if description.merges else ""}{_TRIPLETS_ROW if description.triplets else ""}\
{_states_row(description.states)}
The edges are those of {graph_in_words(description)}. Sizes are free, no edges at all included. \
Edges of one length may be given a length each{_MERGED if description.merges else ""}; it takes longer.
A batch is computed fastest where its structures are of like size.

| output | shape | unit | |
|---|---|---|---|
{rows}
All are float64, and NaN for a structure with another element than {", ".join(description.species)}. TorchScript
returns a dictionary by these names; the metadata (`kimgnn.json` in the TorchScript archive) repeat all this.

{_example(description, (onnx or files)[0])}"""


_COPIES_ROW = "| `copies` | (n_edges,) | int64 | how many edges of one sender, receiver and length it stands for |\n"

_TRIPLETS_ROW = (
    "| `triplets` | (2, n_triplets) | int64 | an edge, and one that begins at the atom where it ends; sorted by the "
    "latter |\n"
)

_MERGED = ", and edges of one sender, receiver and length be given one by one, with 1 in `copies`"


def _states_row(states: Sequence[StateInput]) -> str:
    if not states:
        return ""
    meanings = "; ".join(
        f"{state.name}: " + (", ".join(f"{index} {name}" for index, name in enumerate(state.classes)) or "a number")
        for state in states
    )
    return f"| `{STATES_INPUT}` | (n_structures, {len(states)}) | float64 | {meanings} |\n"


def graph_in_words(description: PropertyDescription) -> str:
    """Return which atoms send edges to an atom."""
    reach = f"within {description.cutoff:g} Å, periodic images included"
    if description.max_neighbors is None:
        return f"all neighbours {reach}"
    ties = {
        "break": "equally near ones by atomic number, then by displacement along the cell vectors",
        "keep": "and all that are as near as the last",
    }
    return f"an atom's {description.max_neighbors} nearest neighbours {reach}; {ties[description.ties]}"


def _rows(task: Task, description: PropertyDescription) -> str:
    if task.kind == "classification":
        classes = ", ".join(task.classes)
        shape = f"(n_structures, {len(task.classes)})"
        rows = f"| `{task.name}` | {shape} | probability | of {classes}, in this order |\n"
        if task.name in description.deviations:
            rows += f"| `{task.name}{DEVIATION}` | {shape} | | standard deviations of these |\n"
        return rows
    shape = f"({'n_atoms' if task.per_atom else 'n_structures'}, {task.components})"
    what = "of each atom" if task.per_atom else "of the whole structure" if task.extensive else ""
    rows = f"| `{task.name}` | {shape} | {task.unit or '–'} | {what} |\n"
    if task.name in description.deviations:
        rows += f"| `{task.name}{DEVIATION}` | {shape} | {task.unit or '–'} | its standard deviation |\n"
    return rows


def _example(description: PropertyDescription, file: str) -> str:
    nearest, note = "", ""
    if description.max_neighbors is not None:
        nearest = f"""\
order = np.lexsort((np.linalg.norm(vectors, axis=1), receiver))  # nearest first, receiver by receiver
rank = np.arange(len(order)) - np.searchsorted(receiver[order], receiver[order])
nearest = order[rank < {description.max_neighbors}]
sender, receiver, vectors = sender[nearest], receiver[nearest], vectors[nearest]
"""
        note = "\nAmong equally near neighbours these lines take any, where kimgnn does as said above.\n"
    inputs = """\
each = np.arange(len(vectors))
inputs = {"z": atoms.numbers.astype(np.int64), "atom_counts": np.array([len(atoms)]), "edge_index": edge_index,
          "edge_vectors": vectors, "edge_of_length": each, "length_of_edge": each}"""
    if description.merges:
        inputs += '\ninputs["copies"] = np.ones_like(each)'
    if description.triplets:
        inner = "np.ones(len(sender), dtype=bool)"
        if description.angle_neighbors is not None:
            inner = f"rank[rank < {description.max_neighbors}] < {description.angle_neighbors}"
        elif description.angle_cutoff is not None:
            inner = f"np.linalg.norm(vectors, axis=1) < {description.angle_cutoff!r}"
        inputs = f"""\
inner = {inner}  # edges that form triplets
follows = (receiver[None, :] == sender[:, None]) & inner & inner[:, None]
second, first = np.nonzero(follows)
{inputs}
inputs["triplets"] = np.stack([first, second])"""
    known = ""
    if description.states:
        values = {state.name: state.classes[0] if state.classes else state.mean for state in description.states}
        known = f"\natoms.info |= {values!r}  # of this structure"
        numbers = [0.0 if state.classes else state.mean for state in description.states]
        inputs += f'\ninputs["{STATES_INPUT}"] = np.array([{numbers!r}])'
    outputs = "{output.name: value for output, value in zip(session.get_outputs(), session.run(None, inputs))}"
    if file.endswith(".onnx"):
        use = f"""\
session = onnxruntime.InferenceSession("{file}")
print({outputs})"""
        package = "onnxruntime"
    else:
        use = f"""\
module = torch.jit.load("{file}")
print(module(**{{name: torch.from_numpy(values) for name, values in inputs.items()}}))"""
        package = "torch"
    return f"""\
With kimgnn:

```python
from ase.io import read
from kimgnn.export.property_runtimes import load_property_model
atoms = read("structure.cif"){known}
print(load_property_model("{file}").predict([atoms]))  # any number of structures
```

Without it:

```python
import numpy as np, {package}
from ase.io import read
from ase.neighborlist import neighbor_list
atoms = read("structure.cif")
receiver, sender, back = neighbor_list("ijD", atoms, {description.cutoff!r})
vectors = -back
{nearest}edge_index = np.stack([sender, receiver]).astype(np.int64)
{inputs}
{use}
```
{note}"""
