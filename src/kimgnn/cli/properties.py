"""``kimgnn export`` of a network that predicts properties and no energies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kimgnn.models.checkpoint import Checkpoint


def export_property_files(
    run: Path,
    trained: Checkpoint,
    name: str | None,
    directory: Path,
    formats: Sequence[str] | None,
    *,
    verify: bool,
    force: bool,
) -> None:
    """Write a folder of files of properties, if they give what PyTorch gives, and say what was done.

    Args:
        run: A run directory or a checkpoint; names the folder where nothing else does.
        trained: What it holds.
        name: The folder's; by default the manifest's ``export.model_name``, or the run's name and ``-properties``.
        directory: Where it is made.
        formats: By default the manifest's.
        verify: Compare the files with PyTorch.
        force: Replace an export of that name.

    Raises:
        ExportError: They cannot be written, or are not what was trained.
    """
    from kimgnn.export.property_package import export_properties
    from kimgnn.verify.property_gate import approve_properties, what_of_properties_is_compared

    declared = trained.manifest.get("export", {})
    name = name or declared.get("model_name") or f"{_run_name(run)}-properties"
    formats = formats or declared.get("formats") or ["torchscript"]
    if not verify:
        print(f"--no-verify: not compared with PyTorch: {what_of_properties_is_compared(trained, formats)}")
    folder = export_properties(
        trained,
        name,
        directory,
        formats=formats,
        tarball=declared.get("generate_tarball", False),
        force=force,
        approve=partial(approve_properties, checkpoint=trained, rejected=directory / f"{name}.parity.md")
        if verify
        else None,
    )
    print(f"properties in {folder}: no KIM model, for there is no energy head; README.md says how to use them")


def _run_name(run: Path) -> str:
    path = run.resolve()
    if path.is_file() and path.parent.name == "checkpoints":
        return path.parent.parent.name
    return path.stem if path.is_file() else path.name
