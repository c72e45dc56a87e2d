"""The command line answers before anything heavy is imported."""

import json
import subprocess
import sys

import pytest
import typer

from kimgnn.cli import app

HEAVY = {
    "ase",
    "kliff",
    "lightning",
    "loguru",
    "matplotlib",
    "numpy",
    "pydantic",
    "torch",
    "torch_geometric",
    "unittest",  # whose mock imports asyncio and ssl
}

SESSION = """
import json, sys
from kimgnn.cli import main
sys.argv[0] = "kimgnn"
try:
    main()
except SystemExit as left:
    print(json.dumps([left.code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""
"""Runs a command, then prints its exit status and the packages that it imported."""


def commands(group, *path):
    """Yield the words of every command and group of commands under ``group``."""
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *path, name)


EVERY_COMMAND = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=" ".join)
def test_every_command_has_help(kimgnn, command):
    """The help of each command names it and what it is for."""
    status, output, messages = kimgnn(*command, "--help")
    assert (status, messages) == (0, "")
    assert " ".join(["Usage: kimgnn", *command]) in output


@pytest.mark.parametrize(
    ("command", "heavy"),
    [([], HEAVY), (["train"], HEAVY - {"pydantic"})],  # typer itself reads a command's arguments with pydantic
    ids=["kimgnn", "train"],
)
def test_help_imports_nothing_heavy(command, heavy):
    """Help waits for no package that takes longer than it does."""
    words = [*command, "--help"]
    ran = subprocess.run([sys.executable, "-c", SESSION, *words], capture_output=True, text=True, check=True)
    status, packages = json.loads(ran.stdout.splitlines()[-1])
    assert status == 0
    assert "typer" in packages
    assert not heavy & set(packages)


def test_import_alone_is_the_standard_library():
    """``import kimgnn`` imports no package but itself."""
    code = "import sys, kimgnn; print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    before = subprocess.run([sys.executable, "-c", code.replace(", kimgnn", "")], capture_output=True, text=True)
    after = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(after.stdout.split()) - set(before.stdout.split()) == {"kimgnn"}
