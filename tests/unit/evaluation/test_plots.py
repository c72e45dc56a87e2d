"""What the pictures show."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import PathCollection, PolyCollection

from kimgnn.evaluation.metrics import MEASURES, Parity
from kimgnn.evaluation.plots import DENSE, dimer_plot, learning_curves, parity_plot


def _parity(size: int, noise: float = 0.1) -> Parity:
    reference = np.linspace(-2.0, 3.0, size)
    return Parity(reference, reference + noise * np.sin(7.0 * reference))


def test_all_panels_of_a_parity_plot_share_equal_axes_that_hold_every_value():
    """A reader may compare the splits by eye: same limits, equal scales, nothing cut off."""
    figure = parity_plot(MEASURES["energy"], {"train": _parity(50), "test": Parity(np.array([8.0]), np.array([9.0]))})
    panels = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in panels] == ["train", "test"]
    for ax in panels:
        assert ax.get_xlim() == ax.get_ylim() == panels[0].get_xlim()
        assert ax.get_xlim()[0] < -2.0
        assert ax.get_xlim()[1] > 9.0
        assert ax.get_aspect() == 1.0
        assert "eV/atom" in ax.get_xlabel()


def test_the_corner_tells_the_errors_in_their_unit():
    """A constant error of 2 meV/atom reads as such."""
    reference = np.linspace(-1.0, 1.0, 20)
    ax = parity_plot(MEASURES["energy"], {"test": Parity(reference, reference + 0.002)}).axes[0]
    assert ax.texts[0].get_text() == "MAE 2 meV/atom\nRMSE 2 meV/atom\nn = 20"


@pytest.mark.parametrize(("size", "kind"), [(DENSE, PathCollection), (DENSE + 1, PolyCollection)])
def test_many_values_are_drawn_as_a_density(size, kind):
    """Points hide one another beyond some thousands; hexagons count them, and lose none."""
    ax = parity_plot(MEASURES["forces"], {"train": _parity(size)}).axes[0]
    assert type(ax.collections[0]) is kind
    if kind is PolyCollection:
        assert np.asarray(ax.collections[0].get_array()).sum() == size


@pytest.mark.parametrize(
    "parity",
    [
        Parity(np.array([1.0]), np.array([1.0])),
        Parity(np.zeros(3), np.zeros(3)),
        Parity(np.array([0.0, 1.0]), np.array([np.nan, 1.0])),
        Parity(np.array([0.0]), np.array([np.nan])),
    ],
    ids=["one exact value", "all zero", "a NaN", "only NaN"],
)
def test_degenerate_values_still_make_a_picture(parity):
    """One value, no spread or a network that diverged: the picture says so and does not fail."""
    ax = parity_plot(MEASURES["stress"], {"val": parity}).axes[0]
    low, high = ax.get_xlim()
    assert low < high


def test_learning_curves_mark_the_epoch_with_the_lowest_validation_loss():
    """The line stands at the epoch whose checkpoint is the best one, in every panel."""
    epochs = np.arange(5)
    history = {
        "train_loss": (epochs, 1.0 / (1.0 + epochs)),
        "val_loss": (epochs, np.array([3.0, 2.0, 0.5, 1.0, 1.5])),
        "val_forces_mae": (epochs, np.full(5, 0.2)),
    }
    figure = learning_curves(history)
    assert [ax.get_title() for ax in figure.axes] == ["loss", "forces MAE (eV/Å)"]
    for ax in figure.axes:
        assert ax.lines[-1].get_xdata() == [2, 2]
        assert ax.get_yscale() == "log"


def test_a_loss_of_zero_or_less_is_drawn_on_a_linear_axis():
    """A logarithmic axis would drop those points silently."""
    ax = learning_curves({"train_loss": (np.arange(3), np.array([1.0, 0.0, 0.0]))}).axes[0]
    assert ax.get_yscale() == "linear"


def test_a_dimer_plot_shows_the_well_and_cuts_the_wall():
    """A wall of 1e4 eV does not flatten a well of 2 eV; its whole slope is shown too."""
    distances = np.linspace(1.0, 6.0, 200)
    energies = 2.0 * ((2.3 / distances) ** 12 - 2.0 * (2.3 / distances) ** 6)
    slopes = np.gradient(energies, distances)
    figure = dimer_plot({"Si–Si": (distances, energies, slopes)}, cutoffs=[5.0])
    (low, high), (lowest, highest) = (ax.get_ylim() for ax in figure.axes)
    assert low < energies.min() < 0.0 < high < 5.0
    assert lowest < 0.0 < slopes.max() < highest < 2.0 * slopes.max()
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["Si–Si", "cutoff"]


@pytest.mark.parametrize("energies", [np.zeros(5), np.full(5, np.nan), np.arange(5.0, 0.0, -1.0)])
def test_a_dimer_plot_needs_no_well(energies):
    """Atoms that do not interact, or only repel one another, are drawn as well."""
    dimer_plot({"He–He": (np.arange(1.0, 6.0), energies, np.gradient(energies))}).draw_without_rendering()
