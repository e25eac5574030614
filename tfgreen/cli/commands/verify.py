"""``tfgreen verify``: whether a file does what its model does."""

from __future__ import annotations

import argparse

import tfgreen as tg
from tfgreen.cli.arguments import add_data, add_model, add_result, add_tflite
from tfgreen.cli.command import FAILED, OK, Command
from tfgreen.cli.data import load_samples
from tfgreen.cli.models import check_files, load_keras
from tfgreen.cli.printing import check_output, show
from tfgreen.cli.start import start_tensorflow


def verify(arguments: argparse.Namespace) -> int:
    """Compare the outputs of TFLITE with those of MODEL; exit code 1 if they differ too much."""
    check_files(arguments.model, arguments.tflite)
    check_output(arguments)
    samples = load_samples(arguments, "test", "train")
    progress = start_tensorflow(arguments)
    lite = tg.load_litert(arguments.tflite)
    model = load_keras(arguments, arguments.model)
    with progress.step("run both models"):
        result = tg.verify(model, lite, samples(model))
    show(arguments, result)
    return OK if result.passed else FAILED


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_tflite(parser)
    add_data(parser, "samples to compare on", samples=500)
    add_result(parser)


COMMAND = Command(verify, _add_arguments, ("tfgreen verify model.keras model.tflite --data data.npz",))
