"""Magpie's table of elements (Ward et al., npj Comput. Mater. 2, 16028, 2016), as matminer carries it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kimgnn.errors import DataError, Problem

MAGPIE_PROPERTIES: Final = (
    "Number", "MendeleevNumber", "AtomicWeight", "MeltingT", "Column", "Row", "CovalentRadius", "Electronegativity",
    "NsValence", "NpValence", "NdValence", "NfValence", "NValence", "NsUnfilled", "NpUnfilled", "NdUnfilled",
    "NfUnfilled", "NUnfilled", "GSvolume_pa", "GSbandgap", "GSmagmom", "SpaceGroupNumber",
)  # fmt: skip
"""The properties of matminer's preset ``magpie``, by Magpie's names and in its order."""


def magpie_table(species: Sequence[str]) -> NDArray[np.float64]:
    """Return the properties of elements, ``(len(species), 22)``.

    Matminer's preset puts the mean over the periodic table where a property is not known; here that is an error, since
    such an element would look like another one.

    Raises:
        DataError: matminer is not installed, or an element lacks a property: told of each.
    """
    try:
        from matminer.utils.data import MagpieData
    except ImportError as error:
        raise DataError(
            "Magpie's features need the package matminer",
            where="model.composition.features",
            value="magpie",
            remedy="Run: pip install 'kimgnn[matminer]' (only training needs it), or take features: fractions.",
        ) from error
    known = MagpieData(impute_nan=False).all_elemental_props
    table = np.array([[known[name].get(symbol, np.nan) for name in MAGPIE_PROPERTIES] for symbol in species])
    problems = [
        Problem(
            "model.composition.features",
            f"Magpie's table lacks {', '.join(np.array(MAGPIE_PROPERTIES)[np.isnan(row)])}",
            symbol,
            remedy="Take features: fractions, or leave out the structures with this element.",
        )
        for symbol, row in zip(species, table, strict=True)
        if np.isnan(row).any()
    ]
    if problems:
        raise DataError(problems=problems)
    return table
