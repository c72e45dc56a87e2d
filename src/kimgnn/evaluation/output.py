"""Files of predictions, written structure by structure: CSV, JSON, JSON lines, or extended XYZ."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from typing import IO, Any, Final, Protocol

import ase
import ase.io

from kimgnn.evaluation.columns import csv_cells, prediction_columns
from kimgnn.evaluation.predict import Prediction, with_predictions
from kimgnn.models.tasks import Task


class Writer(Protocol):
    """Writes predictions into an open file, one after another, and what belongs after the last one."""

    def write(self, identifier: str, atoms: ase.Atoms, prediction: Prediction) -> None:
        """Write one structure's prediction."""

    def end(self) -> None:
        """Write what follows the last one."""


class CsvWriter:
    """A row a structure, units in the header; forces and atomic energies, which no cell holds well, are left out."""

    def __init__(self, stream: IO[str], tasks: Sequence[Task]) -> None:
        self._stream = stream
        self._tasks = tasks
        self._writer: csv.DictWriter[str] | None = None

    def write(self, identifier: str, atoms: ase.Atoms, prediction: Prediction) -> None:
        row = csv_cells(_row(identifier, atoms, prediction, self._tasks, arrays=False))
        if self._writer is None:
            self._writer = csv.DictWriter(self._stream, list(row))
            self._writer.writeheader()
        self._writer.writerow(row)

    def end(self) -> None:
        """Nothing follows."""


class JsonLinesWriter:
    """An object a line, units in its keys."""

    def __init__(self, stream: IO[str], tasks: Sequence[Task]) -> None:
        self._stream = stream
        self._tasks = tasks

    def write(self, identifier: str, atoms: ase.Atoms, prediction: Prediction) -> None:
        self._stream.write(self._text(identifier, atoms, prediction) + "\n")

    def end(self) -> None:
        """Nothing follows."""

    def _text(self, identifier: str, atoms: ase.Atoms, prediction: Prediction) -> str:
        return json.dumps(_row(identifier, atoms, prediction, self._tasks), ensure_ascii=False)


class JsonWriter(JsonLinesWriter):
    """A list of objects, units in their keys."""

    def __init__(self, stream: IO[str], tasks: Sequence[Task]) -> None:
        super().__init__(stream, tasks)
        self._before = "[\n"

    def write(self, identifier: str, atoms: ase.Atoms, prediction: Prediction) -> None:
        self._stream.write(self._before + self._text(identifier, atoms, prediction))
        self._before = ",\n"

    def end(self) -> None:
        self._stream.write("\n]\n")


class ExtxyzWriter:
    """The structures, with their predictions in the place of labels, in ASE's units; heads under their names."""

    def __init__(self, stream: IO[str], tasks: Sequence[Task]) -> None:
        self._stream = stream
        self._tasks = tasks

    def write(self, identifier: str, atoms: ase.Atoms, prediction: Prediction) -> None:
        copied = with_predictions(atoms, prediction)
        for task in self._tasks:
            value = prediction.properties[task.name]
            if task.kind == "classification":
                copied.info[task.name] = task.classes[int(value.argmax())]
                copied.info[f"{task.name}_probabilities"] = value
            elif task.per_atom:
                copied.set_array(task.name, value[:, 0] if task.components == 1 else value)
            else:
                copied.info[task.name] = float(value[0]) if task.components == 1 else value
            if task.unit:
                copied.info[f"{task.name}_unit"] = task.unit
        ase.io.write(self._stream, copied, format="extxyz")

    def end(self) -> None:
        """Nothing follows."""


WRITERS: Final[dict[str, Callable[[IO[str], Sequence[Task]], Writer]]] = {
    ".csv": CsvWriter,
    ".json": JsonWriter,
    ".jsonl": JsonLinesWriter,
    ".extxyz": ExtxyzWriter,
    ".xyz": ExtxyzWriter,
}
"""Suffix of a file -> what writes it."""


def _row(
    identifier: str, atoms: ase.Atoms, prediction: Prediction, tasks: Sequence[Task], arrays: bool = True
) -> dict[str, Any]:
    row: dict[str, Any] = {"id": identifier, "formula": atoms.get_chemical_formula(), "atoms": len(atoms)}
    return row | prediction_columns(prediction, tasks, arrays)
