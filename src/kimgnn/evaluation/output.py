"""Files of predictions, written structure by structure: CSV, JSON, JSON lines, or extended XYZ."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import IO, Any, Final

import ase
import ase.io
import numpy as np

from kimgnn.evaluation.columns import ENDS, csv_cells, prediction_columns
from kimgnn.evaluation.predict import Prediction, with_predictions
from kimgnn.fields import ENERGY, FORCES, LABELS, STRESS
from kimgnn.models.tasks import Task


class Writer:
    """Writes predictions into an open text file, one structure after another.

    Args:
        stream: The file.
        tasks: What the model's property and classification heads predict.
    """

    def __init__(self, stream: IO[str], tasks: Sequence[Task]) -> None:
        self.stream = stream
        self.tasks = tasks

    def write(self, identifier: str, atoms: ase.Atoms, prediction: Prediction) -> None:
        """Write one structure's prediction."""
        raise NotImplementedError

    def end(self) -> None:
        """Write what belongs after the last one."""

    def row(self, identifier: str, atoms: ase.Atoms, prediction: Prediction, arrays: bool = True) -> dict[str, Any]:
        """Return identifier, formula, number of atoms and `prediction_columns`."""
        row: dict[str, Any] = {"id": identifier, "formula": atoms.get_chemical_formula(), "atoms": len(atoms)}
        return row | prediction_columns(prediction, self.tasks, arrays)


class CsvWriter(Writer):
    """A row a structure, units in the header; forces and atomic energies, which no cell holds well, are left out."""

    _table: csv.DictWriter[str] | None = None

    def write(self, identifier: str, atoms: ase.Atoms, prediction: Prediction) -> None:
        """Write a row, and the header before the first."""
        row = csv_cells(self.row(identifier, atoms, prediction, arrays=False))
        if self._table is None:
            self._table = csv.DictWriter(self.stream, list(row), lineterminator="\n")
            self._table.writeheader()
        self._table.writerow(row)


class JsonLinesWriter(Writer):
    """An object a line, units in its keys."""

    def write(self, identifier: str, atoms: ase.Atoms, prediction: Prediction) -> None:
        """Write a line."""
        self.stream.write(json.dumps(self.row(identifier, atoms, prediction), ensure_ascii=False) + "\n")


class JsonWriter(Writer):
    """A list of objects, units in their keys."""

    _before = "[\n"

    def write(self, identifier: str, atoms: ase.Atoms, prediction: Prediction) -> None:
        """Write an item of the list."""
        text = json.dumps(self.row(identifier, atoms, prediction), ensure_ascii=False)
        self.stream.write(self._before + text)
        self._before = ",\n"

    def end(self) -> None:
        """Close the list."""
        self.stream.write("\n]\n")


class ExtxyzWriter(Writer):
    """The structures, with their predictions in the place of labels, in ASE's units; heads under their names."""

    def write(self, identifier: str, atoms: ase.Atoms, prediction: Prediction) -> None:
        """Write a frame."""
        copied = with_predictions(atoms, prediction)
        for label in LABELS:
            told = {f"{label}_deviation": getattr(prediction, f"{label}_deviation")}
            if label in prediction.intervals:
                told |= {f"{label}_{end}": value for end, value in zip(ENDS, prediction.intervals[label], strict=True)}
            for name, value in told.items():
                if value is None or (label == STRESS and np.isnan(value).any()):
                    continue
                if label == FORCES:
                    copied.set_array(name, value)
                else:
                    copied.info[name] = float(value) if label == ENERGY else value
        for task in self.tasks:
            value = prediction.properties[task.name]
            if task.kind == "classification":
                copied.info[task.name] = task.classes[int(value.argmax())]
                copied.info[f"{task.name}_probabilities"] = value
                if task.name in prediction.deviations:
                    copied.info[f"{task.name}_deviation"] = prediction.deviations[task.name]
                if task.name in prediction.sets:
                    kinds = zip(task.classes, prediction.sets[task.name], strict=True)
                    copied.info[f"{task.name}_set"] = " ".join(kind for kind, there in kinds if there)
                continue
            found = {task.name: value}
            if task.name in prediction.deviations:
                found[f"{task.name}_deviation"] = prediction.deviations[task.name]
            if task.name in prediction.intervals:
                ends = zip(ENDS, prediction.intervals[task.name], strict=True)
                found |= {f"{task.name}_{end}": numbers for end, numbers in ends}
            for name, numbers in found.items():
                if task.per_atom:
                    copied.set_array(name, numbers[:, 0] if task.components == 1 else numbers)
                else:
                    copied.info[name] = float(numbers[0]) if task.components == 1 else numbers
            if task.unit:
                copied.info[f"{task.name}_unit"] = task.unit
        ase.io.write(self.stream, copied, format="extxyz")


WRITERS: Final[dict[str, type[Writer]]] = {
    ".csv": CsvWriter,
    ".json": JsonWriter,
    ".jsonl": JsonLinesWriter,
    ".extxyz": ExtxyzWriter,
    ".xyz": ExtxyzWriter,
}
"""Suffix of a file -> what writes it."""
