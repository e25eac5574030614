"""What every verb promises, checked on a random model: each check raises AssertionError where the promise is broken."""

from __future__ import annotations

import functools
import math
import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfgreen as tg
from tests.random_models import NAMES, Program, with_code
from tfgreen.deploy.conversion.judge import FAR
from tfgreen.errors import TfgreenError
from tfgreen.model.rebuild import rebuild

SAMPLES = 48
FAR_SCALES, FAR_DB = 4.5, 9.5  # what a file may not be without saying so
AGREES_SCALES = 2.0  # what a file with trained ranges may be off its model

RIGHT_REFUSALS = (  # of files of trained models, in words of theirs: all else that trains converts
    "for which LiteRT has no operator",  # no file of any kind could run it
)

Check = Callable[[Program], None]


def flat(tensors: Any) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(tensor) for tensor in keras.tree.flatten(tensors)]


def predict(model: Any, x: Any) -> list[np.ndarray]:
    """Outputs of a file, or of a model called without a trace, which would be most of the time of a check."""
    return flat(model.predict(x) if isinstance(model, tg.LiteRTModel) else model(x, training=False))


def close(expected: list[np.ndarray], got: list[np.ndarray], tolerance: float, what: str) -> None:
    """Equal up to a share of the largest value."""
    assert [a.shape for a in expected] == [a.shape for a in got], f"{what}: other shapes"
    for index, (a, b) in enumerate(zip(expected, got)):
        error = float(np.max(np.abs(a.astype("float64") - b))) / max(float(np.abs(a).max()), 1e-3)
        assert error <= tolerance, f"{what}: output {index} is off by {error:.2g} of its largest value"


def check_copy(program: Program) -> None:
    """A copy computes the same bits."""
    model, x = program.build(), program.data(4)
    copy = rebuild(model, lambda path, layer: layer)
    for a, b in zip(flat(model(x)), flat(copy(x)), strict=True):
        np.testing.assert_array_equal(a, b)


def check_exact(verb: Callable[[keras.Model], keras.Model], program: Program) -> None:
    """A verb that changes nothing, or refuses."""
    model, x = program.build(), program.data(SAMPLES)
    before = predict(model, x)
    try:
        other = verb(model)
    except TfgreenError:
        return
    close(before, predict(other, x), 2e-3, "the result computes something else")
    close(before, predict(model, x), 0.0, "the model passed in has changed")


def check_channels(program: Program) -> None:
    """Without half of its channels a model computes what it does with all their weights at 0."""
    from tests.surgery.cases import check_removal

    check_removal(with_code(program).build(), program.data(4), tolerance=1e-4)


def one_step(model: keras.Model, x: Any, callbacks: list[Any]) -> tuple[float, float]:
    """The loss of a fit step to random targets, and how far the weights move."""
    rng = np.random.default_rng(0)
    y = keras.tree.map_structure(lambda output: rng.normal(size=output.shape).astype("float32"), model(x))
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    before = flat(model.trainable_variables)
    loss = model.fit(x, y, batch_size=SAMPLES, epochs=1, verbose=0, shuffle=False, callbacks=callbacks)
    moves = [float(np.square(a - b).sum()) for a, b in zip(before, flat(model.trainable_variables))]
    return float(loss.history["loss"][0]), math.sqrt(sum(moves))


@functools.lru_cache(maxsize=1)
def float_step(program: Program) -> tuple[float, float]:
    return one_step(program.build(), program.data(SAMPLES), [])


def save_and_load(model: keras.Model) -> keras.Model:
    objects = {name: NAMES[name] for name in ("Doubled", "FeedForward", "softsign_of_mine")}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.keras")
        model.save(path)
        return keras.models.load_model(path, custom_objects=objects, safe_mode=False)


@functools.lru_cache(maxsize=1)
def keras_saves(program: Program) -> bool:
    """Whether Keras saves and loads the model: what it cannot save is not expected of a compressed model."""
    if re.search(r"(?<!['.])\brelu\b", str(program)):
        return False  # Keras loads its own function of this name, which is another though its outputs may be equal
    x = program.data(SAMPLES)
    try:
        close(predict(program.build(), x), predict(save_and_load(program.build()), x), 1e-4, "Keras")
    except Exception:  # whatever Keras raises, and its own differences
        return False
    return True


def check_training(verb: Callable[[keras.Model, Any], keras.Model], program: Program) -> None:
    """One step is finite and of the float model's size; stripped, saved and loaded the model is the same."""
    model, x = program.build(), program.data(SAMPLES)
    loss, move = float_step(program)
    try:
        compressed = verb(model, x)
    except TfgreenError:
        return
    own_loss, own_move = one_step(compressed, x, [tg.UpdateCompression()])
    if math.isfinite(loss) and math.isfinite(move):
        assert math.isfinite(own_loss) and math.isfinite(own_move), "a step is not finite"
        assert own_loss <= 5 * loss + 1, f"the loss is {own_loss:.3g}, the float model's {loss:.3g}"
        # A mask takes stored weights to zero, a codebook moves none further than the gradient does.
        pruned = any(v.path.endswith("mask") for v in compressed.variables)
        assert pruned or own_move <= 10 * move + 1e-4, f"a step moves {own_move:.3g}, the float model's {move:.3g}"
    expected = predict(compressed, x)
    if keras_saves(program):
        close(expected, predict(save_and_load(compressed), x), 1e-4, "saved and loaded it is another")
    if not any("activation_quantizer" in v.path or "range" in v.path for v in compressed.variables):
        close(expected, predict(tg.strip(compressed), x), 2e-3, "stripped it is another")


def distance(expected: np.ndarray, got: np.ndarray, scale: float | None) -> tuple[float, float]:
    """Mean error in scales and signal over noise in dB, of the median sample."""
    expected, got = (x.astype("float64").reshape(len(x), -1) for x in (expected, got))
    span, largest = float(np.ptp(expected)), float(np.abs(expected).max())
    scale = scale or (span if span > 2e-6 * largest else largest) / 255 or 1.0  # a constant has other last bits
    error, signal = expected - got, expected - np.median(expected, axis=0)
    noise, power = float(np.median((error**2).mean(1))), float(np.median((signal**2).mean(1)))
    ratio = math.inf if noise == 0 else 10 * math.log10(power / noise) if power > 0 else -math.inf
    return float(np.median(np.abs(error).mean(1))) / scale, ratio


def check_file(program: Program, **options: Any) -> None:
    """A file is within a limit of the model, or says so, or is refused with an error of ours."""
    model, x = program.build(), program.data(SAMPLES, 1)
    if options.get("quantization") in ("int8", "int16x8"):
        options["calibration_data"] = program.data(64, 2)
    try:
        lite = tg.convert(model, **options)
    except TfgreenError:
        return
    expected, got = predict(model, x), predict(lite, x)
    mode = options.get("quantization", "float32")
    if mode in ("float32", "float16"):
        close(expected, got, 1e-3 if mode == "float32" else 3e-2, f"{mode} file")
        return
    announced = any(FAR in note for note in lite.notes)
    for (name, scale), a, b in zip(lite.output_scales.items(), expected, got, strict=True):
        if scale and mode == "int16x8":
            scale *= 256  # as in tg.verify: weights have 8 bits all the same
        scales, ratio = distance(a, b, scale)
        far = scales > FAR_SCALES and ratio < FAR_DB
        assert announced or not far, f"{mode} file: output {name} is {scales:.1f} scales off, {ratio:.1f} dB, unsaid"


def check_trained_file(program: Program) -> None:
    """A file with trained ranges computes what the model does that was trained."""
    model, x = program.build(), program.data(SAMPLES, 1)
    trained = tg.quantize(model, calibration_data=program.data(64, 2))
    one_step(trained, program.data(SAMPLES), [tg.UpdateCompression()])
    try:
        lite = tg.convert(trained, quantization="int8")
    except TfgreenError as error:
        assert any(reason in str(error) for reason in RIGHT_REFUSALS), f"refused: {error}"
        return
    announced = any(FAR in note for note in lite.notes)
    expected, got = predict(trained, x), predict(lite, x)
    for (name, scale), a, b in zip(lite.output_scales.items(), expected, got, strict=True):
        scales, ratio = distance(a, b, scale)
        what = f"trained file: output {name} is {scales:.1f} scales off, {ratio:.1f} dB"
        assert announced or scales <= AGREES_SCALES, what


CHECKS: dict[str, Check] = {
    "copy": check_copy,
    "channels": check_channels,
    "fold_batch_norm": functools.partial(check_exact, tg.fold_batch_norm),
    "equalize": functools.partial(check_exact, tg.equalize),
    "prune": functools.partial(
        check_training, lambda model, x: tg.prune(model, schedule=tg.ConstantSparsity(0.3, begin_step=0))
    ),
    "cluster": functools.partial(check_training, lambda model, x: tg.cluster(model, number_of_clusters=8)),
    "quantize": functools.partial(check_training, lambda model, x: tg.quantize(model, calibration_data=x)),
    "trained file": check_trained_file,
    "float32": check_file,
    "float16": functools.partial(check_file, quantization="float16"),
    "dynamic": functools.partial(check_file, quantization="dynamic"),
    "int8": functools.partial(check_file, quantization="int8"),
    "int16x8": functools.partial(check_file, quantization="int16x8"),
}


def failure(check: Check, program: Program) -> str:
    """What is wrong, or ""; an exception that is not ours is, unless Keras cannot run the model itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check(program)
        except AssertionError as error:
            return " ".join(str(error).split())[:300]
        except Exception as error:  # whatever a user would meet
            found = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            try:
                program.build().predict(program.data(4), verbose=0)
            except (tf.errors.InvalidArgumentError, ValueError):  # a smaller program may be no model
                return ""
            return found
    return ""
