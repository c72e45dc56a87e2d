"""``kimgnn predict``: a trained model, here or of a service, and files of structures to a file of predictions."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, TypeAlias

import typer

from kimgnn.cli.log import set_up_log
from kimgnn.cli.serve import KEY
from kimgnn.errors import DataError, Problem, ServiceError

if TYPE_CHECKING:
    import ase
    from tqdm import tqdm

    from kimgnn.evaluation.output import Writer
    from kimgnn.evaluation.predict import Prediction
    from kimgnn.predictor import Predictor

_Structures: TypeAlias = "list[tuple[str, ase.Atoms]]"
"""Identifiers and structures of one file."""

BATCH: Final = 32
"""Structures computed at a time."""


def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A run directory (its best checkpoint), a checkpoint, an exported folder, or an exported .pt, .pt2 or "
            ".onnx file; left out with --url.",
            show_default=False,
        ),
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILES...",
            help="Structures: CIF, POSCAR, extended XYZ or any format ASE reads; folders; - for standard input.",
            show_default=False,
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help=f"A service (kimgnn serve) that predicts, http://HOST:PORT; its key stands in the variable {KEY}.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--model", help="Which model of the service; needed where it has several.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write, by its suffix: .csv, .json, .jsonl, .xyz or .extxyz; by default "
            "predictions.extxyz, and predictions.csv of a model without energies.",
            show_default=False,
        ),
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="ASE's name of the format of FILES; by default as their names say, and extxyz for -.",
            show_default=False,
        ),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A state input of the model, such as temperature=300, for all structures; give it for each. By "
            "default that of each structure in its file.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
) -> None:
    """Predict properties, energy (eV), forces (eV/Å), stress (eV/Å³); a file that fails does not stop the others."""
    set_up_log()
    from tqdm import tqdm

    from kimgnn.evaluation.output import WRITERS
    from kimgnn.files import atomic_write

    if output is not None:
        _check_output(output, force, list(WRITERS))
    given = [*([model] if url else []), *(files or [])]
    if not given:
        raise typer.BadParameter("Name a model, and files of structures.", param_hint="FILES...")
    if name and not url:
        raise typer.BadParameter("is of a service, which --url names.", param_hint="--model")
    with ExitStack() as until_done:
        predictor = _of_service(until_done, url, name) if url else _of_file(model)
        states = _states(state or [], [known.name for known in predictor.states])
        if output is None:
            output = Path("predictions.extxyz" if predictor.is_potential else "predictions.csv")
            _check_output(output, force, list(WRITERS))
        with atomic_write(output) as stream, tqdm(unit=" structures", disable=None, leave=False) as bar:
            run = _Run(predictor, WRITERS[output.suffix](stream, predictor.tasks), bar, states)
            run.predict_files(given, format_name)
            if run.n_predicted == 0:
                raise DataError(problems=run.problems)
            run.writer.end()
    print(f"{run.n_predicted} structures in {output}")
    if run.problems:
        raise DataError(problems=run.problems)


def _of_file(model: str) -> Predictor:
    from kimgnn.predictor import load_predictor

    return load_predictor(Path(model))


def _of_service(until_done: ExitStack, url: str, name: str | None) -> Predictor:
    """Return a model of a service; its connections close with the stack."""
    try:
        from kimgnn.client import Client
    except ModuleNotFoundError as error:
        remedy = "Run: pip install 'kimgnn[serve]'."
        raise ServiceError(f"needs the package {error.name}", where="--url", remedy=remedy) from error
    return until_done.enter_context(Client(url, os.environ.get(KEY))).predictor(name)


@dataclass
class _Run:
    """Predicts file after file, small ones together, and remembers what could not be predicted."""

    predictor: Predictor
    writer: Writer
    bar: tqdm[NoReturn]
    states: dict[str, str]
    n_predicted: int = 0
    problems: list[Problem] = field(default_factory=list)

    def predict_files(self, names: Sequence[str], format_name: str | None) -> None:
        from kimgnn.data.structure_files import STDIN, STDIN_NAME, read_structure_file, read_structure_stream

        waiting: list[_Structures] = []
        for name in self._inside(names):
            self.bar.set_postfix_str(Path(name).name, refresh=False)
            try:
                if name == STDIN:
                    found = read_structure_stream(sys.stdin, format_name or "extxyz", STDIN_NAME)
                else:
                    found = read_structure_file(name, format_name)
                for _, atoms in found:
                    atoms.info |= self.states
                self.predictor.check(found)  # now, before it spoils a batch
                waiting.append(found)
            except DataError as error:
                self.problems += error.problems
            if sum(map(len, waiting)) >= BATCH:
                self._predict_together(waiting)
                waiting = []
        if waiting:
            self._predict_together(waiting)

    def _inside(self, names: Sequence[str]) -> Iterator[str]:
        """Yield files, those of folders too."""
        from kimgnn.data.structure_files import STDIN, structure_files

        for name in names:
            try:
                yield from [name] if name == STDIN else map(str, structure_files(name))
            except DataError as error:
                self.problems += error.problems

    def _predict_together(self, files: Sequence[_Structures]) -> None:
        """Predict and write the structures of files; where one cannot be used, each file alone."""
        structures = [structure for file in files for structure in file]
        predictions: list[Prediction] = []
        try:
            for start in range(0, len(structures), BATCH):
                predictions += self.predictor.predict(structures[start : start + BATCH])
                self.bar.update(len(predictions) - start)
        except DataError as error:
            self.bar.update(-len(predictions))
            if len(files) == 1:
                self.problems += error.problems
                return
            for file in files:
                self._predict_together([file])
            return
        for (identifier, atoms), prediction in zip(structures, predictions, strict=True):
            self.writer.write(identifier, atoms, prediction)
        self.n_predicted += len(structures)


def _states(given: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Return the values of ``--state``, by name."""
    values = {}
    for option in given:
        name, equals, value = option.partition("=")
        if name not in known or not equals:
            allowed = ", ".join(f"{name}=VALUE" for name in known) or "none: the model has no state inputs"
            raise DataError("is not a state input of the model", where="--state", value=option, allowed=allowed)
        values[name] = value
    return values


def _check_output(output: Path, force: bool, suffixes: Sequence[str]) -> None:
    if output.suffix not in suffixes:
        raise DataError("no such format", where="--output", value=output.name, allowed=", ".join(suffixes))
    if output.exists() and not force:
        raise DataError("exists already", where=str(output), remedy="Give another --output, or --force.")
