"""``kimgnn data cache``: where graphs are kept from one run to the next, how many, and a way to be rid of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def cache(
    folder: Annotated[
        Path | None,
        typer.Argument(help="The folder that dataset.cache names; by default the user's own.", show_default=False),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove what is kept.")] = False,
) -> None:
    """Show where graphs and parsed structures are kept, how many and how large; or remove them."""
    from kimgnn.cache import NAMES, Cache, user_folder
    from kimgnn.errors import DataError

    folder = folder or user_folder()
    print(f"folder      {folder}")
    for name in NAMES:
        if not (folder / f"{name}.lmdb").is_file():
            print(f"{name:10s}  none")
            continue
        kept = Cache(folder, name)
        size, number = kept.size(), len(kept)
        if clear:
            try:
                kept.clear()
            except OSError as error:
                raise DataError(f"the cache cannot be removed: {error}", where=str(kept.path)) from error
        print(f"{name:10s}  {number}, {size / 2**20:.1f} MiB{', removed' if clear else ''}")
