"""What the integration tests share: a KIM collection of their own with the drivers in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kimgnn.export.driver import DRIVERS, install_driver, private_collection


@pytest.fixture(scope="session")
def kim_collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user collection of the tests' own, in use for the rest of the session, with our drivers installed."""
    directory = tmp_path_factory.mktemp("kim")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in private_collection(directory).items():
            patch.setenv(name, value)
        for kind in DRIVERS.values():
            install_driver(kind)
        yield directory
