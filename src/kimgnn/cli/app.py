"""The command line: ``kimgnn validate``, ``train``, ``tune``, ``compare``, ``predict``, ``export`` and others.

Every command imports what it needs when it runs, so that ``kimgnn --help`` answers at once.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kimgnn.cli.active import active
from kimgnn.cli.bench import bench_app
from kimgnn.cli.compare import compare
from kimgnn.cli.data import data_app
from kimgnn.cli.fusion import fusion
from kimgnn.cli.importance import importance
from kimgnn.cli.log import set_up_log
from kimgnn.cli.predict import predict
from kimgnn.cli.serve import serve
from kimgnn.cli.tasks import tasks
from kimgnn.cli.tune import tune
from kimgnn.errors import DataError, ExportError, KIMError, KimgnnError

if TYPE_CHECKING:
    from kliff.dataset import Configuration

    from kimgnn.evaluation.predict import Prediction
    from kimgnn.models.checkpoint import Checkpoint

app = typer.Typer(
    help="Graph neural networks for materials: trained through KLIFF from a manifest, run in ASE and LAMMPS.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
driver_app = typer.Typer(help="The KIM model drivers that run exported models.", no_args_is_help=True)
app.add_typer(driver_app, name="driver")
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")

ManifestFile = Annotated[Path, typer.Argument(help="The manifest, YAML.", show_default=False)]
Trained = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="A run directory (its best checkpoint) or a checkpoint.", show_default=False),
]
Collection = Annotated[Literal["user", "environment", "CWD"], typer.Option(help="The KIM collection to install into.")]


@app.command()
def validate(manifest: ManifestFile) -> None:
    """Check a manifest, read its data, and do one forward and backward pass."""
    set_up_log()
    from kimgnn.manifest import load_manifest
    from kimgnn.training.dry_run import dry_run

    print(dry_run(load_manifest(manifest)))


@app.command()
def train(
    manifest: ManifestFile,
    resume: Annotated[
        str | None,
        typer.Option(help="A run directory to continue, or 'last' for the newest of this name.", show_default=False),
    ] = None,
) -> None:
    """Train, and write checkpoints and a report into a new run directory."""
    set_up_log()
    from kimgnn.evaluation.metrics import metrics_table
    from kimgnn.manifest import load_manifest
    from kimgnn.models.tasks import tasks_of
    from kimgnn.training.run_directory import process_rank
    from kimgnn.training.trainer import GNNLightningTrainer

    plain = load_manifest(manifest).to_dict()
    if resume is not None:
        plain["workspace"]["resume"] = True if resume == "last" else resume
    trainer = GNNLightningTrainer(plain)
    try:
        trainer.train()
    except KeyboardInterrupt:
        print(f"To go on: kimgnn train {manifest} --resume {trainer.run.path}", file=sys.stderr)
        raise
    metrics = trainer.run.path / "report" / "metrics.json"
    if process_rank() == 0 and metrics.is_file():
        tasks = tasks_of(plain["model"]["heads"] or [])
        print(metrics_table(json.loads(metrics.read_text(encoding="utf-8")), tasks))


@app.command()
def evaluate(
    run: Trained,
    files: Annotated[list[Path], typer.Argument(help="Structures with labels, any format ASE reads.")],
    report: Annotated[
        Path | None, typer.Option(help="Folder to write parity plots and tables into.", show_default=False)
    ] = None,
) -> None:
    """Compare predictions with the labels of files, which are read as the run's manifest reads its data."""
    set_up_log()
    from kimgnn.data.requirements import unseen_elements
    from kimgnn.data.sources import read_configurations, source_of
    from kimgnn.evaluation.heads import compare_heads, head_metrics
    from kimgnn.evaluation.metrics import compare, error_metrics, metrics_table
    from kimgnn.evaluation.report import undefined_metrics, write_report
    from kimgnn.evaluation.uncertainty import interval_coverage
    from kimgnn.models.tasks import tasks_of
    from kimgnn.training.targets import labels_read, require_states, state_specs, target_spec

    trained = _load(run)
    tasks = tasks_of(trained.spec.heads)
    paths = [str(file) for file in files]
    source = trained.manifest["dataset"] | {"slices": None, "weights": None}
    if source["type"] in ("colabfit", "materials_project"):  # they read no file
        source |= source_of(files[0])
    source["path"] = paths
    specs, states = list(dict.fromkeys(target_spec(task) for task in tasks)), state_specs(trained.spec.options)
    configurations = read_configurations(source, targets=specs + states, labels=labels_read(trained.spec.heads))
    require_states(configurations, states)
    if told := unseen_elements(configurations, trained.spec.species):
        warnings.warn(told, stacklevel=1)
    predictions = _predict(trained, configurations)
    parities = {"given": compare(predictions, configurations)}
    heads = {"given": compare_heads(tasks, predictions, configurations)}
    if not parities["given"] and not heads["given"]:
        raise DataError(
            "no structure carries a label", where="FILES", value=paths, remedy="`kimgnn predict` needs no labels."
        )
    print(metrics_table({"given": error_metrics(parities["given"]) | head_metrics(heads["given"])}, tasks))
    print("".join(f"{note}\n" for note in undefined_metrics(heads)), end="")
    for name, share in interval_coverage(predictions, configurations, tasks).items():
        print(f"{name.removesuffix('_coverage')}: {100 * share:.1f} % of the labels are within {_asked(trained)}")
    if report is not None:
        print(f"report in {write_report(report, parities, {}, trained.manifest, heads).path}")


app.command()(predict)
app.command()(serve)
app.command()(tune)
app.command()(active)
app.command()(compare)
app.command()(tasks)
app.command()(fusion)
app.command()(importance)


@app.command()
def export(
    run: Trained,
    name: Annotated[
        str | None,
        typer.Option(
            help="KIM name, <prefix>__MO_<12 digits>_<3 digits>; by default the manifest's.", show_default=False
        ),
    ] = None,
    directory: Annotated[Path, typer.Option(help="Folder to write the models' folders into.")] = Path("."),
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="torchscript|onnx|pt2",
            help="A format to write, each a KIM model: give it for each; by default the manifest's.",
            show_default=False,
        ),
    ] = None,
    driver: Annotated[
        Literal["kimgnn", "torchml"] | None,
        typer.Option(help="The driver that will run it; by default the manifest's.", show_default=False),
    ] = None,
    tabulate: Annotated[
        bool | None,
        typer.Option(
            help="Write tables of splines for what layers make of distances; by default the manifest's.",
            show_default=False,
        ),
    ] = None,
    intervals: Annotated[
        int | None, typer.Option(min=1, help="Of each table; by default eight a Gaussian.", show_default=False)
    ] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Install them, and their drivers, into the user's KIM collection.")
    ] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not compare them with PyTorch, and say what that skips.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace folders and installed models of these names.")
    ] = False,
) -> None:
    """Write a KIM portable model in each format, if in Python, ASE and LAMMPS it gives what PyTorch gives.

    What property and classification heads predict is written too, as files of their own; of a network without an energy
    head, into a folder of its own, which is no KIM model.
    """
    set_up_log()
    from kimgnn.cli.properties import export_property_files
    from kimgnn.export.driver import driver_name, install_driver, install_model, is_installed
    from kimgnn.export.formats import FORMATS, model_names
    from kimgnn.export.portable_model import export_portable_model
    from kimgnn.export.property_package import has_properties
    from kimgnn.kim_id import RULE
    from kimgnn.verify.gate import approve_exports, what_is_compared
    from kimgnn.verify.property_gate import approve_properties, what_of_properties_is_compared
    from kimgnn.verify.tabulation import tabulate as make_tables

    trained = _load(run)
    if "energy" not in trained.network.heads:
        given = {
            "--install": install,
            "--driver": driver == "torchml",
            "--tabulate": tabulate,
            "--intervals": intervals,
        }
        if asked := [option for option, value in given.items() if value]:
            raise ExportError(
                "without an energy head it is no KIM model",
                where=asked[0],
                remedy="Leave it out: the files of properties are loaded where they are.",
            )
        export_property_files(run, trained, name, directory, formats, verify=not no_verify, force=force)
        return
    declared = trained.manifest.get("export", {})
    name = name or declared.get("model_name")
    if name is None:
        raise ExportError("the manifest names no model", where="export.model_name", allowed=RULE, remedy="Give --name.")
    driver = driver or declared.get("driver") or "kimgnn"
    names = model_names(name, formats or declared.get("formats") or ["torchscript"])
    with_properties = has_properties(trained)
    if driver == "torchml":
        print("not compared with PyTorch: the TorchML driver is not kimgnn's")
    elif no_verify:
        print(f"--no-verify: not compared with PyTorch: {what_is_compared(trained, names)}")
    if no_verify and with_properties:
        print(f"--no-verify: not compared with PyTorch: {what_of_properties_is_compared(trained, names)}")

    wanted = False if tabulate is False else intervals or declared.get("tabulate") or bool(tabulate)
    tabulation = make_tables(trained, wanted)
    if tabulation is not None:
        print(f"tables: {tabulation}")

    def approve(folders: Sequence[Path]) -> None:
        rejected = directory / f"{name}.parity.md"
        if driver == "kimgnn":
            approve_exports(folders, trained, rejected, tabulation=tabulation)
        if with_properties:
            approve_properties(folders, trained, rejected)

    export_portable_model(
        trained,
        name,
        directory,
        formats=list(names),
        driver=driver,
        driver_version=declared.get("driver_version"),
        tabulation=tabulation,
        tarball=declared.get("generate_tarball", False),
        force=force,
        approve=None if no_verify else approve,
    )
    for model in names.values():
        print(f"KIM portable model in {directory / model}")
    if not install:
        return
    if driver == "kimgnn":
        for kind in dict.fromkeys(FORMATS[format_name].driver for format_name in names):
            if not is_installed(driver_name(kind)):
                print(f"building its driver, {driver_name(kind)}, once; this takes a minute")
                install_driver(kind)
                print(f"installed: {driver_name(kind)}")
    for model in names.values():
        install_model(directory / model, force=force)
        print(f"installed: {model}")


DriverKind = Annotated[
    Literal["torch", "onnx"], typer.Argument(help="torch runs TorchScript and pt2 models, onnx runs ONNX models.")
]


@app.command()
def verify(
    model: Annotated[str, typer.Argument(help="The KIM name of any installed portable model.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report; by default <MODEL>-verification.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a report in that folder.")] = False,
) -> None:
    """Run OpenKIM's ten verification checks on a KIM model; exit status 1 if it does not pass them all."""
    set_up_log()
    from kimgnn.verify.verification import verify_model
    from kimgnn.verify.verification_report import REPORT, write_verification

    folder = output or Path(f"{model}-verification")
    if (folder / REPORT).exists() and not force:
        raise KIMError("exists already", where=str(folder / REPORT), remedy="Give another --output, or --force.")
    verification = verify_model(model, tell=print)
    print(f"report in {write_verification(folder, verification)}")
    raise typer.Exit(code=0 if verification.passed else 1)


@driver_app.command("install")
def driver_install(
    kind: DriverKind = "torch",
    collection: Collection = "user",
    force: Annotated[bool, typer.Option("--force", help="Compile anew what was compiled before.")] = False,
) -> None:
    """Build a driver against this Python's libtorch or onnxruntime, and install it."""
    from kimgnn.export.driver import install_driver

    path = install_driver(kind, collection, force)
    print(f"installed: {path.name} in {path.parent}")


@driver_app.command("remove")
def driver_remove(kind: DriverKind = "torch") -> None:
    """Remove a driver from the collection it is in."""
    from kimgnn.export.driver import driver_name, remove_item

    remove_item(driver_name(kind))
    print(f"removed: {driver_name(kind)}")


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say what is missing on this machine, and how to get it; exit status 1 if anything is."""
    from dataclasses import asdict

    from kimgnn.doctor import examine

    checks = examine()
    print(json.dumps([asdict(check) for check in checks], indent=2) if as_json else "\n".join(map(str, checks)))
    raise typer.Exit(code=0 if all(check.found for check in checks) else 1)


def _load(path: Path) -> Checkpoint:
    """Load a checkpoint, or the best one of a run directory."""
    from kimgnn.models.checkpoint import load_checkpoint

    return load_checkpoint(path / "checkpoints" / "best.ckpt" if path.is_dir() else path)


def _asked(trained: Checkpoint) -> str:
    return f"intervals (or sets of classes) of {100 * trained.calibration['level']:g} %"


def _predict(trained: Checkpoint, configurations: Sequence[Configuration]) -> list[Prediction]:
    from kimgnn.evaluation.calibrated import calibrated
    from kimgnn.evaluation.sampling import predict_as_asked
    from kimgnn.models.tasks import tasks_of
    from kimgnn.physics.potential import Potential
    from kimgnn.registry import TRANSFORMS

    transform = TRANSFORMS.get(trained.transform["name"])(**trained.transform["kwargs"])
    found = predict_as_asked(Potential(trained.network), configurations, transform, trained.manifest)
    sizes = [len(item.species) for item in configurations]
    return calibrated(found, tasks_of(trained.spec.heads), sizes, trained.calibration)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"Warning: {message}", file=sys.stderr)


def main() -> None:
    """Run the command line; a problem with the input is a message and exit status 1, Ctrl-C is 130."""
    warnings.showwarning = _show_warning
    try:
        app()
    except KimgnnError as error:
        print(f"{type(error).__name__}:\n{error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"{error.filename or type(error).__name__}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
