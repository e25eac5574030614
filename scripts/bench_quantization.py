"""tfgreen's quantization-aware training beside TFMOT's, post-training quantization and ai-edge-quantizer.

    python scripts/bench_quantization.py parity --model resnet8_cifar10_jpeg.h5 --data cifar10_jpeg.npz
    python scripts/bench_quantization.py speed
    python scripts/bench_quantization.py accuracy --model resnet8_cifar10_jpeg.h5 --data cifar10_jpeg.npz
    python scripts/bench_quantization.py pruned --model resnet8_cifar10_jpeg.h5 --data cifar10_jpeg.npz

Every accuracy is that of the ``.tflite`` file, run by the LiteRT interpreter over the whole test split. TFMOT
quantizes a tf_keras model of the same layers and weights, and trains with the same optimizer on the same batches,
mirrored and shifted at random.
``--model mobile`` trains a small depthwise-separable network on the data first.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from common import augmented, compare, fit, load_data, resnet8, tfmot

import tfgreen as tg


def mobile(api: Any) -> Any:
    """A depthwise-separable network in the manner of MobileNet: 33,000 parameters, 32 x 32 x 3 inputs of 0 to 255."""
    layers = api.layers
    inputs = api.Input((32, 32, 3))
    x = layers.Conv2D(24, 3, padding="same", use_bias=False)(inputs)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    for filters, stride in ((32, 1), (48, 2), (64, 1), (96, 2), (128, 1)):
        x = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.Conv2D(filters, 1, use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return api.Model(inputs, layers.Dense(10, activation="softmax")(x))


class Case:
    """A trained network in Keras 3 and tf_keras, with its data."""

    def __init__(self, model: str, data: str, float_epochs: int) -> None:
        import tf_keras

        (self.x, self.y), (self.x_test, self.y_test) = load_data(data)
        if model == "mobile":
            self.model = trained_float(mobile(keras), self.x, self.y, float_epochs)
            self.twin = mobile(tf_keras)
        else:
            self.model = tg.load_model(model)
            self.twin = resnet8(tf_keras)
        self.twin.set_weights(self.model.get_weights())

    def score(self, scores: Any) -> float:
        return float((np.asarray(scores).reshape(len(self.y_test), -1).argmax(-1) == self.y_test).mean())


def trained_float(model: keras.Model, x: np.ndarray, y: np.ndarray, epochs: int) -> keras.Model:
    keras.utils.set_random_seed(0)
    steps = epochs * -(-len(x) // 64)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(augmented(x, y, seed=0, batch=64), epochs=epochs, verbose=0)
    return model


def convert_twin(model: Any) -> tg.LiteRTModel:
    """TFMOT's own way to the file: the converter on a SavedModel with a static batch."""
    import tensorflow as tf

    call = tf.function(lambda x: model(x, training=False))
    concrete = call.get_concrete_function(tf.TensorSpec((1, *model.input_shape[1:]), tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return tg.LiteRTModel(converter.convert())


def parity(case: Case, seeds: int) -> None:
    """How far Keras models with ranges are from their files: the zoo after an epoch, the case before and after one."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests import quantized as small
    from tests import zoo

    for name in zoo.ZOO:
        if name != "subclassed":  # whose ranges are found by the converter
            model = small.quantized(small.varied(zoo.ZOO[name]()), zoo.sample(name, 64))
            print_parity(name, small.fitted(model, name), zoo.sample(name, 256, seed=7))
    quantized = tg.quantize(case.model, calibration_data=case.x[:512])
    print_parity("untrained", quantized, case.x_test)
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        quantized = tg.quantize(case.model, calibration_data=case.x[:512])
        quantized.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
        quantized.fit(case.x, case.y, batch_size=128, verbose=0)
        print_parity(f"1 epoch, seed {seed}", quantized, case.x_test)


def print_parity(title: str, model: keras.Model, x: Any) -> None:
    """Agreement of the largest of the last axis, and the error in scales, for each output of a model and its file."""
    lite = tg.convert(model, quantization="int8")
    outputs = keras.tree.flatten(model.predict(x, verbose=0, batch_size=500))
    for ours, file, tensor in zip(outputs, keras.tree.flatten(lite.predict(x)), lite.outputs):
        scale = lite.output_scales[tensor.name] or (ours.max() - ours.min()) / 255
        error = np.abs(ours - file) / scale
        print(
            f"{title}, {tensor.name}: agreement {(ours.argmax(-1) == file.argmax(-1)).mean():.2%}, error "
            f"{error.mean():.4f} scales on average, {error.max():.1f} at most; float operators {lite.float_operators}",
            flush=True,
        )


def accuracy(case: Case, seeds: int, epochs: int, rate: float, bits: int) -> None:
    """Accuracy of the files after the same budget of training."""
    import tf_keras

    data = case.x[:512]
    print(f"float   {case.score(case.model.predict(case.x_test, verbose=0, batch_size=500)):.2%}", flush=True)
    found: dict[str, list[float]] = {}
    if bits == 8:
        ptq = tg.convert(case.model, tg.ConvertConfig(quantization="int8", calibration_data=data))
        found["ptq"] = [case.score(ptq.predict(case.x_test))]
    found["ai-edge-quantizer"] = [case.score(edge_quantized(case.model, data, bits).predict(case.x_test))]
    steps = epochs * -(-len(case.x) // 128)
    sides: dict[str, Callable[[], Any]] = {"tfgreen": lambda: ours(case, data, bits, steps)}
    if bits == 8:
        sides["tfmot"] = lambda: tfmot().quantization.keras.quantize_model(case.twin)  # a copy, weights included
    for seed in range(seeds):
        for side, make in sides.items():
            api = keras if side == "tfgreen" else tf_keras
            api.utils.set_random_seed(seed)
            model = make()
            schedule = api.optimizers.schedules.CosineDecay(rate, steps)
            model.compile(api.optimizers.Adam(schedule), "sparse_categorical_crossentropy")
            callbacks = [tg.UpdateCompression()] if side == "tfgreen" else []
            model.fit(augmented(case.x, case.y, seed), epochs=epochs, verbose=0, callbacks=callbacks)
            mode = tg.ConvertConfig(quantization="int4" if bits == 4 else "int8")
            lite = tg.convert(model, mode) if api is keras else convert_twin(model)
            found.setdefault(side, []).append(case.score(lite.predict(case.x_test)))
            print(f"  seed {seed} {side:8} {found[side][-1]:.2%}, {lite.size_bytes:,} bytes", flush=True)
    for side, values in found.items():
        print(f"{side:18} {np.mean(values):.2%} ({min(values):.2%} to {max(values):.2%})", flush=True)


def pruned(case: Case, seeds: int, epochs: int, rate: float, sparsity: float) -> None:
    """Prune, then quantize what still holds its masks: zeros counted in the integers of the file, and accuracy.

    Twice the epochs for pruning, on the images as they are, the first half of them to reach the sparsity.
    """
    steps = epochs * -(-len(case.x) // 128)
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        schedule = tg.PolynomialDecay(0.3 * sparsity, sparsity, begin_step=0, end_step=steps, frequency=10)
        sparse = tg.prune(case.model, tg.PruneConfig(schedule=schedule, scope="erk"))
        sparse.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
        sparse.fit(case.x, case.y, batch_size=128, epochs=2 * epochs, verbose=0, callbacks=[tg.UpdateCompression()])
        sparse = tg.recalibrate_batch_norm(sparse, case.x)  # whose statistics lag behind the masks
        before = case.score(sparse.predict(case.x_test, verbose=0, batch_size=500))
        quantized = tg.quantize(sparse, tg.QuantizeConfig(calibration_data=case.x[:512], freeze_after=0))
        schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
        quantized.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy")
        quantized.fit(augmented(case.x, case.y, seed), epochs=epochs, verbose=0, callbacks=[tg.UpdateCompression()])
        lite = tg.convert(quantized, tg.ConvertConfig(quantization="int8"))
        after = case.score(lite.predict(case.x_test))
        print(f"seed {seed}: pruned float {before:.2%}, int8 {after:.2%}; zeros {lite.sparsity:.2%}", flush=True)


def ours(case: Case, data: np.ndarray, bits: int, steps: int) -> keras.Model:
    freeze_after = 0 if bits == 8 else int(0.7 * steps)
    config = tg.QuantizeConfig(calibration_data=data, weight_bits=bits, freeze_after=freeze_after)
    return tg.quantize(case.model, config)


def edge_quantized(model: keras.Model, data: np.ndarray, bits: int) -> tg.LiteRTModel:
    """ai-edge-quantizer on the float file: int8 activations, weights of 8 or 4 bits per channel."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import qtyping, quantizer

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.tflite"
        tg.convert(model).save(path)
        interpreter = Interpreter(model_path=str(path))
        signature, names = next(iter(interpreter.get_signature_list().items()))
        tool = quantizer.Quantizer(str(path))
        every = qtyping.TFLOperationName.ALL_SUPPORTED
        tool.add_static_config(".*", every, activation_num_bits=8, weight_num_bits=bits)
        samples = [{names["inputs"][0]: data[i : i + 1]} for i in range(len(data))]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            result = tool.quantize(tool.calibrate({signature: samples}))
    return tg.LiteRTModel(bytes(result.quantized_model))


def speed(rounds: int) -> None:
    """Step time of quantization-aware over plain training on ResNet-8, batch 128, for both sides."""
    import tf_keras

    rng = np.random.default_rng(0)
    x = rng.uniform(0, 255, size=(128, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, 128)
    for api, side in ((keras, "tfgreen"), (tf_keras, "tfmot")):
        runs = {kind: fit(resnet8(api), x, y, 8, []) for kind in ("plain", "plain again")}
        if api is keras:
            runs["quantized"] = fit(tg.quantize(resnet8(api), tg.QuantizeConfig(calibration_data=x)), x, y, 8, [])
            config = tg.QuantizeConfig(calibration_data=x, ranges="learned")
            runs["learned"] = fit(tg.quantize(resnet8(api), config), x, y, 8, [])
        else:
            runs["quantized"] = fit(tfmot().quantization.keras.quantize_model(resnet8(api)), x, y, 8, [])
        compare(f"resnet8 {side}", runs, rounds, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("speed").add_argument("--rounds", type=int, default=25)
    for name in ("parity", "accuracy", "pruned"):
        command = commands.add_parser(name)
        command.add_argument("--model", required=True, help="a Keras 2 ResNet-8 file, or 'mobile'")
        command.add_argument("--data", required=True)
        command.add_argument("--float-epochs", type=int, default=20)
        command.add_argument("--seeds", type=int, default=3)
        if name != "parity":
            command.add_argument("--epochs", type=int, default=2)
            command.add_argument("--rate", type=float, default=3e-5)
        if name == "accuracy":
            command.add_argument("--bits", type=int, choices=(8, 4), default=8)
        if name == "pruned":
            command.add_argument("--sparsity", type=float, default=0.75)
    arguments = parser.parse_args()
    if arguments.command == "speed":
        speed(arguments.rounds)
        return
    case = Case(arguments.model, arguments.data, arguments.float_epochs)
    if arguments.command == "parity":
        parity(case, arguments.seeds)
        return
    settings = (case, arguments.seeds, arguments.epochs, arguments.rate)
    if arguments.command == "accuracy":
        accuracy(*settings, arguments.bits)
    else:
        pruned(*settings, arguments.sparsity)


if __name__ == "__main__":
    main()
