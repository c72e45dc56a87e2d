"""Folders that an export writes: all of them whole and in their places, or none."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from kimgnn.errors import ExportError


def refuse_if_taken(target: Path, force: bool) -> None:
    """Do nothing if a folder may be written at ``target``.

    Raises:
        ExportError: There is a file, or a folder that is not empty and must not be replaced.
    """
    if target.exists() and not target.is_dir():
        raise ExportError("is a file", where=str(target), remedy="Choose another name or folder.")
    if target.is_dir() and any(target.iterdir()) and not force:
        raise ExportError("exists already", where=str(target), remedy="Choose another name or folder, or force.")


def write_folders(
    writers: Mapping[Path, Callable[[Path], None]],
    *,
    tarball: bool = False,
    approve: Callable[[Sequence[Path]], None] | None = None,
) -> None:
    """Write folders, in the place of those that are there.

    Args:
        writers: Folder -> what fills it; all in one directory.
        tarball: Also write ``<name>.tar.gz`` beside each folder.
        approve: Called with the folders before they are in their places: it may add files, and nothing is left if it
            raises.

    Raises:
        ExportError: They cannot be written.
    """
    first = next(iter(writers))
    with _told_as_export_error(first):
        first.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=first.parent, prefix=f".{first.name}.")
    # Written beside their places, then moved there.
    with temporary as staging:
        folders = {target: Path(staging) / target.name for target in writers}
        with _told_as_export_error(first):
            for target, write in writers.items():
                folders[target].mkdir()
                write(folders[target])
        if approve is not None:
            approve(list(folders.values()))
        with _told_as_export_error(first):
            for target, folder in folders.items():
                _move(folder, target, tarball)


@contextmanager
def _told_as_export_error(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(f"cannot be written: {error.strerror}", where=str(where)) from error


def _move(folder: Path, target: Path, tarball: bool) -> None:
    archive = folder.with_name(f"{folder.name}.tar.gz")
    if tarball:
        with tarfile.open(archive, "w:gz") as file:
            file.add(folder, arcname=folder.name, filter=_anonymous)
    if target.is_dir():
        os.rename(target, folder.with_name(f"{folder.name}.replaced"))
    os.rename(folder, target)
    if tarball:
        os.replace(archive, target.with_name(archive.name))


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
