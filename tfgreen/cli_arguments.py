"""The arguments of the command line; imports nothing but argparse, so that ``--help`` is instant."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import NoReturn

from tfgreen.errors import InvalidValueError
from tfgreen.version import __version__


class _Parser(argparse.ArgumentParser):
    """Reports a wrong argument as any other bad input."""

    def error(self, message: str) -> NoReturn:
        raise InvalidValueError(f"{message}; see '{self.prog} --help'")


def make_parser(commands: Iterable[Callable[..., int]]) -> argparse.ArgumentParser:
    """The parser of ``tfgreen``, from the functions behind the commands: their names, and their docstrings as help.

    The function chosen is ``command`` of the parsed arguments.
    """
    functions = {function.__name__: function for function in commands}
    parser = _Parser(prog="tfgreen", description="Make Keras 3 models small, fast and measured.")
    parser.add_argument("--version", action="version", version=f"tfgreen {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, *positional: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=functions[name].__doc__, description=functions[name].__doc__)
        helps = {"model": "Keras model, .keras or .h5", "tflite": "LiteRT model, .tflite"}
        for argument in positional:
            sub.add_argument(argument, metavar=argument.upper(), help=helps[argument])
        sub.add_argument("--json", action="store_true", help="print the result as JSON")
        sub.set_defaults(command=functions[name])
        return sub

    sub = command("demo")
    sub.add_argument("--output", metavar="DIR", default="tfgreen-out", help="folder to write (default: %(default)s)")
    sub.add_argument("--model", metavar="FILE", help="a trained classifier of your own; needs --data")
    sub.add_argument("--data", metavar="FILE.npz", help="its data: x_train, y_train, x_test, y_test")
    sub.add_argument("--seed", type=_whole(0), default=0, metavar="N", help="equal seeds give equal models")
    sub.add_argument("--epochs", type=_whole(1), metavar="N", help="of pruning (default: 16; 4 with --model)")
    sub.add_argument("--sparsity", type=_share, metavar="S", help="to prune to (default: 0.8; 0.5 with --model)")
    sub.add_argument("--region", metavar="DEU", help="country whose grid feeds this machine, for the CO2 figure")

    command("profile", "model")

    sub = command("convert", "model")
    modes = ("float32", "float16", "dynamic", "int8", "int16x8", "int4")
    sub.add_argument("--quantization", choices=modes, default="float32")
    help = "samples to calibrate the int modes with: an array per input name, or x_train, x or x_test"
    sub.add_argument("--data", metavar="FILE.npz", help=help)
    sub.add_argument("--samples", type=_whole(1), default=512, metavar="N", help="how many (default: %(default)s)")
    sub.add_argument("--calibration", choices=("minmax", "percentile", "mse"), default="minmax", help="of int8 ranges")
    sub.add_argument("--keep-float", action="append", default=[], metavar="LAYER", help="stays float32; a pattern")
    help = "a layer's own mode, float32, int8 or int4; a pattern"
    sub.add_argument("--layer", action="append", default=[], metavar="LAYER=MODE", type=_layer_mode, help=help)
    sub.add_argument("--strict", action="store_true", help="fail if another operator stays float32")
    sub.add_argument("--dynamic-batch", action="store_true", help="leave the number of samples open")
    sub.add_argument("--flex", action="store_true", help="allow TensorFlow's own operators (float modes)")
    help = "store what is not 0 only (default: auto, where it is worth it; float32 and float16)"
    sub.add_argument("--sparse-weights", choices=("auto", "yes", "no"), default="auto", help=help)
    sub.add_argument("--target", choices=("xnnpack", "tflm", "edgetpu"), help="fail if it cannot run the file")
    sub.add_argument("--output", metavar="DIR", default=".", help="folder to write to (default: the current one)")

    sub = command("verify", "model", "tflite")
    sub.add_argument("--data", metavar="FILE.npz", required=True, help="samples to compare on: x_test, x or x_train")
    sub.add_argument("--samples", type=_whole(1), default=500, metavar="N", help="how many (default: %(default)s)")

    sub = command("benchmark", "tflite")
    sub.add_argument("--threads", type=_whole(1), default=1, metavar="N", help="CPU threads (default: %(default)s)")
    sub.add_argument("--runs", type=_whole(1), default=100, metavar="N", help="timed runs (default: %(default)s)")

    sub = command("energy")
    help = "LiteRT or Keras model; of several, each is compared with the first"
    sub.add_argument("models", metavar="MODEL", nargs="+", help=help)
    sub.add_argument("--data", metavar="FILE.npz", required=True, help="a sample to run: x_test, x or x_train")
    sub.add_argument("--seconds", type=_positive, default=5.0, metavar="S", help="for each (default: %(default)s)")
    sub.add_argument("--threads", type=_whole(1), default=1, metavar="N", help="CPU threads (default: %(default)s)")
    sub.add_argument("--idle", type=_positive, default=0.0, metavar="S", help="read the idle power first, so long")
    sub.add_argument("--meter", metavar="FILE.csv", help="timestamps and watts of a power meter, while it is written")
    sub.add_argument("--region", metavar="DEU", help="country whose grid feeds this machine, for the CO2 figure")

    sub = command("devices")
    help = "estimate it on each: LiteRT model, or a Keras model, which is converted to float32"
    sub.add_argument("model", metavar="MODEL", nargs="?", help=help)
    help = "one to look at: a name, or a profile of your own, a .json file (default: all that tfgreen brings)"
    sub.add_argument("--device", action="append", default=[], metavar="NAME", help=help)
    sub.add_argument("--this-machine", action="store_true", help="measure this machine too, for some seconds")
    for name, unit in (("latency", "MS"), ("joules", "J"), ("price", "USD")):
        sub.add_argument(f"--{name}", type=_positive, metavar=unit, help="the most that is allowed; needs MODEL")
    sub.add_argument("--prefer", choices=("energy", "carbon", "latency", "price"), default="energy", help="to be least")
    sub.add_argument("--region", metavar="DEU", help="country whose grid feeds the device, for the CO2 figure")

    command("doctor")
    return parser


def _whole(least: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) < 2**32:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least}, received '{text}'")
        return int(text)

    return integer


def _layer_mode(text: str) -> tuple[str, str]:
    layer, _, mode = text.rpartition("=")
    if not layer or mode not in ("float32", "int8", "int4"):
        raise argparse.ArgumentTypeError(f"expected LAYER=float32, LAYER=int8 or LAYER=int4, received '{text}'")
    return layer, mode


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, received '{text}'")
    return value


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, received '{text}'")
    return value
