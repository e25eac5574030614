"""``tfgreen convert``: a Keras model as a file for LiteRT."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import tfgreen as tg
from tfgreen.cli.arguments import add_data, add_model, add_printing
from tfgreen.cli.command import OK, Command
from tfgreen.cli.data import load_samples
from tfgreen.cli.models import check_files, load_keras
from tfgreen.cli.printing import give
from tfgreen.cli.start import start_tensorflow
from tfgreen.cli.values import layer_mode
from tfgreen.errors import ConversionError, InvalidValueError
from tfgreen.files import made_folder

if TYPE_CHECKING:
    from tfgreen.typing import Arrays

_MODES = ("float32", "float16", "dynamic", "int8", "int16x8", "int4")


def convert(arguments: argparse.Namespace) -> int:
    """Write MODEL as a .tflite file."""
    check_files(arguments.model)
    if arguments.data is not None and not arguments.quantization.startswith("int"):
        raise InvalidValueError(
            f"--data: expected with int8, int16x8 and int4 only, received --quantization {arguments.quantization}."
        )
    samples = None if arguments.data is None else load_samples(arguments, "train", "test")
    target = Path(arguments.output)
    if target.suffix != ".tflite" or target.is_dir():
        target /= f"{Path(arguments.model).stem}-{arguments.quantization}.tflite"
    with made_folder(target.parent) as folder:
        progress = start_tensorflow(arguments)
        model = load_keras(arguments, arguments.model)
        with progress.step(f"convert to {arguments.quantization}"):
            lite = tg.convert(model, _config(arguments, None if samples is None else samples(model)))
        findings = tg.check_target(lite, arguments.runs_on) if arguments.runs_on else []
        if any(finding.severity == "error" for finding in findings):
            raise ConversionError(" ".join(str(finding) for finding in findings))
        path = lite.save(folder / target.name)
    operators, notes = dict(lite.operators), [*lite.notes, *map(str, findings)]
    facts = {"path": str(path), "quantization": lite.quantization, "size_bytes": lite.size_bytes}
    lines = [
        f"{path}: {lite.size_bytes:,} bytes ({lite.gzip_bytes:,} after gzip), {lite.quantization}",
        "operators: " + ", ".join(f"{count} {name}" for name, count in operators.items()),
    ]
    facts |= {"gzip_bytes": lite.gzip_bytes, "operators": operators, "notes": notes}
    give(arguments, facts, "\n".join([*lines, *notes]))
    return OK


def _config(arguments: argparse.Namespace, samples: Arrays | None) -> tg.ConvertConfig:
    return tg.ConvertConfig(
        quantization=arguments.quantization,
        calibration_data=samples,
        calibration=arguments.calibration,
        keep_float=tuple(arguments.keep_float),
        layers=dict(arguments.layers),
        strict=arguments.strict,
        dynamic_batch=arguments.dynamic_batch,
        flex=arguments.flex,
        sparse_weights={"yes": True, "no": False}.get(arguments.sparse_weights, "auto"),
        weight_scales=arguments.weight_scales,
    )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--quantization", choices=_MODES, default="float32", help="default: %(default)s")
    add_data(parser, "samples to calibrate the int modes with", required=False, samples=512)
    help = "how ranges of int8 are found (default: %(default)s)"
    parser.add_argument("--calibration", choices=("minmax", "percentile", "mse"), default="minmax", help=help)
    help = "leave it in float32: the name of a layer, or a pattern"
    parser.add_argument("--keep-float", action="append", default=[], metavar="LAYER", help=help)
    help = "a layer's own mode, float32, int8 or int4; a pattern"
    parser.add_argument(
        "--layer", dest="layers", action="append", default=[], metavar="LAYER=MODE", type=layer_mode, help=help
    )
    parser.add_argument("--strict", action="store_true", help="fail if another operator stays float32")
    parser.add_argument("--dynamic-batch", action="store_true", help="leave the number of samples open")
    parser.add_argument("--flex", action="store_true", help="allow TensorFlow's own operators (float modes)")
    help = "store what is not 0 only (default: auto, where it is worth it; float32 and float16)"
    parser.add_argument("--sparse-weights", choices=("auto", "yes", "no"), default="auto", help=help)
    help = "round the scales of channels, so that they compress (int modes; default: %(default)s)"
    parser.add_argument("--weight-scales", choices=("float32", "bfloat16"), default="float32", help=help)
    parser.add_argument("--runs-on", choices=("xnnpack", "tflm", "edgetpu"), help="fail if it cannot run the file")
    help = "the file to write, or a folder, where its name becomes MODEL-MODE.tflite (default: the current one)"
    parser.add_argument("--output", metavar="FILE.tflite", default=".", help=help)
    add_printing(parser)


COMMAND = Command(
    convert,
    _add_arguments,
    (
        "tfgreen convert model.keras --quantization int8 --data data.npz --output out",
        "tfgreen convert model.keras --quantization float16 --runs-on xnnpack --output small.tflite --json",
    ),
)
