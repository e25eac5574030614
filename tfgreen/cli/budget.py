"""The options of a budget: what a model may cost, and what finding it may."""

from __future__ import annotations

import argparse

import tfgreen as tg

# Option -> an example, and what it bounds.
BOUNDS = {
    "max_drop": ("1%", "how much worse the metric may get: points of a share such as accuracy, a part of any other"),
    "max_size": ("100kB", "of the .tflite file"),
    "max_gzip": ("80kB", "of the .tflite file after gzip"),
    "max_latency": ("5ms", "of one inference on this machine"),
    "max_memory": ("256kB", "of one inference"),
    "max_joules": ("1mJ", "of one inference"),
    "max_hours": ("30min", "of the run: training ends when they are spent"),
    "max_kwh": ("100Wh", "of the run"),
    "max_co2": ("50g", "of the run, of CO2 equivalent; needs a region"),
}


def add_budget(parser: argparse.ArgumentParser) -> None:
    """An option for each bound."""
    group = parser.add_argument_group("budget", "numbers, or numbers with a unit; they go before those of the recipe")
    for name, (example, help) in BOUNDS.items():
        group.add_argument(f"--{name.replace('_', '-')}", metavar=example, help=help.replace("%", "%%"))


def read_bounds(arguments: argparse.Namespace) -> dict[str, str]:
    """The bounds that are given, as texts, once it is sure that they are some."""
    bounds = {name: value for name in BOUNDS if (value := getattr(arguments, name)) is not None}
    tg.Budget(**bounds)
    return bounds
