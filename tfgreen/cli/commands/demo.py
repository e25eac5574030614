"""``tfgreen demo``: the whole way in one command."""

from __future__ import annotations

import argparse

from tfgreen.cli.arguments import add_data, add_folder, add_model, add_region
from tfgreen.cli.command import FAILED, OK, Command
from tfgreen.cli.data import load_data
from tfgreen.cli.models import check_files, load_keras
from tfgreen.cli.printing import show_report
from tfgreen.cli.start import start_tensorflow
from tfgreen.cli.values import share, whole
from tfgreen.errors import InvalidValueError
from tfgreen.files import check_folder


def demo(arguments: argparse.Namespace) -> int:
    """Prune, convert, verify, measure: the digits of scikit-learn, or a classifier and data of one's own."""
    from tfgreen.energy.carbon.grid import grid_intensity
    from tfgreen.recipes.classification import RESULT_FILES, check_task

    if (arguments.model is None) != (arguments.data is None):
        raise InvalidValueError("--model and --data: expected both or neither, received one of them.")
    data = None
    if arguments.data is not None:
        check_files(arguments.model)
        data = load_data(arguments, check_task, validation_share=0)
    if arguments.region is not None:
        grid_intensity(arguments.region)
    check_folder(arguments.output, RESULT_FILES)
    progress = start_tensorflow(arguments)
    import tensorflow as tf

    from tfgreen.recipes.demo import DemoConfig, run_demo

    if data is None and tf.config.list_physical_devices("GPU"):
        # On a CPU the seed is enough. It cannot be taken back and not every op of a user's model has such a kernel.
        tf.config.experimental.enable_op_determinism()
    settings = {name: getattr(arguments, name) for name in ("seed", "epochs", "sparsity", "region")}
    model = None if arguments.model is None else load_keras(arguments, arguments.model)
    task = None if data is None else data(model)
    report = run_demo(arguments.output, DemoConfig(**settings), model=model, data=task, progress=progress)
    show_report(arguments, report)
    return OK if all(variant.verified for variant in report.variants) else FAILED


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="MODEL", help="a trained classifier of your own; needs --data")
    add_model(parser, "")
    add_data(parser, "its training and test data", required=False, splits=True)
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="equal seeds give equal models")
    parser.add_argument("--epochs", type=whole(1), metavar="N", help="of pruning (default: 16; 4 with --model)")
    help = "to prune to (default: 0.8; 0.5 with --model)"
    parser.add_argument("--sparsity", type=share, metavar="S", help=help)
    add_region(parser)
    add_folder(parser, "tfgreen-out")


COMMAND = Command(
    demo, _add_arguments, ("tfgreen demo", "tfgreen demo --model model.keras --data data.npz --output out --epochs 1")
)
