"""KLIFF's own staged graph, for configurations that KLIFF's `RadialGraph` refuses or crashes on."""

from __future__ import annotations

from copy import copy

import numpy as np
from kliff.dataset import Configuration
from kliff.transforms.configuration_transforms.graphs import PyGGraph, RadialGraph

from kimgnn.transforms.graph import attach_labels, check_species, configuration_name
from kimgnn.transforms.neighbors import check_finite


def radial_graph(configuration: Configuration, transform: RadialGraph) -> PyGGraph:
    """Return ``transform(configuration)`` with our labels and weights attached, missing ones NaN.

    KLIFF reads energy and forces unconditionally and keeps the energy in float32; its C++ has no answer for a symbol
    that is not an element.

    Raises:
        DataError: It has no atoms, an unknown element, or a position or cell that is not finite.
    """
    check_species(configuration)
    check_finite(configuration.coords, configuration.cell, configuration_name(configuration))
    unlabelled = copy(configuration)
    unlabelled.energy = 0.0
    unlabelled.forces = np.zeros((len(configuration.species), 3))
    graph = transform(unlabelled)
    attach_labels(graph, configuration)
    if transform.copy_to_config:
        configuration.fingerprint = graph
    return graph
