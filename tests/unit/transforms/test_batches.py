"""Bounds: consecutive batches, none above its bounds, none smaller than it must be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kimgnn.transforms.batches import Bounds

LIMIT = st.none() | st.integers(1, 40)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30))), st.integers(1, 5), LIMIT, LIMIT)
def test_batches_are_as_large_as_they_may_be(
    sizes: list[tuple[int, int]], structures: int, atoms: int | None, edges: int | None
) -> None:
    """All items in order; within the bounds or alone; and the next item would not have fitted."""
    bounds = Bounds(structures, atoms, edges)
    batches = list(bounds.batches(range(len(sizes)), sizes.__getitem__))
    assert [index for batch in batches for index in batch] == list(range(len(sizes)))

    def fits(batch: list[int]) -> bool:
        total = [sum(sizes[index][kind] for index in batch) for kind in (0, 1)]
        within = all(limit is None or n <= limit for n, limit in zip(total, (atoms, edges), strict=True))
        return len(batch) <= structures and within

    for batch, following in zip(batches, [*batches, None][1:], strict=True):
        assert fits(batch) or len(batch) == 1
        assert following is None or not fits([*batch, following[0]])


def test_without_bounds_of_size_the_number_alone_counts() -> None:
    assert list(Bounds(2).batches("abcde", lambda item: (10**9, 10**9))) == [["a", "b"], ["c", "d"], ["e"]]
    assert not Bounds(2).by_size
    assert str(Bounds(2, atoms=5, edges=7)) == "5 atoms or 7 edges"
