"""``tfgreen energy``: the joules of one inference."""

from __future__ import annotations

import argparse

import tfgreen as tg
from tfgreen.cli.arguments import add_data, add_model, add_region, add_result
from tfgreen.cli.command import FAILED, OK, Command
from tfgreen.cli.data import load_samples
from tfgreen.cli.models import check_files, load, short_names
from tfgreen.cli.printing import check_output, show
from tfgreen.cli.start import start_tensorflow
from tfgreen.cli.values import positive, whole
from tfgreen.errors import InvalidValueError


def energy(arguments: argparse.Namespace) -> int:
    """Measure the energy of one inference of MODEL on this machine; exit code 1 if it cannot be known."""
    check_files(*arguments.models, *([arguments.meter] if arguments.meter else []))
    check_output(arguments)
    if len(set(arguments.models)) < len(arguments.models):
        raise InvalidValueError(f"MODEL: expected different files, received {' '.join(arguments.models)}.")
    names = dict(zip(arguments.models, short_names(arguments.models)))
    samples = load_samples(arguments, "test", "train")
    from tfgreen.energy.meter import EnergyMeter  # NumPy comes with it

    meter = EnergyMeter(arguments.region, idle_seconds=arguments.idle, external=arguments.meter)
    progress = start_tensorflow(arguments)
    models = {names[path]: load(arguments, path) for path in arguments.models}
    one = samples(next(iter(models.values())))
    options = {"threads": arguments.threads, "seconds": arguments.seconds, "meter": meter}
    result: tg.InferenceEnergy | tg.EnergyComparison
    with progress.step("measure the energy"):
        if len(models) == 1:
            single = tg.inference_energy(next(iter(models.values())), one, **options)
            result, readings = single, [single]
        else:
            several = tg.compare_energy(models, one, **options)
            result, readings = several, list(several.values())
    show(arguments, result)
    return OK if all(reading.joules_per_inference is not None for reading in readings) else FAILED


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    help = "LiteRT or Keras model; of several, each is compared with the first"
    add_model(parser, "models", nargs="+", help=help)
    add_data(parser, "a sample to run")
    help = "for each (default: %(default)s)"
    parser.add_argument("--seconds", type=positive, default=5.0, metavar="S", help=help)
    parser.add_argument("--threads", type=whole(1), default=1, metavar="N", help="CPU threads (default: %(default)s)")
    parser.add_argument("--idle", type=positive, default=0.0, metavar="S", help="read the idle power first, so long")
    help = "timestamps and watts of a power meter, while it is written"
    parser.add_argument("--meter", metavar="FILE.csv", help=help)
    add_region(parser)
    add_result(parser)


COMMAND = Command(
    energy, _add_arguments, ("tfgreen energy model.keras model.tflite --data data.npz --seconds 2 --region DEU",)
)
