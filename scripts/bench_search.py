"""Whether a search finds more than chance, and whether processes share it.

    python scripts/bench_search.py make [--output scripts/search_table.json]
    python scripts/bench_search.py table [--seeds 10] [--trials 30]
    python scripts/bench_search.py processes [--trials 16]

``make`` trains a small network on scikit-learn's digits, with noise, by each of 675 recipes, which takes an hour, and
saves what came of each after 0, 1, 3 and 10 epochs. ``table`` searches among these results for files that lose at most
five points of accuracy, in stages, and draws others at random that are wholly trained: as many as the search has epochs
for. For each seed it prints the hypervolume of accuracy, gzip bytes and latency, within that bound and the figures of
the float file, as a share of that of all recipes. ``processes`` prints the time of one process and of two that share a
study of candidates which take half a second each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tfgreen.recipes.recipe.choices import Choice
from tfgreen.recipes.search.explore import explore
from tfgreen.recipes.search.front import hypervolume
from tfgreen.recipes.search.problem import Bound, Objective, Problem
from tfgreen.recipes.search.space import Space
from tfgreen.recipes.search.study import Study

TABLE = Path(__file__).with_name("search_table.json")
SPACE: dict[str, list[Any]] = {
    "macs": [1.0, 0.75, 0.5, 0.35, 0.2],
    "sparsity": [0.0, 0.5, 0.7, 0.8, 0.9],
    "learning_rate": [3e-4, 1e-3, 3e-3],
    "clusters": [None, 32, 16],
    "quantization": ["float16", "dynamic", "int8"],
}
BATCH, NOISE = 64, 0.2
EPOCHS = (0, 1, 3, 10)
OWN = {"macs": 0.5, "sparsity": 0.5, "learning_rate": 1e-3, "clusters": None, "quantization": "int8"}  # as "balanced"
OBJECTIVES = (Objective("accuracy", True), Objective("gzip_bytes"), Objective("latency_ms", digits=2))
TRIED = 2  # candidates for each whole training that there are epochs for, as in tg.search
DROP = 0.05  # of the accuracy, beyond which a file is of no use: the max_drop of the search


class Table:
    """The saved results, as a problem to search."""

    def __init__(self, path: Path) -> None:
        table = json.loads(path.read_text())
        self.space = Space({name: Choice(tuple(options)) for name, options in table["space"].items()})
        self.rows = {tuple(row[: len(SPACE)]): row[len(SPACE) :] for row in table["rows"]}
        self.latency = table["latency_ms"]
        self.base: dict[str, float] = table["base"]

    def figures(self, key: tuple[Any, ...], stage: int) -> dict[str, float]:
        accuracies, gzip_bytes, _ = self.rows[key]
        latency = self.latency[f"{key[0]} {key[-1]}"]
        return {"accuracy": accuracies[stage], "gzip_bytes": float(gzip_bytes), "latency_ms": latency}

    def problem(self) -> Problem:
        def evaluate(settings: dict[str, Any], stage: int) -> dict[str, float]:
            return self.figures(tuple(settings[name] for name in SPACE), stage)

        least = self.base["accuracy"] - DROP
        return Problem(
            space=self.space, objectives=OBJECTIVES, evaluate=evaluate, stages=len(EPOCHS), start=(OWN,),
            bounds=(Bound("max_drop", "accuracy", least, at_least=True, trained=True),),
            reference=self.base, epochs=lambda settings, stage: EPOCHS[stage],
        )  # fmt: skip

    def searched(self, seed: int, epochs: int) -> tuple[list[dict[str, float]], int, int]:
        """The figures of candidates that were wholly trained, how many were tried, and the epochs of all."""
        problem = self.problem()
        study = Study(problem, "table", seed=seed)
        explore(problem, study, trials=epochs // EPOCHS[-1] * TRIED, budget={"max_epochs": epochs})
        tried = study.candidates()
        found = [dict(one.figures) for one in tried if one.outcome == "finished"]
        return found, len(tried), sum(stage.epochs for stage in study.stages())

    def random(self, seed: int, count: int) -> list[dict[str, float]]:
        """The figures of recipes that are drawn at random, without replacement."""
        keys = list(self.rows)
        order = np.random.default_rng(seed).permutation(len(keys))
        return [self.figures(keys[number], -1) for number in order[:count]]

    def volume(self, found: list[dict[str, float]]) -> float:
        points = np.array([self.point(figures) for figures in found])
        return hypervolume(points, np.ones(len(OBJECTIVES)))

    def point(self, figures: dict[str, float]) -> list[float]:
        """The costs as shares of what is of no use."""
        drop = (self.base["accuracy"] - figures["accuracy"]) / DROP
        return [drop, *(figures[name] / self.base[name] for name in ("gzip_bytes", "latency_ms"))]


def table(path: Path, seeds: int, trials: int) -> None:
    results = Table(path)
    best = results.volume([results.figures(key, -1) for key in results.rows])
    print(f"{len(results.rows)} recipes, hypervolume of all {best:.4f}")
    won = 0
    for seed in range(seeds):
        found, tried, epochs = results.searched(seed, trials * EPOCHS[-1])
        search, random = (results.volume(figures) / best for figures in (found, results.random(seed, trials)))
        won += search > random
        print(
            f"seed {seed}: random {random:.4f}, {trials} in {trials * EPOCHS[-1]} epochs; search {search:.4f}, "
            f"{len(found)} of {tried} wholly trained, {epochs} epochs", flush=True,
        )  # fmt: skip
    print(f"ahead of random in {won} of {seeds} seeds")


def make(path: Path) -> None:
    """Train and convert by every recipe. Latency is that of the files without zeros and clusters, which change none."""
    import keras

    import tfgreen as tg
    from tfgreen.recipes.demo import digits_network

    (x, y), (x_validation, y_validation) = noisy_digits()
    steps = len(x) // BATCH

    def fit(model: Any, rate: float, epochs: int, *callbacks: Any) -> None:
        schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * steps)
        model.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy")
        keras.utils.set_random_seed(0)
        model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=list(callbacks))

    def trained(model: Any, sparsity: float, rate: float, epochs: int) -> Any:
        if not epochs:
            model = tg.prune(model, schedule=tg.ConstantSparsity(sparsity, begin_step=0))
            tg.UpdateCompression(model).step()
            return tg.strip(model)
        schedule = tg.PolynomialDecay(
            initial_sparsity=0.0, final_sparsity=sparsity, begin_step=0, end_step=epochs * steps * 5 // 8, frequency=2
        )
        model = tg.prune(model, schedule=schedule)
        fit(model, rate, epochs, tg.UpdateCompression())
        return tg.strip(model)

    def accuracy(lite: Any) -> float:
        return round(float((lite.predict(x_validation).argmax(-1) == y_validation).mean()), 5)

    keras.utils.set_random_seed(0)
    base = digits_network()
    fit(base, 3e-3, 12)
    rows: list[list[Any]] = []
    dense = {}
    for macs in SPACE["macs"]:
        slim = base if macs == 1.0 else tg.prune_channels(base, target_macs=macs, calibration_data=x[:256])
        for sparsity, rate in itertools.product(SPACE["sparsity"], SPACE["learning_rate"]):
            models = [trained(slim, sparsity, rate, epochs) for epochs in EPOCHS]
            for clusters, quantization in itertools.product(SPACE["clusters"], SPACE["quantization"]):
                lites = []
                for model in models:
                    if clusters is not None:
                        model = tg.strip(tg.cluster(model, number_of_clusters=clusters, fold_batch_norm=True))
                    data = {"calibration_data": x[:256]} if quantization == "int8" else {}
                    lites.append(tg.convert(model, quantization=quantization, **data))
                key = [macs, sparsity, rate, clusters, quantization]
                rows.append([*key, [accuracy(lite) for lite in lites], lites[-1].gzip_bytes, lites[-1].size_bytes])
                if not sparsity and clusters is None:
                    dense[f"{macs} {quantization}"] = lites[-1]
            print(rows[-1], flush=True)
    whole = tg.convert(base)
    times = tg.benchmark({**dense, "base": whole}, runs=2000)
    told = {"space": SPACE, "epochs": EPOCHS}
    told["base"] = {"accuracy": accuracy(whole), "gzip_bytes": float(whole.gzip_bytes)}
    told["base"]["latency_ms"] = round(times["base"].median_ms, 6)
    told["latency_ms"] = {name: round(times[name].median_ms, 6) for name in dense}
    lines = ",\n".join(map(json.dumps, rows))
    path.write_text(f'{json.dumps(told)[:-1]}, "rows": [\n{lines}\n]}}\n')


def noisy_digits(noise: float = NOISE, copies: int = 4) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Scikit-learn's digits for training and for validation, each image several times with noise of its own.

    Without noise nearly all recipes are right for 99 of 100 digits, and differ by chance.
    """
    from sklearn.datasets import load_digits

    digits, rng = load_digits(), np.random.default_rng(0)
    order = rng.permutation(len(digits.target))
    images, labels = (digits.images / 16.0).astype("float32")[order, ..., None], digits.target[order]

    def copied(part: slice) -> tuple[Any, Any]:
        x = np.concatenate([images[part]] * copies)
        x += rng.normal(0, noise, x.shape).astype("float32")
        return x, np.concatenate([labels[part]] * copies)

    return copied(slice(800)), copied(slice(800, None))


def half_a_second(settings: dict[str, Any], stage: int) -> dict[str, float]:
    time.sleep(0.5)
    return {"accuracy": 1.0 - settings["x"] / 100, "gzip_bytes": float(settings["x"]), "latency_ms": 1.0}


def processes(trials: int) -> None:
    seconds = []
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "join", "--output", f"{folder}/journal", "--trials", str(trials)]
            began = time.perf_counter()
            running = [subprocess.Popen(command) for _ in range(count)]
            for one in running:
                one.wait()
            seconds.append(time.perf_counter() - began)
            tried = Study(shared(), "shared", storage=f"{folder}/journal").candidates()
            print(f"{count} process(es): {seconds[-1]:.1f} s for {len(tried)} candidates, no two of them equal")
    print(f"two take {seconds[1] / seconds[0]:.2f} of the time of one")


def shared() -> Problem:
    space = Space({"x": Choice(tuple(range(100)))})
    return Problem(space=space, objectives=OBJECTIVES, evaluate=half_a_second)


def join(path: Path, trials: int) -> None:
    explore(shared(), Study(shared(), "shared", storage=path), trials=trials, budget={})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("make", "table", "processes", "join"))
    parser.add_argument("--output", type=Path, default=TABLE)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=30)
    options = parser.parse_args()
    if options.command == "make":
        make(options.output)
    elif options.command == "table":
        table(options.output, options.seeds, options.trials)
    elif options.command == "processes":
        processes(options.trials)
    else:
        join(options.output, options.trials)
