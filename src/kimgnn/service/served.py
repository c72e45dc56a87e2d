"""A model as a service has it: loaded once, told of in plain values, and predicting for many clients at once."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import ase
from pydantic_core import to_json as to_text

from kimgnn.errors import DataError
from kimgnn.evaluation.columns import prediction_columns
from kimgnn.evaluation.domain import COMPOSITIONS, ENERGY_PER_ATOM, LABELS, Domain
from kimgnn.evaluation.predict import Prediction
from kimgnn.evaluation.prediction_json import to_json
from kimgnn.predictor import load_predictor, model_files
from kimgnn.service.reading import Read
from kimgnn.transforms.batches import Bounds

KINDS: Final = {".onnx": "onnx", ".pt": "torchscript", ".pt2": "pt2"}
"""Suffix of an exported file -> what its format is called; anything else is a checkpoint."""


class ServedModel:
    """A model that predicts in batches, of which no structure spoils another.

    Args:
        name: What requests call it.
        path: A run directory, a checkpoint, an exported file, or a folder with one.
        batch_atoms: Atoms that are computed at once.

    Raises:
        ModelError: It cannot be loaded.
    """

    def __init__(self, name: str, path: Path, batch_atoms: int) -> None:
        self.name = name
        self.format = KINDS.get(model_files(path)[0].suffix, "checkpoint")
        self.predictor = load_predictor(path)
        self.domain = Domain(self.predictor.training_data)
        self.batch_atoms = batch_atoms

    def description(self) -> dict[str, Any]:
        """Return what a client has to know, in plain values."""
        known = {key: value for key, value in self.predictor.training_data.items() if key != COMPOSITIONS}
        if LABELS in known:  # by the heads' names; the numbers of classes are none to be averaged
            labels = known[LABELS]
            known[LABELS] = {
                task.name: labels[task.target] | {"unit": task.unit}
                for task in self.predictor.tasks
                if task.target in labels and task.kind == "regression"
            }
            if ENERGY_PER_ATOM in labels:
                known[LABELS][ENERGY_PER_ATOM] = labels[ENERGY_PER_ATOM] | {"unit": "eV"}
        return {
            "name": self.name,
            "format": self.format,
            "is_potential": self.predictor.is_potential,
            "species": list(self.predictor.species),
            "tasks": [asdict(task) for task in self.predictor.tasks],
            "states": [asdict(state) for state in self.predictor.states],
            "training_data": known,
            "level": self.predictor.level,
        }

    def answers(self, structures: Sequence[Read]) -> list[str | DataError]:
        """Return the result of each structure in JSON, or why there is none."""
        checked: list[str | DataError | None] = [self._refusal(read) for read in structures]
        fine = [index for index, refusal in enumerate(checked) if refusal is None]
        bounds = Bounds(len(structures), self.batch_atoms)
        for batch in bounds.batches(fine, lambda index: (len(structures[index].atoms), 0)):
            found = self._predictions([(structures[index].identifier, structures[index].atoms) for index in batch])
            for index, said in zip(batch, found, strict=True):
                checked[index] = said if isinstance(said, DataError) else self._result(structures[index], said)
        return [answer for answer in checked if answer is not None]

    def _refusal(self, read: Read) -> DataError | None:
        try:
            self.predictor.check([(read.identifier, read.atoms)])
        except DataError as error:
            return error
        return None

    def _predictions(self, structures: Sequence[tuple[str, ase.Atoms]]) -> list[Prediction | DataError]:
        """Predict together; where that fails, halves, until what fails is alone."""
        try:
            return [*self.predictor.predict(structures)]
        except DataError as error:
            if len(structures) == 1:
                return [error]
        except Exception as error:  # whatever a runtime stumbles on is of one structure only, and no end of the service
            if len(structures) == 1:
                traceback.print_exc(file=sys.stderr)
                what = f"the model cannot compute it ({type(error).__name__})"
                return [DataError(what, where=structures[0][0], remedy="Look at the structure; the log has more.")]
        half = len(structures) // 2
        return [*self._predictions(structures[:half]), *self._predictions(structures[half:])]

    def _result(self, read: Read, prediction: Prediction) -> str:
        result = {
            "id": read.identifier,
            "formula": read.atoms.get_chemical_formula(),
            "atoms": len(read.atoms),
            "prediction": to_json(prediction),
            "columns": prediction_columns(prediction, self.predictor.tasks),
            "warnings": read.warnings + self.domain.warnings_of(read.atoms.get_chemical_symbols()),
        }
        return to_text(result).decode()  # several times as fast as json
