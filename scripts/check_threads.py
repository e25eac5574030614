"""Convert and predict in several threads at once, and compare with what one thread makes.

    python scripts/check_threads.py [--conversions 100] [--converters 4] [--predictions 2000] [--predictors 8]

The conversions take two models in turn, in float32 and int8, and every file must be that of its kind to the byte. The
predictions share one file, each with its own inputs, and must be equal to the bit.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402

import tfgreen as tg  # noqa: E402


def conversions(count: int, threads: int) -> int:
    """How many of the files differ from the one that a single thread makes."""
    from tests.zoo import ZOO, sample

    kinds = [(name, mode) for name in ("functional", "residual") for mode in ("float32", "int8")]
    models = {name: ZOO[name]() for name, _ in kinds}

    def made(kind: tuple[str, str]) -> bytes:
        name, mode = kind
        x = sample(name, 64) if mode == "int8" else None
        return tg.convert(models[name], quantization=mode, calibration_data=x).content

    expected = {kind: made(kind) for kind in kinds}
    todo = [kinds[k % len(kinds)] for k in range(count)]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return sum(content != expected[kind] for kind, content in zip(todo, pool.map(made, todo)))


def predictions(count: int, threads: int) -> int:
    """How many of the outputs differ from those that a single thread computes."""
    from tests.zoo import ZOO, sample

    lite = tg.convert(ZOO["residual"](), quantization="int8", calibration_data=sample("residual", 64))
    inputs = [sample("residual", 1 + seed % 3, seed=seed) for seed in range(count)]
    expected = [lite.predict(x) for x in inputs]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return sum(not np.array_equal(a, b) for a, b in zip(expected, pool.map(lite.predict, inputs), strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("conversions", 100), ("converters", 4), ("predictions", 2000), ("predictors", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    before, failed = [os.fstat(stream)[:2] for stream in (1, 2)], 0
    for title, check, count, threads in (
        ("conversions", conversions, options.conversions, options.converters),
        ("predictions", predictions, options.predictions, options.predictors),
    ):
        start = time.perf_counter()
        differ = check(count, threads)
        failed, seconds = failed + differ, time.perf_counter() - start
        print(f"{count} {title} from {threads} threads: {differ} differ, {seconds:.1f} s", flush=True)
    kept = before == [os.fstat(stream)[:2] for stream in (1, 2)]
    print(f"standard output and error are {'what they were' if kept else 'OTHERS than before'}")
    return 0 if kept and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
