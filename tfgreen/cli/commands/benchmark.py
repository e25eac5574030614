"""``tfgreen benchmark``: how long a file takes."""

from __future__ import annotations

import argparse

import tfgreen as tg
from tfgreen.cli.arguments import add_result, add_tflite
from tfgreen.cli.command import OK, Command
from tfgreen.cli.models import check_files
from tfgreen.cli.printing import check_output, show
from tfgreen.cli.start import start_litert
from tfgreen.cli.values import whole


def benchmark(arguments: argparse.Namespace) -> int:
    """Measure the latency of TFLITE on this machine."""
    check_files(arguments.tflite)
    check_output(arguments)
    start_litert(arguments)
    show(arguments, tg.benchmark(tg.load_litert(arguments.tflite), threads=arguments.threads, runs=arguments.runs))
    return OK


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_tflite(parser)
    parser.add_argument("--threads", type=whole(1), default=1, metavar="N", help="CPU threads (default: %(default)s)")
    parser.add_argument("--runs", type=whole(1), default=100, metavar="N", help="timed runs (default: %(default)s)")
    add_result(parser)


COMMAND = Command(benchmark, _add_arguments, ("tfgreen benchmark model.tflite --threads 2",))
