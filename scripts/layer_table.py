"""What becomes of every layer of ``keras.layers`` in a .tflite file: writes ``layer_table.md`` beside this script.

    python scripts/layer_table.py
    python scripts/layer_table.py Dense LSTM     # measures these rows again and leaves the others

Each layer, alone in a model with random weights, is converted as float32, int8, int16x8 and int4, and the file is
compared with Keras on the samples that calibrated it (``tg.verify``; its top-1 agreement means nothing for random
values). int4 is compared with the model that ``tg.quantize`` rounded to 4-bit weights.

A cell says "works", "float: " and the operators that an integer file computes in float32, "refused: " and the start of
the error, "as int8" for int4 without a kernel, or "works, but off by" the mean error in scales of 1/255 of the output's
range where ``tg.verify`` fails. "crash" is a raw error or a process that died; there should be none. The whole table
takes 6 minutes of processor time.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
from layer_cases import case_of  # noqa: E402

import tfgreen as tg  # noqa: E402
from tfgreen.errors import TfgreenError  # noqa: E402
from tfgreen.model.weights import quantizable_weights  # noqa: E402

TABLE = Path(__file__).with_suffix(".md")
MODES = ("float32", "int8", "int16x8", "int4")
SECONDS = 120  # for one cell, before its process is killed


def layer_classes() -> dict[str, list[str]]:
    """Every public layer class by its name in ``keras.layers``, with its other names there."""
    names: dict[type, list[str]] = {}
    for name, value in sorted(vars(keras.layers).items()):
        if isinstance(value, type) and issubclass(value, keras.layers.Layer):
            names.setdefault(value, []).append(name)
    own = {c: c.__name__ if c.__name__ in found else found[0] for c, found in names.items()}
    return {own[c]: [name for name in names[c] if name != own[c]] for c in sorted(names, key=lambda c: own[c])}


def cell(name: str, mode: str) -> str:
    """What becomes of one layer in one mode."""
    case = case_of(name)
    try:
        model, x = case.model(), case.data(64)
        model(x)
    except (ImportError, ValueError, TypeError) as error:
        return f"refused by Keras: {sentence(error)}"
    try:
        if mode == "int4":
            if not any(axes for layer in model.layers for axes in quantizable_weights(layer).values()):
                return "as int8"  # there is no kernel to be stored in 4 bits
            model = tg.quantize(model, tg.QuantizeConfig(calibration_data=x, weight_bits=4))
        data = None if mode == "float32" else x
        lite = tg.convert(model, tg.ConvertConfig(quantization=mode, calibration_data=data))
        result = tg.verify(model, lite, x, agreement=0.0)
    except TfgreenError as error:
        return f"refused: {sentence(error)}"
    except Exception as error:
        return f"crash: {type(error).__name__}: {sentence(error)}"
    found = "works" if mode == "float32" or not lite.float_operators else f"float: {', '.join(lite.float_operators)}"
    if not result.passed:
        found += f", but off by {max(o.mean_scales for o in result.outputs):.1f} scales"
    return found


def sentence(error: Exception) -> str:
    """The first sentence of an error, without the name of the model, which is that of this script."""
    text = re.sub(r"^model '\w+'( cannot be converted with quantization='\w+')?:? ", "", str(error))
    return re.split(r"\.\s|\n", text)[0].replace("|", "/").removesuffix(".")[:200]


def worker(results: str) -> None:
    """Work off the cells given at the standard input as JSON; append a line of JSON for each to a file."""
    for name, mode in json.load(sys.stdin):
        signal.alarm(SECONDS)
        found = cell(name, mode)
        signal.alarm(0)
        with Path(results).open("a") as file:
            file.write(json.dumps([name, mode, found]) + "\n")


def run(cells: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Fill cells in a process of their own; where it dies, the cell it was at is a crash, and another one goes on."""
    found: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results")
        results.touch()
        while pending := [c for c in cells if c not in found]:
            command = [sys.executable, __file__, "--worker", str(results)]
            child = subprocess.run(command, input=json.dumps(pending), text=True, capture_output=True, check=False)
            found |= {(name, mode): text for name, mode, text in map(json.loads, results.read_text().splitlines())}
            dead = [c for c in cells if c not in found][:1]
            found |= {c: f"crash: the process ended with {child.returncode}" for c in dead}
    return found


def table(found: dict[tuple[str, str], str]) -> str:
    lines = [f"| Layer | Tried as | {' | '.join(MODES)} |", "|---" * (2 + len(MODES)) + "|"]
    for name, aliases in layer_classes().items():
        if (name, MODES[0]) in found:
            case = case_of(name)
            other = f" ({', '.join(aliases)})" if aliases else ""
            values = "" if case.values == "normal" else f"{case.values} "
            tried = f"`{case.code}` on {values}{', '.join(map(str, case.shapes))}"
            lines.append(f"| {name}{other} | {tried} | {' | '.join(found[name, mode] for mode in MODES)} |")
    return "\n".join(lines)


def summary(found: dict[tuple[str, str], str]) -> str:
    kinds = ("works", "float", "refused", "as int8", "off", "crash")
    counts = Counter(
        (mode, "off" if "but off" in text else next(kind for kind in kinds if text.startswith(kind)))
        for (_, mode), text in found.items()
    )
    lines = ["| Mode | " + " | ".join(kinds) + " |", "|---" * (1 + len(kinds)) + "|"]
    lines += [f"| {mode} | " + " | ".join(str(counts[mode, kind]) for kind in kinds) + " |" for mode in MODES]
    return "\n".join(lines)


def read(text: str) -> dict[tuple[str, str], str]:
    """The cells of a table that was written before."""
    rows = [line.removesuffix(" |").split(" | ") for line in text.splitlines() if "` on " in line]
    return {(row[0].split()[1], mode): text for row in rows for mode, text in zip(MODES, row[2:])}


def main(names: list[str]) -> None:
    found = read(TABLE.read_text()) if names else {}
    found |= run([(name, mode) for name in names or layer_classes() for mode in MODES])
    source = f"Made by `scripts/layer_table.py` with Keras {keras.__version__} and TensorFlow {version('tensorflow')}."
    TABLE.write_text(f"{source} Its docstring says what the words mean.\n\n{summary(found)}\n\n{table(found)}\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2])
    else:
        main(sys.argv[1:])
