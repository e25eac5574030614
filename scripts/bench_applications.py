"""Networks of keras.applications, trained from random weights, through quantization-aware training to the int8 file.

    python scripts/bench_applications.py --data cifar10_jpeg.npz --steps 200 --quantized-steps 200

Images are enlarged to ``--size``. Prints of each network the loss of the first and last 20 steps of each training,
the seconds of ``tg.quantize`` and ``tg.convert``, the operators that compute in float, how far file and model are
apart, and the score of float model, model with ranges and file.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from common import load_data, top1

import tfgreen as tg

NETWORKS = {
    "MobileNetV2": keras.applications.mobilenet_v2,
    "InceptionV3": keras.applications.inception_v3,
    "EfficientNetB0": keras.applications.efficientnet,
    "DenseNet121": keras.applications.densenet,
}
BATCH = 16


def losses(model: keras.Model, batches: tf.data.Dataset, steps: int, rate: float, callbacks: list[Any]) -> np.ndarray:
    """Train, and give the mean loss of every 20 steps."""
    found: list[float] = []
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    for _ in range(steps // 20):
        history = model.fit(batches, steps_per_epoch=20, epochs=1, verbose=0, callbacks=callbacks)
        found.append(history.history["loss"][-1])
    return np.array(found)


def bench(name: str, data: str, size: int, steps: int, quantized_steps: int) -> None:
    keras.utils.set_random_seed(0)
    (x, y), (x_test, y_test) = load_data(data)

    def enlarged(images: Any) -> Any:
        return NETWORKS[name].preprocess_input(tf.image.resize(tf.cast(images, "float32"), (size, size)))

    batches = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=0).repeat().batch(BATCH)
    batches = batches.map(lambda images, labels: (enlarged(images), labels)).prefetch(2)
    sample, seen = enlarged(x[:128]).numpy(), enlarged(x_test[:500]).numpy()
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt(sample / 255)  # it stands behind a Rescaling
    before = losses(model, batches, steps, 1e-3, [])
    print(f"{name}: float loss {before[0]:.3f} -> {before[-1]:.3f} in {steps} steps", flush=True)
    start = time.perf_counter()
    quantized = tg.quantize(model, calibration_data=sample)
    seconds = time.perf_counter() - start
    after = losses(quantized, batches, quantized_steps, 1e-4, [tg.UpdateCompression()])
    print(f"{name}: quantize {seconds:.1f} s; loss {after[0]:.3f} -> {after[-1]:.3f} in {quantized_steps} steps, "
          f"{'finite' if np.isfinite(after).all() else 'NOT FINITE'}", flush=True)  # fmt: skip
    start = time.perf_counter(), time.process_time()
    lite = tg.convert(quantized, quantization="int8")
    seconds = time.perf_counter() - start[0]
    cpu = time.process_time() - start[1]
    print(f"{name}: convert {seconds:.1f} s ({cpu:.1f} s of CPU), {lite.size_bytes:,} bytes, "
          f"in float: {', '.join(lite.float_operators) or 'nothing'}")  # fmt: skip
    print(tg.verify(quantized, lite, seen))
    scores = [top1(source, seen, y_test[:500]) for source in (model, quantized)]
    print(f"{name}: top-1 of 500 float {scores[0]:.1%}, with ranges {scores[1]:.1%}, file "
          f"{np.mean(np.asarray(lite.predict(seen)).argmax(-1) == y_test[:500]):.1%}", flush=True)  # fmt: skip
    for note in lite.notes:
        print(f"{name}: {note}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="an .npz of 32 x 32 x 3 images")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--quantized-steps", type=int, default=200)
    options = parser.parse_args()
    for name in options.networks:
        bench(name, options.data, options.size, options.steps, options.quantized_steps)


if __name__ == "__main__":
    main()
