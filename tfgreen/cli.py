"""The command line: parse, check what is cheap to check, call one public verb, print, exit code.

TensorFlow takes seconds to import, so nothing here imports it before a command's files and folders have been checked.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tfgreen as tg
from tfgreen.cli_arguments import make_parser
from tfgreen.errors import ConversionError, FileError, InvalidValueError, TfgreenError
from tfgreen.files import check_folder, folder_kind, made_folder, reading
from tfgreen.tables import text_table

if TYPE_CHECKING:
    from tfgreen.recipes.progress import Progress

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

# What an error of a verb is about -> the option that it came from.
_OPTIONS = {"calibration_data": "--data", "x": "--data", "keep_float": "--keep-float", "layers": "--layer"}
_OPTIONS |= {"region": "--region", "device": "--device", "devices": "--device", "external": "--meter"}


# What sentences for Python say -> what the command line calls it.
_PHRASES = (
    (r"tg\.convert\(model, quantization='(\w+)', calibration_data=\S+\)", r"--quantization \1 --data FILE.npz"),
    (r"(?:tg\.)?ConvertConfig\((.*?)\)", r"\1"),
    (r"keep_float=\((.*?),?\)", lambda found: " ".join(f"--keep-float {name}" for name in found[1].split(", "))),
    (r"\b(quantization|calibration)='(\w+)'", r"--\1 \2"),
    (r"\bsparse_weights=False", "--sparse-weights no"),
    (r"\bsparse_weights=True", "--sparse-weights yes"),
    (r"\b(strict|flex|dynamic_batch)=True", lambda found: "--" + found[1].replace("_", "-")),
    (r"\bkeep_float\b", "--keep-float"),
    (r"\bregion='(\w+)'", r"--region \1"),
    (r"print\(tg\.DeviceProfile\.named\(name\)\)", "tfgreen devices --device NAME"),
    (r", through carbon_footprint\(.*?\)", ""),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``tfgreen`` command and return its exit code.

    It is 0 if what was asked for was done and holds, 1 if it does not hold (a model that fails verification), 2 for bad
    input (one line on stderr says what was wrong), 130 if interrupted. A fault in tfgreen itself raises.
    """
    try:
        arguments = make_parser(COMMANDS).parse_args(argv)
        with _stop_like_interrupt():
            code: int = arguments.command(arguments)
            sys.stdout.flush()
            return code
    except TfgreenError as error:
        argument = re.split(r"\W", error.subject, maxsplit=1)[0]
        text = _OPTIONS.get(argument, argument) + str(error).removeprefix(argument)
        text = " ".join(in_options(text).split())  # a converter's log may come with it
        print(f"tfgreen: error: {text if len(text) <= 600 else text[:600] + ' ...'}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("tfgreen: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `tfgreen profile model.keras | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except SystemExit as end:  # --help and --version
        return int(end.code or OK)


def in_options(text: str) -> str:
    """Say what a sentence of the library says in the words of the command line.

    Example:
        >>> in_options("Try keep_float=('conv', 'head'), or quantization='float16'.")
        "Try --keep-float 'conv' --keep-float 'head', or --quantization float16."
    """
    for pattern, words in _PHRASES:
        text = re.sub(pattern, words, text)
    return text


def demo(arguments: argparse.Namespace) -> int:
    """Prune, convert, verify, measure: the digits of scikit-learn, or a model and data of one's own."""
    from tfgreen.energy.carbon.grid import grid_intensity
    from tfgreen.recipes.classification import RESULT_FILES, load_classification

    if (arguments.model is None) != (arguments.data is None):
        raise InvalidValueError("--model and --data: expected both or neither, received one of them.")
    data = None
    if arguments.data is not None:
        _check_file(arguments.model)
        data = load_classification(arguments.data)
    if arguments.region is not None:
        grid_intensity(arguments.region)
    check_folder(arguments.output, RESULT_FILES)
    progress = _start_tensorflow()
    import tensorflow as tf

    from tfgreen.recipes.demo import DemoConfig, run_demo

    if data is None and tf.config.list_physical_devices("GPU"):
        # On a CPU the seed is enough. It cannot be taken back and not every op of a user's model has such a kernel.
        tf.config.experimental.enable_op_determinism()
    settings = {name: getattr(arguments, name) for name in ("seed", "epochs", "sparsity", "region")}
    model = None if arguments.model is None else tg.load_model(arguments.model)
    report = run_demo(arguments.output, DemoConfig(**settings), model=model, data=data, progress=progress)
    if arguments.json:
        _print_json(report.to_dict())
    else:
        print(report)
        print(f"written to {arguments.output}: {', '.join(sorted(os.listdir(arguments.output)))}")
    return OK if all(variant.verified for variant in report.variants) else FAILED


def profile(arguments: argparse.Namespace) -> int:
    """Parameters, MACs, bytes and non-zero weights of every layer."""
    _check_file(arguments.model)
    _start_tensorflow()
    result = tg.profile(tg.load_model(arguments.model))
    _print_json(result.to_dict()) if arguments.json else print(result)
    return OK


def convert(arguments: argparse.Namespace) -> int:
    """Write MODEL as a .tflite file."""
    from tfgreen.recipes.data.npz import load_samples

    _check_file(arguments.model)
    if arguments.data is not None and not arguments.quantization.startswith("int"):
        raise InvalidValueError(
            f"--data: expected with int8, int16x8 and int4 only, received --quantization {arguments.quantization}."
        )
    samples = None if arguments.data is None else load_samples(arguments.data, "x_train", "x", "x_test")
    with made_folder(arguments.output) as folder:
        progress = _start_tensorflow()
        from tfgreen.reports.measure import spread

        model = tg.load_model(arguments.model)
        config = tg.ConvertConfig(
            quantization=arguments.quantization,
            calibration_data=None if samples is None else spread(samples, arguments.samples),
            calibration=arguments.calibration,
            keep_float=tuple(arguments.keep_float),
            layers=dict(arguments.layer),
            strict=arguments.strict,
            dynamic_batch=arguments.dynamic_batch,
            flex=arguments.flex,
            sparse_weights={"yes": True, "no": False}.get(arguments.sparse_weights, "auto"),
        )
        with progress.step(f"convert to {arguments.quantization}"):
            lite = tg.convert(model, config)
        findings = tg.check_target(lite, arguments.target) if arguments.target else []
        if any(finding.severity == "error" for finding in findings):
            raise ConversionError(" ".join(str(finding) for finding in findings))
        path = lite.save(folder / f"{Path(arguments.model).stem}-{arguments.quantization}.tflite")
    if arguments.json:
        facts = {"path": str(path), "quantization": lite.quantization, "size_bytes": lite.size_bytes}
        extra = {"gzip_bytes": lite.gzip_bytes, "operators": dict(lite.operators)}
        _print_json({**facts, **extra, "notes": [*lite.notes, *map(str, findings)]})
    else:
        print(f"{path}: {lite.size_bytes:,} bytes ({lite.gzip_bytes:,} after gzip), {lite.quantization}")
        print("operators: " + ", ".join(f"{count} {name}" for name, count in lite.operators.items()))
        for note in (*lite.notes, *findings):
            print(in_options(str(note)))
    return OK


def verify(arguments: argparse.Namespace) -> int:
    """Compare the outputs of TFLITE with those of MODEL; exit code 1 if they differ too much."""
    from tfgreen.recipes.data.npz import load_samples

    _check_file(arguments.model)
    _check_file(arguments.tflite)
    samples = load_samples(arguments.data, "x_test", "x", "x_train")
    progress = _start_tensorflow()
    from tfgreen.reports.measure import spread

    lite = tg.load_litert(arguments.tflite)
    model = tg.load_model(arguments.model)
    with progress.step("run both models"):
        result = tg.verify(model, lite, spread(samples, arguments.samples))
    _print_json(result.to_dict()) if arguments.json else print(result)
    return OK if result.passed else FAILED


def benchmark(arguments: argparse.Namespace) -> int:
    """Measure the latency of TFLITE on this machine."""
    from tfgreen.cli_quiet import start_litert

    _check_file(arguments.tflite)
    start_litert()
    result = tg.benchmark(tg.load_litert(arguments.tflite), threads=arguments.threads, runs=arguments.runs)
    _print_json(result.to_dict()) if arguments.json else print(result)
    return OK


def energy(arguments: argparse.Namespace) -> int:
    """Measure the energy of one inference of MODEL on this machine."""
    from tfgreen.energy.meter import EnergyMeter
    from tfgreen.recipes.data.npz import load_samples

    for path in (*arguments.models, *([arguments.meter] if arguments.meter else [])):
        _check_file(path)
    if len(set(arguments.models)) < len(arguments.models):
        raise InvalidValueError(f"MODEL: expected different files, received {' '.join(arguments.models)}.")
    names = dict(zip(arguments.models, short_names(arguments.models)))
    samples = load_samples(arguments.data, "x_test", "x", "x_train")
    meter = EnergyMeter(arguments.region, idle_seconds=arguments.idle, external=arguments.meter)
    progress = _start_tensorflow()
    from tfgreen.reports.measure import spread

    models = {names[path]: _load(path) for path in arguments.models}
    options = {"threads": arguments.threads, "seconds": arguments.seconds, "meter": meter}
    result: tg.InferenceEnergy | tg.EnergyComparison
    with progress.step("measure the energy"):
        one = spread(samples, 1)
        if len(models) == 1:
            single = tg.inference_energy(next(iter(models.values())), one, **options)
            result, readings = single, [single]
        else:
            several = tg.compare_energy(models, one, **options)
            result, readings = several, list(several.values())
    _print_json(result.to_dict()) if arguments.json else print(in_options(str(result)))
    return OK if all(reading.joules_per_inference is not None for reading in readings) else FAILED


def devices(arguments: argparse.Namespace) -> int:
    """Devices, and what MODEL would take on each; exit code 1 if none fits it and its limits."""
    from tfgreen.energy.devices.profile import DeviceProfile, device_names

    limits = {"latency_ms": arguments.latency, "joules": arguments.joules, "price_usd": arguments.price}
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    if arguments.model is None and limits:
        raise InvalidValueError("--latency, --joules and --price: expected with MODEL, received without.")
    names = arguments.device or [n for n in device_names() if arguments.model is None or n != "horowitz-45nm"]
    read = [DeviceProfile.from_file(n) if n.endswith(".json") else DeviceProfile.named(n) for n in names]
    if arguments.model is not None:
        _check_file(arguments.model)
    if arguments.region is not None:
        from tfgreen.energy.carbon.grid import grid_intensity

        grid_intensity(arguments.region)
    from tfgreen.cli_quiet import start_litert

    is_file = arguments.model is not None and Path(arguments.model).suffix == ".tflite"
    if arguments.model is None or is_file:
        start_litert()
    else:
        _start_tensorflow()
    profiles = read + ([DeviceProfile.of_this_machine()] if arguments.this_machine else [])
    if arguments.model is None:
        if arguments.json:
            _print_json({"devices": [profile.to_dict() for profile in profiles]})
        else:
            print("\n\n".join(map(str, profiles)) if arguments.device else _listed(profiles))
        return OK
    model = _load(arguments.model)
    options = {"constraints": limits, "region": arguments.region, "prefer": arguments.prefer}
    result = tg.recommend_device(model, profiles, **options)
    _print_json(result.to_dict()) if arguments.json else print(in_options(str(result)))
    return OK if result.choice is not None else FAILED


def doctor(arguments: argparse.Namespace) -> int:
    """Versions, accelerators and energy sources of this machine."""
    _start_tensorflow()
    import tensorflow as tf

    from tfgreen.energy.doctor import energy_sources
    from tfgreen.reports.environment import environment

    facts = environment()
    devices = [f"{device.device_type} {device.name}" for device in tf.config.list_physical_devices()]
    sources = energy_sources()
    if arguments.json:
        _print_json({**facts, "devices": devices, "energy_sources": [vars(source) for source in sources]})
        return OK
    packages = facts.pop("packages")
    for name, value in {**facts, **{name: version or "not installed" for name, version in packages.items()}}.items():
        print(f"{name.replace('_', ' '):<32}{value}")
    print(f"{'devices of TensorFlow':<32}{', '.join(devices)}")
    for source in sources:
        print(f"{source.name:<32}{'yes' if source.available else 'no'}: {source.detail}")
    return OK


COMMANDS = (demo, profile, convert, verify, benchmark, energy, devices, doctor)


def _listed(profiles: Sequence[tg.DeviceProfile]) -> str:
    """A line for each device."""
    rows = []
    for profile in profiles:
        figures = profile.figures().values()
        assumed = f"{sum(figure.assumed for figure in figures)} of {len(figures)}"
        rows.append((profile.name, profile.title, profile.node or "-", str(profile.year), assumed))
    return text_table(("device", "what it is", "process", "year", "assumed figures"), rows, left=-1)


def short_names(paths: Sequence[str]) -> list[str]:
    """The names of files without their folders, or with them where two have one name.

    Example:
        >>> short_names(["a/model.tflite", "a/int8.tflite"]), short_names(["a/x.tflite", "b/x.tflite"])
        (['model.tflite', 'int8.tflite'], ['a/x.tflite', 'b/x.tflite'])
    """
    names = [os.path.basename(path) for path in paths]
    return names if len(set(names)) == len(names) else list(paths)


def _load(path: str) -> Any:
    """A LiteRT model, or a Keras model."""
    return tg.load_litert(path) if Path(path).suffix == ".tflite" else tg.load_model(path)


def _check_file(path: str) -> None:
    """Find a file that cannot be read before TensorFlow is imported."""
    if os.path.isdir(path):
        raise FileError(f"{path}: expected a file, received {folder_kind(path)}")
    with reading(path), open(path, "rb") as file:
        file.read(1)


def _start_tensorflow() -> Progress:
    """Start TensorFlow and LiteRT without their logs; return the progress of the command."""
    from tfgreen.cli_quiet import start_litert, start_tensorflow
    from tfgreen.recipes.progress import Progress

    start_tensorflow()
    start_litert()
    return Progress(sys.stderr)


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))


@contextlib.contextmanager
def _stop_like_interrupt() -> Iterator[None]:
    """Let a polite kill clean up as Ctrl-C does; handlers belong to the main thread, elsewhere nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
