"""The command line: parse, check what is cheap to check, call one public verb, print, exit code."""

from tfgreen.cli.entry import main

__all__ = ["main"]
