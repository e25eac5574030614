"""Channel pruning: exactness, accuracy before and after training, latency, and what it costs.

    python scripts/bench_channels.py exact
    python scripts/bench_channels.py untrained --model resnet8_cifar10_jpeg.h5 --data cifar10_jpeg.npz
    python scripts/bench_channels.py trained --model resnet8_cifar10_jpeg.h5 --data cifar10_jpeg.npz --seeds 3
    python scripts/bench_channels.py latency --model resnet8_cifar10_jpeg.h5 --data cifar10_jpeg.npz
    python scripts/bench_channels.py wide --data cifar10_jpeg.npz --seeds 3
    python scripts/bench_channels.py torch --model resnet8_cifar10_jpeg.h5 --data cifar10_jpeg.npz --seeds 1

``exact`` removes half of the channels at random, and sets the result beside the model in which all their weights are 0.
``untrained`` removes the inner channels of each residual block down to 0.53 of the MACs, from unlabelled images, over
draws of these. ``trained`` lets them go while it trains, ten epochs in all, plain and with the original as teacher.
``latency`` runs the files in turn. ``wide`` trains a network of a million parameters first, and its slim copies for
as many epochs with it as teacher. ``torch`` sets
Torch-Pruning beside it (``pip install tfgreen[benchmarks-torch]``), on the same weights, MACs and batches.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from channel_training import BATCH, Rates, fit, softly, steps_in, wide_network
from common import augmented, load_data, top1

import tfgreen as tg

SMALL: dict[str, int] = {
    "MobileNetV2": 64, "MobileNetV3Small": 64, "EfficientNetB0": 64, "ResNet50V2": 64, "DenseNet121": 64,
    "InceptionV3": 80, "ConvNeXtTiny": 64, "Xception": 80, "VGG16": 32, "NASNetMobile": 64,
}  # fmt: skip
TEN_EPOCHS = 10
PEAKS = {"distilled": 4e-3, "plain": 2e-3}  # learning rates, chosen on 2,000 held-out training images


def networks() -> Iterator[tuple[str, Callable[[], keras.Model], tuple[int, ...]]]:
    for name, size in SMALL.items():
        cls, shape = getattr(keras.applications, name), (size, size, 3)
        yield name, functools.partial(cls, weights=None, input_shape=shape, classes=10), shape


def exact() -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests import zoo
    from tests.surgery.cases import half, outputs, randomized, zeroed
    from tfgreen.surgery.channel_groups import channel_groups
    from tfgreen.surgery.remove_channels import remove_channels

    cases = [(name, zoo.ZOO[name], zoo.sample(name, 4)) for name in zoo.ZOO]
    rng = np.random.default_rng(0)
    cases += [(name, make, rng.normal(size=(2, *shape)).astype("float32")) for name, make, shape in networks()]
    cases += list(bert())
    print(f"{'model':20} {'groups':>6} {'removable':>17} {'analysis':>9} {'surgery':>8} {'error':>9}  stays")
    for name, make, x in cases:
        keras.utils.set_random_seed(0)
        model = randomized(make()) if name in zoo.ZOO else make()
        start = time.perf_counter()
        groups = channel_groups(model)
        analysed = time.perf_counter() - start
        removed = half(groups)
        start = time.perf_counter()
        slim = remove_channels(model, groups.analysis, removed)
        cut = time.perf_counter() - start
        pairs = zip(outputs(zeroed(model, removed), x), outputs(slim, x), strict=True)
        error = max(float(np.abs(a - b).max() / (np.abs(a).max() or 1)) for a, b in pairs)
        free, size = sum(group.removable for group in groups), sum(group.size for group in groups)
        reasons = {" ".join(word for word in group.reason.split() if "'" not in word) for group in groups}
        print(f"{name:20} {len(groups):6} {free:8,} of {size:6,} {analysed:7.2f} s {cut:6.2f} s {error:9.1e}  "
              f"{'; '.join(sorted(reasons - {''}))}", flush=True)  # fmt: skip


def bert() -> Iterator[tuple[str, Callable[[], Any], Any]]:
    """A small BERT of KerasHub, where that is installed."""
    try:
        import keras_hub
    except ImportError:
        print("KerasHub is not installed: no BERT")
        return
    tokens = np.random.default_rng(0).integers(1, 50, (2, 12))
    x = {"token_ids": tokens, "padding_mask": np.ones_like(tokens), "segment_ids": np.zeros_like(tokens)}
    yield "BERT of KerasHub", lambda: keras_hub.models.BertBackbone(
        vocabulary_size=50, num_layers=3, num_heads=4, hidden_dim=32, intermediate_dim=64, max_sequence_length=16
    ), x  # fmt: skip


def residual_keep(model: keras.Model) -> tuple[str, ...]:
    """The layers of the groups that more than one convolution makes, and of the first: the residual streams."""
    groups = tg.channel_groups(model)
    kept = []
    for number, group in enumerate(groups):
        makers = {edge.layer for edge in group.edges if edge.weight == "kernel" and edge.axis == 3}
        if len(makers) > 1 or number == 0:
            kept += sorted(makers)
    return tuple(kept)


def slimmed(model: keras.Model, x: np.ndarray, macs: float, seed: int, **options: Any) -> keras.Model:
    sample = x[np.random.default_rng(seed).choice(len(x), 1000, replace=False)]
    return tg.prune_channels(model, target_macs=macs, calibration_data=sample, seed=seed, **options)


def untrained(model: keras.Model, data: str, seeds: int) -> None:
    (x, _), (x_test, y_test) = load_data(data)
    base, macs = top1(model, x_test, y_test), tg.profile(model).macs
    keep = residual_keep(model)
    print(f"whole {base:.2%}, {macs:,} MACs")
    for criterion in ("l2", "l1", "activation", "hessian", "geometric_median", "random"):
        for how in ("none", "batch_norm", "least_squares", "auto"):
            scores = []
            for seed in range(seeds):
                slim = slimmed(model, x, 0.53, seed, keep=keep, reconstruct=how, criterion=criterion)
                scores.append(100 * top1(slim, x_test, y_test))
            print(f"{criterion:17} {how:14} {tg.profile(slim).macs / macs:.3f} of the MACs, top-1 {spread(scores)}",
                  flush=True)  # fmt: skip


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):6.2f} ({min(values):.2f} to {max(values):.2f}, {len(values)} runs)"


def best_options(model: keras.Model, x: np.ndarray, macs: float, seed: int) -> dict[str, Any]:
    """Of the inner channels, those go without which the outputs change least for the MACs saved."""
    sample = x[np.random.default_rng(seed).choice(len(x), 1000, replace=False)]
    options = {"scope": "sensitivity", "round_to": 4, "keep": residual_keep(model)}
    return {"target_macs": macs, "calibration_data": sample, "seed": seed, **options}


def trained(model: keras.Model, data: str, seeds: int, epochs: int = TEN_EPOCHS, macs: float = 0.53) -> None:
    (x, y), (x_test, y_test) = load_data(data)
    base, whole = 100 * top1(model, x_test, y_test), tg.profile(model).macs
    drops: dict[str, list[float]] = {way: [] for way in PEAKS}
    for seed in range(seeds):
        for way, peak in PEAKS.items():
            options = best_options(model, x, macs, seed)
            slim = softly(model, way == "distilled", x, y, peak, epochs, seed, options)
            drops[way].append(base - 100 * top1(slim, x_test, y_test))
            print(f"seed {seed}, {way}: {drops[way][-1]:+.2f} points lost of {base:.2f}, "
                  f"{tg.profile(slim).macs / whole:.3f} of the MACs, widths {widths(slim)}", flush=True)  # fmt: skip
    for way, lost in drops.items():
        print(f"{way:10} lost {spread(lost)}")


def widths(model: keras.Model) -> list[int]:
    return [layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def latency(model: keras.Model, data: str, rounds: int) -> None:
    """The median of some rounds, in which the files run in turn; of the best allocation too."""
    (x, _), _ = load_data(data)
    slims = {
        "half of the inner channels": slimmed(model, x, 0.53, 0, keep=residual_keep(model), scope="uniform"),
        "by sensitivity": tg.prune_channels(model, **best_options(model, x, 0.53, 0)),
        "half of all channels": slimmed(model, x, 0.26, 0),
    }
    for mode in ("float32", "int8"):
        options = {"calibration_data": x[:256]} if mode == "int8" else {}
        files = {name: tg.convert(one, quantization=mode, **options) for name, one in {"whole": model, **slims}.items()}
        times = [tg.benchmark(files, runs=2000, warmup=100) for _ in range(rounds)]
        for name, slim in slims.items():
            share = tg.profile(slim).macs / tg.profile(model).macs
            ratios = [found[name].median_ms / found["whole"].median_ms for found in times]
            print(f"{mode} {name}, {share:.3f} of the MACs: {statistics.median(ratios):.3f} ({min(ratios):.3f} to "
                  f"{max(ratios):.3f}) of the time, {files[name].size_bytes:,} of {files['whole'].size_bytes:,} bytes",
                  flush=True)  # fmt: skip


def wide(data: str, seeds: int, epochs: int, folder: Path | None) -> None:
    (x, y), (x_test, y_test) = load_data(data)
    lost: dict[str, list[float]] = {"2x": [], "4x": [], "4x, int8": []}
    speed = []
    for seed in range(seeds):
        model = wide_original(x, y, epochs, seed, folder)
        base = 100 * top1(model, x_test, y_test)
        sample = x[np.random.default_rng(seed).choice(len(x), 1000, replace=False)]
        print(f"seed {seed}: {model.count_params():,} parameters, {tg.profile(model).macs:,} MACs, top-1 {base:.2f}",
              flush=True)  # fmt: skip
        for name, macs in (("4x", 0.25), ("2x", 0.5)):
            options = {"target_macs": macs, "scope": "sensitivity", "calibration_data": sample, "seed": seed}
            slim = softly(model, True, x, y, PEAKS["plain"], epochs, seed, options)
            lost[name].append(base - 100 * top1(slim, x_test, y_test))
            print(f"seed {seed}, {name}: {tg.profile(model).macs / tg.profile(slim).macs:.2f} times fewer MACs, "
                  f"{lost[name][-1]:+.2f} points lost, widths {widths(slim)}", flush=True)  # fmt: skip
            if name == "4x":
                int8 = tg.convert(slim, quantization="int8", calibration_data=x[:256])
                score = 100 * float((np.asarray(int8.predict(x_test)).argmax(-1) == y_test).mean())
                lost["4x, int8"].append(base - score)
                times = tg.benchmark({"float32": tg.convert(model), "int8": int8}, runs=500)
                speed.append(times["float32"].median_ms / times["int8"].median_ms)
                print(f"seed {seed}, int8: {speed[-1]:.2f} times faster, {base - score:+.2f} points lost", flush=True)
    for name, points in lost.items():
        print(f"{name:10} lost {spread(points)}")
    print(f"channels and int8: {spread(speed)} times faster")


def wide_original(x: np.ndarray, y: np.ndarray, epochs: int, seed: int, folder: Path | None) -> keras.Model:
    """The wide network, trained, or loaded from a folder of earlier runs."""
    kept = None if folder is None else folder / f"wide_{seed}.keras"
    if kept is not None and kept.exists():
        return tg.load_model(kept)
    keras.utils.set_random_seed(seed)
    model = wide_network()
    fit(model, None, x, y, Rates(PEAKS["plain"], epochs * steps_in(len(x))), epochs, seed)
    if kept is not None:
        model.save(kept)
    return model


def beside_torch(model: keras.Model, data: str, seeds: int, epochs: int = TEN_EPOCHS) -> None:
    """Torch-Pruning takes half of the channels inside of every block; both train on equal batches, at equal rates."""
    import bench_channels_torch as theirs  # needs torch and torch-pruning

    (x, y), (x_test, y_test) = load_data(data)
    base, whole, keep = 100 * top1(model, x_test, y_test), tg.profile(model).macs, residual_keep(model)
    torch_whole = theirs.macs(theirs.ResNet8(model))
    print(f"whole: {base:.2f} in Keras, {100 * theirs.top1(theirs.ResNet8(model), x_test, y_test):.2f} in torch")
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        net, rates = theirs.pruned(model, 0.5, 8), Rates(PEAKS["plain"], epochs * steps_in(len(x)))
        sides = {
            "Torch-Pruning": net,
            "tfgreen, equal channels": slimmed(model, x, 0.53, seed, keep=keep, scope="uniform", reconstruct="none"),
            "tfgreen, reconstructed": slimmed(model, x, 0.53, seed, keep=keep, scope="uniform"),
            "tfgreen, by sensitivity": tg.prune_channels(model, **best_options(model, x, 0.53, seed)),
        }
        for name, side in sides.items():
            score, share = (theirs.top1, theirs.macs(net) / torch_whole) if side is net else (
                top1, tg.profile(side).macs / whole
            )  # fmt: skip
            found.setdefault(f"{name}, at once", []).append(base - 100 * score(side, x_test, y_test))
            print(f"seed {seed}, {name}, {share:.3f} of the MACs: {found[f'{name}, at once'][-1]:+.2f} points lost "
                  "at once", flush=True)  # fmt: skip
        theirs.train(net, augmented(x, y, seed, BATCH), epochs, rates)
        ours = sides["tfgreen, by sensitivity"]
        fit(ours, None, x, y, rates, epochs, seed)
        test = x_test, y_test
        for name, top in ("Torch-Pruning", theirs.top1(net, *test)), ("tfgreen, by sensitivity", top1(ours, *test)):
            found.setdefault(f"{name}, {epochs} epochs", []).append(base - 100 * top)
            print(f"seed {seed}, {name}: {base - 100 * top:+.2f} points lost after {epochs} epochs", flush=True)
    for name, lost in found.items():
        print(f"{name:28} lost {spread(lost)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("exact")
    of_model = {"untrained": untrained, "trained": trained, "latency": latency, "torch": beside_torch}
    for name in of_model:
        command = commands.add_parser(name)
        command.add_argument("--model", required=True)
        command.add_argument("--data", required=True)
        command.add_argument("--seeds", type=int, default=3)
    command = commands.add_parser("wide")
    command.add_argument("--data", required=True)
    command.add_argument("--seeds", type=int, default=3)
    command.add_argument("--epochs", type=int, default=20)
    command.add_argument("--folder", type=Path, help="where the trained originals are kept for further runs")
    options = parser.parse_args()
    if options.command == "exact":
        exact()
    elif options.command == "wide":
        wide(options.data, options.seeds, options.epochs, options.folder)
    else:
        of_model[options.command](tg.load_model(options.model), options.data, options.seeds)


if __name__ == "__main__":
    main()
