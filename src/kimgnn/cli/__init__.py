"""The command line, one group of commands a file."""

from kimgnn.cli.app import app, main

__all__ = ["app", "main"]
