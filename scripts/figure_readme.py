"""The picture of the README: accuracy, gzipped bytes and joules of the files of one small network.

    python scripts/figure_readme.py              # measures, and writes docs/variants.json and docs/variants.svg
    python scripts/figure_readme.py --draw       # only draws what was measured

The network of ``tfgreen demo`` learns scikit-learn's handwritten digits for 12 epochs; what is trained further gets 8
more from there, at a lower rate. Everything is read off the ``.tflite`` files, run by the LiteRT interpreter: accuracy
on the 360 digits of the test split, bytes after gzip, and joules of one inference, with the files in turns
(``tg.compare_energy``). The means of ``--seeds`` are shown, and the lowest and highest accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402

import tfgreen as tg  # noqa: E402
from tfgreen.recipes.data.digits import load_digits_data  # noqa: E402
from tfgreen.recipes.demo import digits_network  # noqa: E402

FOLDER = Path(__file__).parent / "docs"
BATCH, EPOCHS, MORE_EPOCHS = 64, 12, 8

Row: TypeAlias = dict[str, Any]  # name, accuracies, gzip_bytes, joules, source


class Task:
    """The digits, and the trained network that every variant starts from."""

    def __init__(self, seed: int) -> None:
        keras.utils.set_random_seed(seed)
        data = load_digits_data(seed)
        self.x, self.y, self.test = data.train.x, data.train.y, (data.test.x, data.test.y)
        self.calibration = self.x[:512]
        self.model = digits_network()
        self.train(self.model, EPOCHS, 3e-3)

    def train(self, model: keras.Model, epochs: int = MORE_EPOCHS, rate: float = 1e-3, *callbacks: Any) -> keras.Model:
        decay = keras.optimizers.schedules.CosineDecay(rate, epochs * self.steps)
        model.compile(keras.optimizers.Adam(decay), "sparse_categorical_crossentropy")
        model.fit(self.x, self.y, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[*callbacks])
        return model

    @property
    def steps(self) -> int:
        return -(-len(self.x) // BATCH)

    def compressed(self, model: keras.Model) -> keras.Model:
        return self.train(model, MORE_EPOCHS, 1e-3, tg.UpdateCompression())

    def pruned(self, model: keras.Model, sparsity: float) -> keras.Model:
        end = MORE_EPOCHS * self.steps // 2
        schedule = tg.PolynomialDecay(0.0, sparsity, begin_step=0, end_step=end, frequency=5)
        return self.compressed(tg.prune(model, schedule=schedule))

    def clustered(self, model: keras.Model) -> keras.Model:
        return self.compressed(tg.cluster(model, number_of_clusters=16))

    def slim(self) -> keras.Model:
        return self.train(tg.prune_channels(self.model, target_macs=0.25, calibration_data=self.calibration))

    def int8(self, model: keras.Model) -> tg.LiteRTModel:
        return tg.convert(tg.strip(model), quantization="int8", calibration_data=self.calibration)

    def trained_integers(self, model: keras.Model, bits: int = 8) -> tg.LiteRTModel:
        quantized = tg.quantize(model, calibration_data=self.calibration, weight_bits=bits)
        return tg.convert(self.compressed(quantized), quantization="int8" if bits == 8 else "int4")


VARIANTS: dict[str, Callable[[Task], tg.LiteRTModel]] = {
    "float32": lambda task: tg.convert(task.model),
    "float16": lambda task: tg.convert(task.model, quantization="float16"),
    "dynamic range": lambda task: tg.convert(task.model, quantization="dynamic"),
    "int8": lambda task: task.int8(task.model),
    "int8, trained": lambda task: task.trained_integers(task.model),
    "4-bit weights, trained": lambda task: task.trained_integers(task.model, 4),
    "16 shared values, int8": lambda task: task.int8(task.clustered(task.model)),
    "80 % zeros, int8": lambda task: task.int8(task.pruned(task.model, 0.8)),
    "a quarter of the MACs, int8": lambda task: task.int8(task.slim()),
    "the same, 60 % zeros, int8": lambda task: task.int8(task.pruned(task.slim(), 0.6)),
}


def measure(seeds: Sequence[int], seconds: float) -> list[Row]:
    rows: dict[str, Row] = {name: {"name": name, "accuracies": [], "gzip_bytes": [], "joules": []} for name in VARIANTS}
    for seed in seeds:
        task = Task(seed)
        lites = {name: variant(task) for name, variant in VARIANTS.items()}
        energies = tg.compare_energy(lites, task.test[0][:1], seconds=seconds)
        for name, lite in lites.items():
            rows[name]["accuracies"].append(lite.evaluate(*task.test))
            rows[name]["gzip_bytes"].append(lite.gzip_bytes)
            rows[name]["joules"].append(energies[name].joules_per_inference)
            rows[name]["source"] = energies[name].source
            print(f"seed {seed}  {name:30} {rows[name]['accuracies'][-1]:.4f}  {lite.gzip_bytes:8,} bytes", flush=True)
        print(energies, flush=True)
    return list(rows.values())


# The drawing: a row for each file, a column for each figure. Colours follow the reader's light or dark mode.
WIDTH, TOP, PITCH, NAME = 920, 92, 32, 226
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #1b2a24 }
.title { font-size: 16px; font-weight: 600 } .head { font-weight: 600 }
.small, .value { font-size: 12px; fill: #5a6b63 }
.card { fill: #fbfdfc; stroke: #d7e3dd } .grid { stroke: #e2ebe6 } .bar { fill: #bfe0d0 } .best { fill: #12805c }
.range { stroke: #12805c; stroke-width: 2 } .dot { fill: #12805c }
@media (prefers-color-scheme: dark) {
text { fill: #e3ece7 } .small, .value { fill: #9fb3aa }
.card { fill: #131a17; stroke: #2a3832 } .grid { stroke: #24312b }
.bar { fill: #23493a } .best { fill: #3fbf8f } .range { stroke: #5ed3a5 } .dot { fill: #5ed3a5 } }
"""


_SOURCES = {"estimate": "estimated from CPU time", "rapl": "measured by RAPL", "external": "measured by a power meter"}


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def bars(rows: Sequence[Row], key: str, left: float, shown: Callable[[float], str]) -> list[str]:
    """Lengths in proportion to the mean of a figure; the shortest stand out."""
    means = [statistics.mean(row[key]) for row in rows]
    parts = []
    for number, mean in enumerate(means):
        y, length = TOP + number * PITCH, 150 * mean / max(means)
        kind = "best" if mean <= 1.03 * min(means) else "bar"
        parts.append(f'<rect x="{left:g}" y="{y:g}" width="{length:.1f}" height="16" rx="3" class="{kind}"/>')
        parts.append(text(left + length + 6, y + 13, shown(mean), "value"))
    return parts


def dots(rows: Sequence[Row], left: float) -> list[str]:
    """Accuracy: a dot for the mean, a line from the lowest to the highest seed."""
    low = min(min(row["accuracies"]) for row in rows)
    start = int(low * 100)  # per cent where the axis begins
    width = 150.0
    parts = []

    def place(accuracy: float) -> float:
        return left + width * (accuracy * 100 - start) / (100 - start)

    for tick in range(start, 101):
        x = place(tick / 100)
        parts.append(f'<path d="M{x:.1f} {TOP - 6}V{TOP + PITCH * len(rows) - 10}" class="grid"/>')
        if tick in (start, 100):
            parts.append(text(x, TOP + PITCH * len(rows) + 6, f"{tick} %", "small", "middle"))
    for number, row in enumerate(rows):
        y, mean = TOP + number * PITCH + 8, statistics.mean(row["accuracies"])
        ends = place(min(row["accuracies"])), place(max(row["accuracies"]))
        parts.append(f'<path d="M{ends[0]:.1f} {y}H{ends[1]:.1f}" class="range"/>')
        parts.append(f'<circle cx="{place(mean):.1f}" cy="{y}" r="5" class="dot"/>')
        parts.append(text(left + width + 12, y + 5, f"{100 * mean:.1f} %", "value"))
    return parts


def draw(rows: Sequence[Row]) -> str:
    """The picture as SVG."""
    height = TOP + PITCH * len(rows) + 48
    seeds, source = len(rows[0]["accuracies"]), _SOURCES.get(rows[0]["source"], rows[0]["source"])
    title = "One network, ten files: accuracy, size and energy"
    columns = (NAME + 20, NAME + 256, NAME + 486)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title">',
        f'<title id="title">{title}</title><style>{STYLE}</style>',
        f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="12" class="card"/>',
        text(24, 34, title, "title"),
        text(columns[0], 68, "accuracy of the file", "head"),
        text(columns[1], 68, "bytes after gzip", "head"),
        text(columns[2], 68, "joules of an inference", "head"),
        *(text(24, TOP + number * PITCH + 13, row["name"]) for number, row in enumerate(rows)),
        *dots(rows, columns[0]),
        *bars(rows, "gzip_bytes", columns[1], lambda value: f"{value / 1000:.1f} kB"),
        *bars(rows, "joules", columns[2], lambda value: f"{value * 1e6:.0f} µJ"),
        text(24, height - 16, f"Handwritten digits, means of {seeds} seeds; energy {source}, on one thread.", "small"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of inference for each file and seed")
    parser.add_argument("--draw", action="store_true", help="draw what docs/variants.json holds")
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="DIR")
    options = parser.parse_args()
    table = options.output / "variants.json"
    if not options.draw:
        table.write_text(json.dumps(measure(range(options.seeds), options.seconds), indent=1) + "\n")
    (options.output / "variants.svg").write_text(draw(json.loads(table.read_text())))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
