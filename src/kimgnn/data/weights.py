"""Weights of structures and their labels, from a mapping or a file in KLIFF's formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from kliff.dataset import Configuration
from kliff.dataset.weight import Weight

from kimgnn.errors import DataError, did_you_mean

COLUMNS = ("config", "energy", "forces", "stress")


def apply_weights(
    configurations: Sequence[Configuration],
    source: Mapping[str, Any] | str | Path | None,
    where: str = "dataset.weights",
) -> None:
    """Give every configuration its `Weight`.

    A mapping holds one weight for each of ``config``, ``energy``, ``forces`` and ``stress``, the same for all. A file
    has a row for all configurations together or one for each: whitespace-separated columns under a header of those
    names, or YAML, a list of such mappings, where ``forces`` may be a list with a weight for each atom. What is not
    named is 1 for ``config`` and 0, "not used", for a label. ``None`` leaves the weights as they are.

    Raises:
        DataError: The file cannot be read, a column is unknown, a weight is negative or not a number, or the rows are
            neither one nor as many as the configurations.
    """
    if source is None:
        return
    if isinstance(source, Mapping):
        rows: Sequence[Mapping[str, Any]] = [source]
    else:
        where = str(source)
        rows = _read(Path(source), where)
    if len(rows) not in (1, len(configurations)):
        raise DataError(
            "the weights do not fit the data",
            where=where,
            value=f"{len(rows)} rows",
            allowed=f"1 or {len(configurations)} rows",
        )
    if len(rows) == 1:
        rows = [*rows] * len(configurations)
    for number, (row, configuration) in enumerate(zip(rows, configurations, strict=True), start=1):
        configuration.weight = _weight(row, len(configuration.species), f"{where}, row {number}")


def _read(path: Path, where: str) -> Sequence[Mapping[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        rows: Any = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else _table(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"cannot read the weights: {error}", where=where) from error
    rows = [rows] if isinstance(rows, Mapping) else rows
    if not isinstance(rows, list) or not rows or not all(isinstance(row, Mapping) for row in rows):
        raise DataError("holds no weights", where=where, allowed="columns under a header, or a YAML list of mappings")
    return list(rows)


def _table(text: str) -> list[dict[str, str]]:
    header, *rows = [line.split() for line in text.splitlines() if line.strip()] or [[]]
    if header and header[0].startswith("#"):
        header = " ".join(header).lstrip("# ").split()
    return [dict(zip(header, row, strict=True)) for row in rows]


def _weight(row: Mapping[str, Any], n_atoms: int, where: str) -> Weight:
    values = {str(name).lower(): value for name, value in row.items()}
    for name in values:
        if name not in COLUMNS:
            raise DataError(
                "unknown weight",
                where=where,
                value=name,
                allowed=", ".join(COLUMNS),
                remedy=did_you_mean(name, COLUMNS),
            )
    weights = {name: _number(values.get(name), name, n_atoms, where) for name in COLUMNS}
    # KLIFF's "not used" is None; it warns about a 0 once for each structure.
    used = {f"{name}_weight": value if np.any(value) else None for name, value in weights.items() if name != "config"}
    return Weight(config_weight=weights["config"], **used)


def _number(value: Any, name: str, n_atoms: int, where: str) -> Any:
    """Return a weight as a float, or forces' weights as (n_atoms, 1)."""
    if value is None:
        return 1.0 if name == "config" else 0.0
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if not np.isfinite(array).all() or (array < 0).any():
        raise DataError(f"the weight of {name} must be a number, 0 or more", where=where, value=value)
    if array.size == 1 or (name != "forces" and array.size and (array == array.flat[0]).all()):
        return float(array.flat[0])
    if name != "forces" or array.size != n_atoms:
        raise DataError(
            f"the weight of {name} has the wrong length",
            where=where,
            value=array.shape,
            allowed=f"one number, or {n_atoms} for the forces of this structure's atoms",
        )
    return array.reshape(-1, 1)
