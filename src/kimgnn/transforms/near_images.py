"""Who is near to whom in many small crystals, in one pass of NumPy, whose calls take longer than what they do for one.

Every image of every atom that may be near is looked at: of a small crystal these are few, if it is not looked far.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kimgnn.errors import DataError
from kimgnn.transforms.neighbors import COINCIDENT

ROUNDING = 1e-9
"""Of fractional coordinates, and far more."""


class Near(NamedTuple):
    """Sender and receiver ``(2, n_edges)`` int64, and what is added to the receiver's position minus the sender's.

    They are sorted by receiver, the edges of one by the sender's translation and then by the sender, whatever other
    crystals there are. An atom is not near to itself, but may be to its images.
    """

    edge_index: NDArray[np.int64]
    shifts: NDArray[np.float64]


class NearImages:
    """Crystals that repeat in all directions, one after another.

    Args:
        coords: ``(n_atoms, 3)`` Å.
        boxes: ``(n_crystals, 3, 3)`` Å, cell vectors in rows, which have a volume.
        atom_counts: ``(n_crystals,)``, at least one each.
    """

    def __init__(self, coords: NDArray[np.float64], boxes: NDArray[np.float64], atom_counts: NDArray[np.int64]) -> None:
        self.coords = coords
        self.boxes = boxes
        self.atom_counts = atom_counts
        self.starts = atom_counts.cumsum() - atom_counts
        self.owner = np.repeat(np.arange(len(atom_counts)), atom_counts)
        inverse = np.linalg.inv(boxes)
        self._fractional = np.einsum("ni,nij->nj", coords, inverse[self.owner])
        # The columns of the inverse are the normals of planes of the lattice, over how far those are apart.
        self._steps = np.sqrt(np.square(inverse).sum(axis=1))
        self._low = np.minimum.reduceat(self._fractional, self.starts)
        self._high = np.maximum.reduceat(self._fractional, self.starts)

    def looked_at(self, reach: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return of how many pairs of an atom and an image distances are looked at, at most; NaN of what is not finite.

        Args:
            reach: ``(n_crystals,)`` Å.
        """
        return self.atom_counts**2 * (2 * self._most(reach) + 1).prod(axis=1)

    def within(self, reach: NDArray[np.float64], which: NDArray[np.bool_]) -> Near:
        """Return who is within reach of whom.

        Args:
            reach: ``(n_crystals,)`` Å.
            which: Crystals that are looked at ``(n_crystals,)``; the others have no edges.

        Raises:
            DataError: Two atoms are at one place; which, it does not say.
        """
        chosen = np.flatnonzero(which)
        most = self._most(reach)[chosen].astype(np.int64)
        sides = 2 * most + 1
        crystal, place = _spread(sides.prod(axis=1))
        sides, most = sides[crystal], most[crystal]
        translation = np.stack([place // (sides[:, 1] * sides[:, 2]), place // sides[:, 2] % sides[:, 1],
                                place % sides[:, 2]], axis=1) - most  # fmt: skip
        crystal = chosen[crystal]
        # The images, translation by translation, without those that are too far even from the nearest corner.
        image, place = _spread(self.atom_counts[crystal])
        sender = self.starts[crystal][image] + place
        fractional = self._fractional[sender] + translation[image]
        margin = reach[:, None] * self._steps + ROUNDING
        of_image = crystal[image]
        kept = np.flatnonzero(((fractional > (self._low - margin)[of_image])
                               & (fractional < (self._high + margin)[of_image])).all(axis=1))  # fmt: skip
        sender, image, of_image = sender[kept], image[kept], of_image[kept]
        shifts = np.einsum("ni,nij->nj", translation.astype(np.float64), self.boxes[crystal])[image]
        images = np.bincount(of_image, minlength=len(self.atom_counts))
        # Each atom with the images of its crystal: of these are the most, so that each is touched as little as can be.
        counts = np.where(which, images, 0)[self.owner]
        first = (images.cumsum() - images)[self.owner] - (counts.cumsum() - counts)
        place = np.arange(counts.sum()) + np.repeat(first, counts)
        squared = np.zeros(len(place))
        for there, here in zip((self.coords[sender] + shifts).T, self.coords.T, strict=True):
            apart = there[place]
            apart -= np.repeat(here, counts)
            squared += np.square(apart, out=apart)
        near = np.flatnonzero(squared <= np.repeat(np.square(reach)[self.owner], counts))
        place, receiver = place[near], np.repeat(np.arange(len(counts)), counts)[near]
        others = (sender[place] != receiver) | translation[image[place]].any(axis=1)
        place, receiver = place[others], receiver[others]
        if squared[near[others]].min(initial=np.inf) < COINCIDENT**2:
            raise DataError("two atoms are at one place")
        return Near(np.stack([sender[place], receiver]), -shifts[place])

    def _most(self, reach: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the translations to either side that may bring an image within reach ``(n_crystals, 3)``."""
        return np.floor(reach[:, None] * self._steps + ROUNDING + self._high - self._low)


def _spread(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each of so many things of every owner, the owner and its place among the owner's."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - (counts.cumsum() - counts)[owner]
