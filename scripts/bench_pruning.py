"""tfgreen's pruning beside TFMOT's, in one run: step time, selection time, and accuracy after the same budget.

    python scripts/bench_pruning.py speed
    python scripts/bench_pruning.py select
    python scripts/bench_pruning.py accuracy --model resnet8_cifar10_jpeg.h5 --data cifar10_jpeg.npz

TFMOT prunes a tf_keras model, tfgreen a Keras 3 model of the same layers, weights, data, optimizer and schedule. Plain
and pruned training take turns; the median over the rounds of their ratio *in the same framework* is reported, for wall
clock and for CPU time of this process. Plain training runs twice, so its ratio to itself shows the noise.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import keras
import numpy as np
from common import compare, load_data, resnet8, speed_cases, tfmot, timed, top1

import tfgreen as tg
from tfgreen.transforms.selection import keep_largest

SIDES = ("tfmot", "layer", "global", "erk")


def speed(rounds: int) -> None:
    """Step time of pruned over plain training, for both sides; plain training twice, which shows the noise."""
    sparsity = tfmot().sparsity.keras
    for case in speed_cases():
        runs = case.plain()
        for every in (100, 1):
            if case.api is keras:
                schedule: Any = tg.ConstantSparsity(0.8, begin_step=0, frequency=every)
                pruned = tg.prune(case.network(keras), tg.PruneConfig(schedule=schedule))
                callbacks: list[Any] = [tg.UpdateCompression()]
            else:
                schedule = sparsity.ConstantSparsity(0.8, begin_step=0, frequency=every)
                pruned = sparsity.prune_low_magnitude(case.network(case.api), schedule)
                callbacks = [sparsity.UpdatePruningStep()]
            runs[f"every {every}"] = case.fit(pruned, callbacks)
        compare(case.title, runs, rounds, case.steps)


def select() -> None:
    """Seconds to mask 16.7 million weights: tfgreen, TFMOT's top_k, and how tfgreen's time grows."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    for size in (1_048_576, 4_194_304, 16_777_216):
        weight = rng.standard_normal(size, dtype=np.float32)
        pruned = np.where(rng.random(size) < 0.8, 0, weight).astype(np.float32)
        for kind, values in (("dense", weight), ("80 % zeros", pruned)):
            seconds = [timed(lambda: keep_largest(np.abs(values), 0.9)) for _ in range(5)]
            print(f"{size:11,} {kind:10} tfgreen {statistics.median(seconds):.3f} s wall", flush=True)
    magnitudes = tf.abs(tf.constant(weight))
    print(f"{size:11,} {'dense':10} top_k   {timed(lambda: tf.math.top_k(magnitudes, size // 10)):.3f} s wall")


def accuracy(
    model_path: str, data_path: str, seeds: range, epochs: int, sparsities: list[float], sides: list[str]
) -> None:
    """Test accuracy at each sparsity, mean and spread over seeds, TFMOT beside tfgreen's scopes."""
    import tf_keras

    (x, y), (x_test, y_test) = load_data(data_path)
    dense_model = tg.load_model(model_path)
    twin = resnet8(tf_keras)
    twin.set_weights(dense_model.get_weights())
    print(f"dense: {top1(dense_model, x_test, y_test):.2%} (Keras 3), {top1(twin, x_test, y_test):.2%} (tf_keras)")
    batch = 128
    steps = epochs * -(-len(x) // batch)
    for target in sparsities:
        found: dict[str, list[float]] = {side: [] for side in sides}
        zeros: dict[str, float] = {}
        for seed in seeds:
            order = np.random.default_rng(seed).permutation(len(x))
            for side in sides:
                settings = {"initial_sparsity": 0.3 * target, "final_sparsity": target, "begin_step": 0}
                settings |= {"end_step": int(0.7 * steps), "frequency": 10}
                if side == "tfmot":
                    sparsity = tfmot().sparsity.keras
                    tf_keras.utils.set_random_seed(seed)
                    network = tf_keras.models.clone_model(twin)
                    network.set_weights(twin.get_weights())
                    pruned = sparsity.prune_low_magnitude(network, sparsity.PolynomialDecay(**settings))
                    callbacks, api = [sparsity.UpdatePruningStep()], tf_keras
                else:
                    keras.utils.set_random_seed(seed)
                    config = tg.PruneConfig(schedule=tg.PolynomialDecay(**settings), scope=side)
                    pruned, callbacks, api = tg.prune(dense_model, config), [tg.UpdateCompression()], keras
                rate = api.optimizers.schedules.CosineDecay(1e-3, steps)
                pruned.compile(api.optimizers.Adam(rate), "sparse_categorical_crossentropy")
                pruned.fit(x[order], y[order], batch_size=batch, epochs=epochs, verbose=0, callbacks=callbacks)
                final = sparsity.strip_pruning(pruned) if side == "tfmot" else tg.strip(pruned)
                found[side].append(top1(final, x_test, y_test))
                kernels = [w for w in final.get_weights() if w.ndim >= 2]
                zeros[side] = sum(int((w == 0).sum()) for w in kernels) / sum(w.size for w in kernels)
                print(f"  seed {seed} {side:7} {found[side][-1]:.2%}", flush=True)
        for side in sides:
            values = [100 * v for v in found[side]]
            spread = f"{min(values):.2f} to {max(values):.2f}"
            print(f"{target:.0%} {side:7} {np.mean(values):.2f} % ({spread}), zeros {zeros[side]:.2%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("speed").add_argument("--rounds", type=int, default=25)
    commands.add_parser("select")
    scoring = commands.add_parser("accuracy")
    scoring.add_argument("--model", required=True)
    scoring.add_argument("--data", required=True)
    scoring.add_argument("--seeds", type=int, default=3)
    scoring.add_argument("--first-seed", type=int, default=0)
    scoring.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    scoring.add_argument("--epochs", type=int, default=2)
    scoring.add_argument("--sparsity", type=float, nargs="+", default=[0.5, 0.75, 0.9])
    arguments = parser.parse_args()
    if arguments.command == "speed":
        speed(arguments.rounds)
    elif arguments.command == "select":
        select()
    else:
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        accuracy(arguments.model, arguments.data, seeds, arguments.epochs, arguments.sparsity, arguments.sides)


if __name__ == "__main__":
    main()
