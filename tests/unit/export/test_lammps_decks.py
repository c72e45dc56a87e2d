"""Which decks a structure gets, and what they relax."""

import pytest

from kimgnn.export.lammps_decks import DECKS, decks

NAME = "Decks_SiC__MO_000000000000_000"


def test_every_deck_of_a_crystal() -> None:
    """All of them; each says what it does, and runs the model on the elements in their order."""
    found = decks(NAME, ["C", "Si"], "ppp")
    assert set(found) == set(DECKS)
    for name, text in found.items():
        assert text.startswith(f"# {DECKS[name]}\n")
        assert f"kim init {NAME} ${{units}} unit_conversion_mode\n" in text
        assert "kim interactions C Si\n" in text
        assert len(max(text.splitlines(), key=len)) <= 120


@pytest.mark.parametrize(
    ("boundary", "relaxed"),
    [
        ("ppp", "change_box all triclinic\nfix box all box/relax x 0.0 y 0.0 z 0.0 xy 0.0 xz 0.0 yz 0.0 vmax"),
        ("ppf", "change_box all triclinic\nfix box all box/relax x 0.0 y 0.0 xy 0.0 vmax"),
        ("fpp", "change_box all triclinic\nfix box all box/relax y 0.0 z 0.0 yz 0.0 vmax"),
        ("fpf", "variable f equal $(v_force*v__u_force)\nfix box all box/relax y 0.0 vmax"),
    ],
)
def test_periodic_vectors_are_relaxed(boundary: str, relaxed: str) -> None:
    """Lengths, and the tilt between two of them; a box that tilts is triclinic."""
    assert relaxed in decks(NAME, ["Si"], boundary)["in.minimize"]


@pytest.mark.parametrize("boundary", ["ppf", "fff"])
def test_without_three_periods(boundary: str) -> None:
    """There is neither pressure nor an elastic constant, and the box shrinks and grows with the atoms."""
    found = decks(NAME, ["Si"], boundary)
    assert set(found) == {"in.nve", "in.nvt", "in.minimize"}
    assert all(f"boundary {' '.join(boundary.replace('f', 's'))}\n" in text for text in found.values())
    assert ("box/relax" in found["in.minimize"]) is (boundary == "ppf")
