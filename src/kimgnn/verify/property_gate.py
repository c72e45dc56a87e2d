"""The gate that files of properties pass: they give what PyTorch gives on the graphs of the training's transform."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import ExportError, KimgnnError, ModelError, Problem
from kimgnn.evaluation.predict import give_states, predict
from kimgnn.export.calibrated import tempered
from kimgnn.export.property_contract import DEVIATION, PropertyDescription, describe_properties
from kimgnn.export.property_package import property_file
from kimgnn.export.property_runtimes import PropertyModel, load_property_model
from kimgnn.files import atomic_write
from kimgnn.heads.property import PropertyHead
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.ensemble import Ensemble
from kimgnn.models.network import Network
from kimgnn.nn.states import StateInput, state_inputs_of
from kimgnn.physics.potential import Potential
from kimgnn.registry import TRANSFORMS
from kimgnn.verify.gate import REPEATS, Tell, all_threads, gate_structures, versions
from kimgnn.verify.simulators import without_labels

PROPERTY_TOLERANCES: Final = {"double": 1e-9, "single": 1e-5}
"""Largest difference allowed, by the network's precision, in units of `head_scale`.

Runtimes round and sum in different orders: 1e-16 a step in double precision and 1e-7 in single, over some tens of
layers and hundreds of neighbours.
"""

Values: TypeAlias = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class PropertyRow:
    """How far one file is from PyTorch.

    Attributes:
        file: Its name.
        differences: For each structure, the largest difference of each output in units of its scale; or why the file
            computed nothing.
    """

    file: str
    differences: list[dict[str, float] | str]

    def worst(self, output: str) -> tuple[int, float]:
        """Return the structure where an output differs most, and by how much; NaN is most."""
        found = [(index, item[output]) for index, item in enumerate(self.differences) if isinstance(item, dict)]
        return max(found, key=lambda item: math.inf if math.isnan(item[1]) else item[1], default=(0, math.nan))


@dataclass(frozen=True)
class PropertyTable:
    """One row a file.

    Attributes:
        structures: By what they are called.
        description: Of the files.
        precision: The network's: ``double`` or ``single``.
        rows: One a file.
    """

    structures: Mapping[str, Atoms]
    description: PropertyDescription
    precision: str
    rows: list[PropertyRow]

    @property
    def allowed(self) -> float:
        """The largest difference allowed."""
        return PROPERTY_TOLERANCES[self.precision]

    def problems(self) -> list[Problem]:
        """Return what failed: of each file the worst of each output, and what it did not compute."""
        problems = []
        names = list(self.structures)
        for row in self.rows:
            refused = [(names[index], why) for index, why in enumerate(row.differences) if isinstance(why, str)]
            problems += [Problem(f"{row.file}, {name}", f"not computed: {why}") for name, why in refused]
            for output in self.description.output_names if len(refused) < len(names) else ():
                index, difference = row.worst(output)
                if not difference <= self.allowed:
                    message = f"differs from PyTorch by {difference:.1e} of its scale"
                    where = f"{row.file}, {names[index]}, {output}"
                    problems.append(Problem(where, message, allowed=f"{self.allowed:.0e}"))
        return problems

    def markdown(self) -> str:
        """Return the table of the largest differences, and below it what failed."""
        outputs = self.description.output_names
        lines = [["file", "structures", *outputs]]
        for row in self.rows:
            computed = sum(isinstance(found, dict) for found in row.differences)
            lines.append([row.file, str(computed), *(f"{row.worst(output)[1]:.1e}" for output in outputs)])
        lines.append(["allowed", str(len(self.structures)), *(f"{self.allowed:.0e}" for _ in outputs)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, ["-" * width for width in widths])
        text = "\n".join(
            f"| {' | '.join(word.ljust(width) for word, width in zip(line, widths, strict=True))} |" for line in lines
        )
        refused = "".join(f"- {problem}\n" for problem in self.problems())
        return f"{text}\n" + (f"\n{refused}" if refused else "")


def approve_properties(folders: Sequence[Path], checkpoint: Checkpoint, rejected: Path, tell: Tell = print) -> None:
    """Put what their files of properties differ from PyTorch by into ``parity.md`` and ``parity.json`` of folders.

    Each file is run in Python, several times on all cores, for the structures of `kimgnn.verify.gate.gate_structures`,
    one by one and all in a batch; PyTorch gets them as graphs of the transform that the network was trained with.

    Args:
        folders: Of an export, each with files of properties.
        checkpoint: What was exported.
        rejected: Where the table is written if they do not agree; otherwise a file there of before is removed.
        tell: Gets lines for the user.

    Raises:
        ExportError: A file differs by more than is allowed, or computes nothing for a structure; the message names the
            file, the structure, the output and the difference.
    """
    description = describe_properties(checkpoint)
    structures = with_states(gate_structures(checkpoint), description.states)
    expected = torch_properties(checkpoint, list(structures.values()))
    scales = [head_scale(checkpoint.network, atoms, values)
              for atoms, values in zip(structures.values(), expected, strict=True)]  # fmt: skip
    tables = {}
    for folder in folders:
        rows = []
        for path in sorted(folder.glob("properties.*")):
            tell(f"comparing {path.name} with PyTorch in Python: {len(structures)} structures")
            rows.append(_compare(path, list(structures.values()), expected, scales))
        if not rows:
            raise ExportError("has no file of properties", where=str(folder))
        tables[folder] = PropertyTable(structures, description, checkpoint.network.spec.precision, rows)
    if problems := [problem for table in tables.values() for problem in table.problems()]:
        name = folders[0].name
        with atomic_write(rejected) as file:
            file.write("\n".join(_markdown(f"# {name}: parity with PyTorch", table) for table in tables.values()))
        head = Problem(name, "was not exported: it is not what was trained", remedy=f"The whole table: {rejected}")
        raise ExportError(problems=[head, *problems[:10]])
    rejected.unlink(missing_ok=True)
    for folder, table in tables.items():
        _write(folder, table)
        tell(table.markdown())


def what_of_properties_is_compared(checkpoint: Checkpoint, formats: Iterable[str]) -> str:
    """Return in words what `approve_properties` does."""
    files = " and ".join(dict.fromkeys(map(property_file, formats)))
    structures = gate_structures(checkpoint)
    outputs = ", ".join(describe_properties(checkpoint).output_names)
    return f"{outputs} by {files} in Python, for {len(structures)} structures ({', '.join(structures)})"


def with_states(structures: Mapping[str, Atoms], states: Sequence[StateInput]) -> dict[str, Atoms]:
    """Return structures with the states that a network needs: all classes by turns, and numbers about the mean."""
    found = {}
    for turn, (name, atoms) in enumerate(structures.items()):
        found[name] = without_labels(atoms)
        for state in states:
            away = (turn % 3 - 1) * (state.spread or 0.0)
            classes = state.classes
            found[name].info[state.name] = classes[turn % len(classes)] if classes else (state.mean or 0.0) + away
    return found


def torch_properties(checkpoint: Checkpoint, structures: Sequence[Atoms]) -> list[Values]:
    """Return what the network says, as files have it, by output, on graphs of the transform of its training."""
    transform = TRANSFORMS.get(checkpoint.transform["name"])(**checkpoint.transform["kwargs"])
    configurations = []
    for atoms in structures:
        configurations.append(configuration_from_atoms(atoms, labels=()))
        give_states(configurations[-1], state_inputs_of(checkpoint.spec.options), atoms.info)
    with warnings.catch_warnings():
        # A lone atom is one of the structures on purpose.
        warnings.filterwarnings("ignore", ".* neighbours? within the cutoff", UserWarning)
        predictions = predict(Potential(tempered(checkpoint)), configurations, transform)
    return [
        prediction.properties | {name + DEVIATION: values for name, values in prediction.deviations.items()}
        for prediction in predictions
    ]


def head_scale(network: Network, atoms: Atoms, expected: Values) -> Values:
    """Return what differences of each output are measured in, for one structure.

    Rounding is that of what the network says, which is the value in units of its spread (times the number of atoms
    where a share of an atom is learned): so the scale is the spread, or as many spreads as the largest component has.
    Of a logarithm and of a standard deviation, which is learned as one, it is that carried over to the value; of a
    probability it is one. The deviation of members of an ensemble is a difference of values, rounded as these are.

    Args:
        network: What was exported.
        atoms: The structure.
        expected: What PyTorch says of it.
    """
    scales: dict[str, NDArray[np.float64]] = {}
    for output, values in expected.items():
        head = network.heads[output if output in network.heads else output.removesuffix(DEVIATION)]
        if not isinstance(head, PropertyHead):
            scales[output] = np.ones_like(values)
            continue
        spread = head.spread.numpy() * (len(atoms) if head.learned == "per_atom" else 1)
        if output not in network.heads:
            scales[output] = values * np.maximum(1.0, np.abs(np.log(values / spread)))
            if isinstance(network, Ensemble):
                scales[output] = np.maximum(scales[output], scales[output.removesuffix(DEVIATION)])
        elif head.learned == "log10":
            scales[output] = values * np.log(10.0) * np.maximum(spread, np.abs(np.log10(values)))
        else:
            scales[output] = spread * np.maximum(1.0, np.abs(values / spread).max())
    return scales


def _compare(
    path: Path, structures: Sequence[Atoms], expected: Sequence[Values], scales: Sequence[Values]
) -> PropertyRow:
    """Return how far a file is from PyTorch at most, of `REPEATS` runs of each structure alone, and of all together."""
    try:
        with all_threads():
            model = load_property_model(path)
            alone = [[_said(model, [atoms]) for _ in range(REPEATS)] for atoms in structures]
            refused = [next((said for said in runs if isinstance(said, str)), "") for runs in alone]
            computed = [index for index, why in enumerate(refused) if not why]
            together = [
                _said(model, [structures[index] for index in computed]) for _ in range(REPEATS if computed else 0)
            ]
    except ModelError as error:
        return PropertyRow(path.name, [str(error)] * len(structures))
    differences: list[dict[str, float] | str] = list(refused)
    for place, index in enumerate(computed):
        runs = [*((0, said) for said in alone[index]), *((place, said) for said in together)]
        found = [said if isinstance(said, str) else said[at] for at, said in runs]
        differences[index] = _largest_difference(found, expected[index], scales[index])
    return PropertyRow(path.name, differences)


def _said(model: PropertyModel, structures: Sequence[Atoms]) -> Sequence[Values] | str:
    """Return what a file says of structures, or why it says nothing."""
    try:
        return model.predict(structures)
    except KimgnnError as error:
        return str(error)
    except Exception as error:  # every runtime raises kinds of its own
        return f"{type(error).__name__}: {error}"


def _largest_difference(found: Sequence[Values | str], expected: Values, scale: Values) -> dict[str, float] | str:
    """Return that of each output of a structure, of several runs, in units of its scale; or what a run says instead."""
    largest = dict.fromkeys(expected, 0.0)
    for said in found:
        if isinstance(said, str):
            return said
        for name, values in expected.items():
            if said[name].shape != values.shape:
                return f"{name} has the shape {said[name].shape}, not {values.shape}"
            # Of a scale of zero, any difference at all is infinitely large.
            with np.errstate(divide="ignore", invalid="ignore"):
                relative = np.where(said[name] == values, 0.0, np.abs(said[name] - values) / scale[name])
            largest[name] = float(np.max([largest[name], relative.max()]))
    return largest


def _write(folder: Path, table: PropertyTable) -> None:
    """Write the table into a folder's page and JSON of parity, after a potential's if there is one."""
    page, data = folder / "parity.md", folder / "parity.json"
    if page.exists():
        text = f"{page.read_text(encoding='utf-8')}\n{_markdown('## Properties', table)}"
    else:
        described = "".join(
            f"| {name} | {atoms.get_chemical_formula()} |\n" for name, atoms in table.structures.items()
        )
        numbers = ", ".join(f"{package} {number}" for package, number in versions().items())
        title = f"# {folder.name}: parity with PyTorch"
        text = f"{_markdown(title, table)}\n| structure | formula |\n|---|---|\n{described}\n{numbers}\n"
    page.write_text(text, encoding="utf-8")
    content = json.loads(data.read_text(encoding="utf-8")) if data.exists() else {"versions": versions()}
    content["properties"] = {
        "passed": not table.problems(),
        "precision": table.precision,
        "allowed": table.allowed,
        "structures": {name: atoms.get_chemical_formula() for name, atoms in table.structures.items()},
        "differences": {row.file: dict(zip(table.structures, row.differences, strict=True)) for row in table.rows},
    }
    data.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _markdown(title: str, table: PropertyTable) -> str:
    verdict = "**Beyond what is allowed.**" if table.problems() else "Within what is allowed."
    return f"""\
{title}

{verdict} Largest differences of the properties from the network in PyTorch, in {table.precision} precision, over
{len(table.structures)} structures, each computed {REPEATS} times alone and {REPEATS} times among all the others, on all
cores. They are relative to the larger of the spread that the head learned in units of and the value itself (of a
logarithm: these of the logarithm); of a probability they are absolute.

{table.markdown()}"""
