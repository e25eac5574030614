"""``tfgreen devices``: devices, and what a model would take on each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import tfgreen as tg
from tfgreen.cli.arguments import add_model, add_region, add_result
from tfgreen.cli.command import FAILED, OK, Command
from tfgreen.cli.models import check_files, is_tflite, load
from tfgreen.cli.printing import check_output, give, show
from tfgreen.cli.start import start_litert, start_tensorflow
from tfgreen.cli.values import positive
from tfgreen.errors import InvalidValueError
from tfgreen.tables import text_table


def devices(arguments: argparse.Namespace) -> int:
    """Devices, and what MODEL would take on each; exit code 1 if none fits it and its limits."""
    from tfgreen.energy.devices.profile import DeviceProfile, device_names

    limits = {"latency_ms": arguments.latency, "joules": arguments.joules, "price_usd": arguments.price}
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    if arguments.model is None and limits:
        raise InvalidValueError("--latency, --joules and --price: expected with MODEL, received without.")
    names = arguments.devices or [n for n in device_names() if arguments.model is None or n != "horowitz-45nm"]
    read = [DeviceProfile.from_file(n) if n.endswith(".json") else DeviceProfile.named(n) for n in names]
    if arguments.model is not None:
        check_files(arguments.model)
    check_output(arguments)
    if arguments.region is not None:
        from tfgreen.energy.carbon.grid import grid_intensity

        grid_intensity(arguments.region)
    (start_litert if arguments.model is None or is_tflite(arguments.model) else start_tensorflow)(arguments)
    profiles = read + ([DeviceProfile.of_this_machine()] if arguments.this_machine else [])
    if arguments.model is None:
        text = "\n\n".join(map(str, profiles)) if arguments.devices else _listed(profiles)
        give(arguments, {"devices": [profile.to_dict() for profile in profiles]}, text, arguments.output)
        return OK
    model = load(arguments, arguments.model)
    options = {"constraints": limits, "region": arguments.region, "prefer": arguments.prefer}
    result = tg.recommend_device(model, profiles, **options)
    show(arguments, result)
    return OK if result.choice is not None else FAILED


def _listed(profiles: Sequence[tg.DeviceProfile]) -> str:
    """A line for each device."""
    rows = []
    for profile in profiles:
        figures = profile.figures().values()
        assumed = f"{sum(figure.assumed for figure in figures)} of {len(figures)}"
        rows.append((profile.name, profile.title, profile.node or "-", str(profile.year), assumed))
    return text_table(("device", "what it is", "process", "year", "assumed figures"), rows, left=-1)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    help = "estimate it on each: LiteRT model, or a Keras model, which is converted to float32"
    add_model(parser, nargs="?", help=help)
    help = "one to look at: a name, or a profile of your own, a .json file (default: all that tfgreen brings)"
    parser.add_argument("--device", dest="devices", action="append", default=[], metavar="NAME", help=help)
    parser.add_argument("--this-machine", action="store_true", help="measure this machine too, for some seconds")
    for name, unit in (("latency", "MS"), ("joules", "J"), ("price", "USD")):
        parser.add_argument(f"--{name}", type=positive, metavar=unit, help="the most that is allowed; needs MODEL")
    choices = ("energy", "carbon", "latency", "price")
    parser.add_argument("--prefer", choices=choices, default="energy", help="to be least (default: %(default)s)")
    add_region(parser, "the device")
    add_result(parser)


COMMAND = Command(
    devices, _add_arguments, ("tfgreen devices", "tfgreen devices model.tflite --latency 20 --price 100 --region DEU")
)
