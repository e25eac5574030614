"""What compressed updates save in federated learning, and what they cost in accuracy.

    python scripts/bench_federated.py --data mnist.npz [--rounds 20] [--seeds 5] [--classes equal two]
    python scripts/bench_federated.py --speed
    python scripts/bench_federated.py --memory [--rounds 200]

Ten clients, of which five train in a round for one epoch (SGD, learning rate 0.1, batches of 32), share a network of
37,866 weights and 4,000 images of the data: at random (``equal``), or sorted by class into two shards each (``two``).
Accuracy is the mean of the last four rounds on 2,000 test images. The first row sends float32 weights both ways; the
others code both directions. A network is not pruned before it has learned something: for the last two rows it is first
trained on 500 images of the server's own, and pruned there, in steps; they differ in that, and are compared with each
other. Of its 80 % all are in the widest layer, 90 % of whose weights go: the others are small.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import psutil
from common import load_data

import tfgreen as tg

CLIENTS, PER_ROUND, TRAINED, TESTED, LAST = 10, 5, 4000, 2000, 4
SERVER, WARM_UP = 500, 10  # images that the server has, and epochs on them
# Row -> codec of the uplink, sparsity (None without a warm-up), and what to reach: times fewer bytes, points lost with
# each kind of classes. A row without a codec is what those after it are compared with.
ROWS: dict[str, tuple[tg.UpdateCodec | None, float | None, tuple[float, float, float] | None]] = {
    "float32 weights": (None, None, None),
    "int8": (tg.UpdateCodec(), None, (3.9, 0.3, 0.3)),
    "int8, top 10 %": (tg.UpdateCodec(top_k=0.1), None, (15, 0.7, 2.5)),
    "the same without feedback": (tg.UpdateCodec(top_k=0.1, error_feedback=False), None, None),
    "warmed up, float32 weights": (None, 0.0, None),
    "pruned 80 %, int8": (tg.UpdateCodec(), 0.8, (20, 1.0, 1.0)),
}


def network(x: np.ndarray | None = None, y: np.ndarray | None = None, sparsity: float = 0.0) -> keras.Model:
    """The network, trained on images of the server's where there are some, and pruned half-way."""
    layers = keras.layers
    parts = [
        layers.Conv2D(16, 3, activation="relu"), layers.MaxPooling2D(), layers.Conv2D(24, 3, activation="relu"),
        layers.MaxPooling2D(), layers.Flatten(), layers.Dense(56, activation="relu", name="wide"), layers.Dense(10),
    ]  # fmt: skip
    model = compiled(keras.Sequential([keras.Input((28, 28, 1)), *parts]))
    if x is not None:
        model.fit(x, y, epochs=WARM_UP, verbose=0)
        if sparsity:
            weights = {layer.name: layer.count_params() for layer in model.layers}
            share = sparsity * sum(weights.values()) / weights["wide"]
            end = WARM_UP * -(-len(x) // 32)
            wide = tg.PruneConfig(schedule=tg.PolynomialDecay(0.0, share, begin_step=0, end_step=end, frequency=16))
            model = compiled(tg.prune(model, tg.PruneConfig(layers={"wide": wide, "*": None})))
        callbacks = [tg.UpdateCompression()] if sparsity else []
        model.fit(x, y, epochs=WARM_UP * (2 if sparsity else 1), verbose=0, callbacks=callbacks)
    return compiled(model)


def compiled(model: keras.Model) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


def shares(y: np.ndarray, classes: str, seed: int) -> list[np.ndarray]:
    """The images of each client."""
    rng = np.random.default_rng(seed)
    if classes == "equal":
        return np.array_split(rng.permutation(len(y)), CLIENTS)
    shards = np.array_split(np.argsort(y, kind="stable"), 2 * CLIENTS)
    order = rng.permutation(2 * CLIENTS)
    return [np.concatenate([shards[a], shards[b]]) for a, b in order.reshape(CLIENTS, 2)]


def table(path: str, rounds: int, seeds: int, kinds: list[str]) -> None:
    (x, y), test = load_data(path)
    x = x[: TRAINED + SERVER].reshape(-1, 28, 28, 1) / 255
    test = (test[0][:TESTED].reshape(-1, 28, 28, 1) / 255, test[1][:TESTED])
    warm, x, y = (x[TRAINED:], y[TRAINED : TRAINED + SERVER]), x[:TRAINED], y[:TRAINED]
    print(f"{rounds} rounds, {seeds} seeds", flush=True)
    for classes in kinds:
        first: list[tg.federated.FederatedRun] = []
        for title, (codec, sparsity, reach) in ROWS.items():
            runs = []
            for seed in range(seeds):
                rows = shares(y, classes, seed)

                def data_fn(client: int) -> tuple[np.ndarray, np.ndarray]:
                    return x[rows[client]], y[rows[client]]

                runs.append(
                    tg.federated.simulate(
                        lambda: network() if sparsity is None else network(*warm, sparsity), data_fn, clients=CLIENTS,
                        rounds=rounds, clients_per_round=PER_ROUND, codec=codec, downlink=codec and tg.UpdateCodec(),
                        seed=seed, evaluation_data=test,
                        callbacks_fn=lambda: [tg.UpdateCompression()] if sparsity else [],
                    )  # fmt: skip
                )
            first = runs if codec is None else first
            print(row(classes, title, first, runs, reach), flush=True)


def row(
    classes: str, title: str, first: list[tg.federated.FederatedRun], runs: list[tg.federated.FederatedRun],
    reach: tuple[float, float, float] | None,
) -> str:
    ups = [a.bytes_up / b.bytes_up for a, b in zip(first, runs)]
    downs = [a.bytes_down / b.bytes_down for a, b in zip(first, runs)]
    lost = [100 * (accuracy(b) - accuracy(a)) for a, b in zip(first, runs)]
    mean = 100 * statistics.mean(map(accuracy, runs))
    joules = [run.joules for run in runs if run.joules is not None]
    energy = f"{statistics.mean(joules):6.0f} J" if joules else "-"
    wanted = "" if reach is None else f"   to reach: {reach[0]} x, -{reach[2 if classes == 'two' else 1]}"
    return (
        f"{classes:6} {title:28} up {runs[0].bytes_up / 1e6:6.2f} MB {statistics.mean(ups):5.1f} x   "
        f"down {statistics.mean(downs):4.1f} x   {mean:5.1f} % {statistics.mean(lost):+6.2f}   {energy}{wanted}"
    )


def accuracy(run: tg.federated.FederatedRun) -> float:
    return statistics.mean(run.history["accuracy"][-LAST:])


def speed() -> None:
    """CPU time to encode and decode a million float32 weights: the best of 20."""
    rng = np.random.default_rng(0)
    before = [rng.normal(size=(1000, 1000)).astype("float32")]
    after = [before[0] + rng.laplace(size=(1000, 1000)).astype("float32") * np.float32(0.01)]
    for codec in (tg.UpdateCodec(), tg.UpdateCodec(entropy=None), tg.UpdateCodec(bits=4), tg.UpdateCodec(top_k=0.1)):
        update, _ = codec.encode(before, after)
        times = [best(lambda: codec.encode(before, after)), best(lambda: codec.decode(update, before))]
        sizes = f"{before[0].nbytes / len(update):5.1f} x"
        print(f"{sizes}  encode {times[0]:5.2f} ms, decode {times[1]:5.2f} ms, both {sum(times):5.2f} ms  {codec}")


def best(call: Callable[[], object]) -> float:
    times = []
    for _ in range(20):
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return 1e3 * min(times)


def memory(rounds: int) -> None:
    """Resident memory over the rounds of a simulation."""
    rng = np.random.default_rng(0)
    x, y = rng.random((64, 28, 28, 1), np.float32), rng.integers(0, 10, 64)
    process, held = psutil.Process(), []

    def watch(number: int, client: int, update: bytes) -> bytes:
        held.append(process.memory_info().rss / 1e6)
        return update

    options = {"clients": 4, "rounds": rounds, "clients_per_round": 2, "transmit": watch, "evaluation_data": (x, y)}
    tg.federated.simulate(network, lambda client: (x, y), **options)
    start = len(held) // 10
    print(f"{rounds} rounds: {held[start]:.0f} MB after a tenth, {held[-1]:.0f} MB at the end, most {max(held):.0f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--classes", nargs="+", choices=("equal", "two"), default=["equal", "two"])
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    if arguments.speed:
        speed()
    if arguments.memory:
        memory(arguments.rounds or 200)
    if arguments.data:
        table(arguments.data, arguments.rounds or 20, arguments.seeds, arguments.classes)
