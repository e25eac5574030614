"""inference_energy, compare_energy: the joules of one inference of a file or a model on this machine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from tfgreen.checks import check_instance, check_integer, check_number
from tfgreen.deploy.inspection.benchmark import ready_interpreter
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.interpreter import invoke
from tfgreen.energy.inference import EnergyComparison, InferenceEnergy, compare, measure_in_turn
from tfgreen.energy.meter import EnergyMeter
from tfgreen.errors import invalid_state, invalid_type, invalid_value
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.paths import check_built_model
from tfgreen.model.samples import sample_batches
from tfgreen.structure import Structure, pack, rename
from tfgreen.typing import Samples


def inference_energy(
    lite: LiteRTModel | keras.Model, x: Samples, *, threads: int = 1, seconds: float = 5.0, region: str | None = None,
    meter: EnergyMeter | None = None,
) -> InferenceEnergy:
    """Measure the energy of one inference (batch of 1), without the copying of inputs and outputs.

    The inference runs again and again, in seven windows of at least ten updates of the slowest counter. The result is
    their median with the lowest and the highest as interval.

    Args:
        lite: A file, or a Keras model, whose graph TensorFlow then runs.
        x: Real inputs, as :meth:`LiteRTModel.predict` takes them, of which the first sample runs.
        threads: CPU threads of the interpreter, at least 1. TensorFlow's are of the whole process: 1 for a Keras model.
        seconds: Of all windows together; they take longer where the counter is slow.
        region: ISO 3166 alpha-3 code of the country whose grid feeds the machine, or None.
        meter: A meter of your own, for other components, an idle baseline or an external power meter; it knows its
            region itself.

    Raises:
        ValueError: ``x`` holds no sample or does not fit the model, a number is out of its bounds, the region is
            unknown, or both ``region`` and ``meter`` are given.
        TypeError: An argument is of the wrong type.
        ConversionError: The interpreter refuses the file.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> lite = tg.convert(keras.Sequential([keras.Input((64,)), keras.layers.Dense(64)]))
        >>> energy = tg.inference_energy(lite, np.ones((1, 64), "float32"), seconds=0.2)
        >>> energy.interval[0] <= energy.joules_per_inference <= energy.interval[1]
        True
    """
    return _measured({"": lite}, x, threads, seconds, region, meter)[""]


def compare_energy(
    lites: Mapping[str, LiteRTModel | keras.Model], x: Samples, *, threads: int = 1, seconds: float = 5.0,
    region: str | None = None, meter: EnergyMeter | None = None,
) -> EnergyComparison:
    """Measure the energy of one inference of several models in turn, and say which need less than the first.

    Windows of the models alternate, so that whatever else the machine does falls on all of them. A difference is shown
    where every round had it in the same direction; "no difference shown" is an answer too.

    Args:
        lites: Files or Keras models by name, two or more; all take the same ``x``.
        x, threads, region, meter: As for :func:`tg.inference_energy`.
        seconds: Of all windows of a model together.

    Raises:
        ValueError, TypeError, ConversionError: As :func:`tg.inference_energy`; or there are fewer than two models.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> lite = tg.convert(keras.Sequential([keras.Input((64,)), keras.layers.Dense(64)]))
        >>> found = tg.compare_energy({"a": lite, "b": lite}, np.ones((1, 64), "float32"), seconds=0.2)
        >>> list(found), len(found["b"].windows)
        (['a', 'b'], 7)
    """
    check_instance("lites", lites, Mapping, "a dict of models by name")
    if len(lites) < 2:
        raise invalid_value("lites", expected="two models or more", received=list(lites))
    return compare(_measured(lites, x, threads, seconds, region, meter))


def _measured(
    lites: Mapping[str, LiteRTModel | keras.Model], x: Samples, threads: int, seconds: float, region: str | None,
    meter: EnergyMeter | None,
) -> dict[str, InferenceEnergy]:  # fmt: skip
    check_integer("threads", threads, minimum=1, maximum=1024)
    check_number("seconds", seconds, above=0)
    if meter is not None:
        check_instance("meter", meter, EnergyMeter, "a tg.EnergyMeter")
        if region is not None:
            fix = "Give it to the meter: EnergyMeter(region=...)."
            raise invalid_value("region", expected="None beside a meter", received=region, fix=fix)
    if x is None:
        raise invalid_state("x: there is no sample to run.", "Pass real inputs, as for predict.")
    structures = {name: _structure(item, f"lites['{name}']" if name else "lite") for name, item in lites.items()}
    first = next(iter(lites))
    sample, calls = _first_sample(lites[first], x), {}  # read once, because x may be a generator
    for name, item in lites.items():
        calls[name] = _inference(item, rename(sample, structures[first], structures[name], "x"), threads)
    if meter is None:
        # Not of the memory: what this process holds is not what an inference takes. LiteRT runs on the CPU.
        on_cpu = all(isinstance(item, LiteRTModel) for item in lites.values())
        meter = EnergyMeter(region, components=("cpu",) if on_cpu else ("cpu", "gpu"))
    return measure_in_turn(calls, meter, seconds)


def _structure(item: LiteRTModel | keras.Model, subject: str) -> Structure:
    """The names of the inputs in their structure."""
    if isinstance(item, LiteRTModel):
        return item.input_structure
    if not isinstance(item, keras.Model):
        received, fix = item, "Load it: tg.load_litert(path) or tg.load_model(path)."
        raise invalid_type(subject, expected="a LiteRTModel or a Keras model", received=received, fix=fix)
    check_built_model(item)
    return read_call_spec(item).structure


def _first_sample(item: LiteRTModel | keras.Model, x: Samples) -> dict[str, np.ndarray]:
    if isinstance(item, LiteRTModel):
        return item.first_sample(x)
    spec = read_call_spec(item)
    batch = next(sample_batches(x, spec, subject="x"))
    return {name: array[: spec.batch or 1] for name, array in batch.items()}


def _inference(item: LiteRTModel | keras.Model, sample: dict[str, np.ndarray], threads: int) -> Callable[[], object]:
    """A call of a sample by the names of the inputs."""
    if isinstance(item, LiteRTModel):
        interpreter = ready_interpreter(item, threads, sample=item.first_sample(pack(item.input_structure, sample)))
        invoke(interpreter, " on the sample")  # such as ids that an embedding does not hold
        return interpreter.invoke
    if threads != 1:
        fix = "Set TensorFlow's threads by tf.config.threading, or convert the model."
        raise invalid_value("threads", expected="1 for a Keras model", received=threads, fix=fix)
    spec = read_call_spec(item)
    # As arguments: of constants, the graph would be computed once, when it is made.
    values = {name: tf.constant(array) for name, array in sample.items()}
    graph = tf.function(lambda values: call_model(item, spec, values)).get_concrete_function(values)
    return functools.partial(graph, values)
