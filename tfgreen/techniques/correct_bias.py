"""Bias correction: what rounding the weights shifts the outputs of a layer by, on average, goes into its bias.

Reference: M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
arXiv:1906.04721, section 4.2, in the form that measures the means on data.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Mapping

import keras
import numpy as np
from keras import layers

from tfgreen.errors import invalid_state, layer_subject
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.graph import LayerGraph
from tfgreen.model.layer_calls import listening
from tfgreen.model.paths import replaceable_layers, weights_by_path
from tfgreen.model.rebuild import rebuild
from tfgreen.model.samples import sample_arrays
from tfgreen.model.weights import channel_axis, quantizable_weights
from tfgreen.techniques.fold_batch_norm import check_plain, fold_batch_norm
from tfgreen.transforms.fake_quant import fake_quantize, symmetric_scale
from tfgreen.transforms.lora import merge_adapters
from tfgreen.transforms.selection import check_finite
from tfgreen.typing import Samples, Tensor

_LINEAR = (
    layers.Dense, layers.Conv1D, layers.Conv2D, layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.Conv1DTranspose,
    layers.Conv2DTranspose, layers.SeparableConv1D, layers.SeparableConv2D,
)

_CORRECTED = "corrected_bias"  # an attribute with what a bias was corrected to; it may be trained since

Watch = Callable[[str, Tensor], Tensor]


def correct_bias(model: keras.Model, calibration_data: Samples) -> keras.Model:
    """Return a copy of ``model`` whose biases make up for the mean error of its int8 file.

    Weights rounded to int8 shift the mean of a layer's outputs, because the errors of a channel do not cancel out where
    its inputs have a mean. The mean is measured before the activation, per output channel, in the float model and with
    the weights of all layers rounded (symmetric, per output channel, as in the file), and the difference is taken off
    the bias: layer by layer in the order in which they run, the layers before already corrected. Batch normalization is
    folded first. The copy itself predicts a little worse than ``model``; it is made to be converted with
    ``tg.convert(corrected, tg.ConvertConfig(quantization="int8", calibration_data=data))``.

    Corrected are ``Dense``, ``Conv1D``, ``Conv2D``, their transposed, depthwise and separable forms. Left as they are:
    those without a bias or called more than once, whose errors the layers after them make up for, and other layers.

    Args:
        model: A built Sequential or functional model. It is not changed.
        calibration_data: Inputs of shape (samples, ...) in the structure the model takes, or an iterable of batches of
            them: a few hundred training samples. They run through the model in one batch, or in batches of the size
            that it fixes, of which each moves a bias by its part of the mean.

    Returns:
        The copy with other biases, in float; not compiled.

    Raises:
        TypeError: ``model`` is no ``keras.Model``, or the data holds no numbers.
        ValueError: The model is not built, subclassed, or pruned, clustered or quantized and not stripped; it is
            corrected already, or no layer can be; the data is empty, not finite or of another shape, or the outputs of
            a layer are not finite.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="out")])
        >>> model.get_layer("out").set_weights([np.array([[127.0], [0.25]]), np.zeros(1)])  # 0.25 is rounded to 0
        >>> data = np.array([[0.0, 3.0], [0.0, 5.0]], "float32")
        >>> tg.correct_bias(model, data).get_layer("out").bias.numpy().tolist()
        [1.0]
    """
    check_plain(model, "Bake it with tg.strip(model) first.")
    LayerGraph(model)  # which says what is wrong with a model that is none
    result = fold_batch_norm(model)
    calls = collections.Counter(node.path for node in LayerGraph(result).nodes)
    found = {path: la for path, la in replaceable_layers(result) if _has_bias(la) and calls[path] == 1}
    if not found:
        raise invalid_state(f"model '{model.name}' has no Dense or convolution with a bias that is called once.")
    for path, layer in found.items():
        if np.array_equal(getattr(layer, _CORRECTED, np.nan), layer.bias):
            fix = "Correct the model that it was made from: the errors would be taken off twice."
            raise invalid_state(f"The bias of {layer_subject(path, layer)} is corrected already.", fix)
    spec = read_call_spec(model)
    x = sample_arrays(calibration_data, spec)
    count = len(next(iter(x.values())))
    batches = [{name: array[part] for name, array in x.items()} for part in spec.slices(count, count)]
    exact: dict[str, list[np.ndarray]] = collections.defaultdict(list)  # of each batch
    done = collections.Counter[str]()

    def remember(path: str, outputs: Tensor) -> Tensor:
        exact[path].append(_means(found[path], outputs))
        return outputs

    def correct(path: str, outputs: Tensor) -> Tensor:
        layer, means = found[path], exact[path][done[path]]
        done[path] += 1
        shift = (means - _means(layer, outputs)) / done[path]  # of the biases so far: theirs is then the mean of all
        layer.bias.assign(keras.ops.convert_to_numpy(layer.bias) + shift)
        copies[path].bias.assign(layer.bias)
        setattr(layer, _CORRECTED, keras.ops.convert_to_numpy(layer.bias))
        rank = len(outputs.shape)
        return outputs + shift.reshape([-1 if axis == channel_axis(layer, rank) else 1 for axis in range(rank)])

    with _watching(found, remember):
        for batch in batches:
            call_model(result, spec, batch)
    for path, means in exact.items():
        fix = "Check the weights of the model and the scale of the data."
        check_finite(np.stack(means), f"outputs of {layer_subject(path, found[path])} on the calibration data", fix)
    rounded = rebuild(result, _rounded)
    copies = {path: layer for path, layer in replaceable_layers(rounded) if path in found}
    with _watching(copies, correct):
        for batch in batches:
            call_model(rounded, spec, batch)
    return result


def _has_bias(layer: keras.Layer) -> bool:
    return type(layer) in _LINEAR and layer.use_bias and not getattr(layer, "quantization_mode", None)


def _rounded(path: str, layer: keras.Layer) -> keras.Layer:
    """A layer with the weights that the int8 file holds, in float."""
    if type(layer) in _LINEAR:
        merge_adapters(layer)
        weights = weights_by_path(layer)
        for name, axes in quantizable_weights(layer).items():
            weight = weights[name].value
            weights[name].assign(fake_quantize(weight, symmetric_scale(weight, axes=axes)))
    return layer


def _watching(chosen: Mapping[str, keras.Layer], watch: Watch) -> contextlib.AbstractContextManager[None]:
    """Hand what the activation of each layer is applied to to ``watch(path, outputs)`` first, and go on with that."""
    paths = {layer: path for path, layer in chosen.items()}

    def around(layer: keras.Layer, activation: Callable[[Tensor], Tensor], /, outputs: Tensor) -> Tensor:
        return activation(watch(paths[layer], outputs))

    return listening({(layer, "activation"): around for layer in paths})


def _means(layer: keras.Layer, outputs: Tensor) -> np.ndarray:
    """Mean of each channel, of shape (channels,)."""
    values = keras.ops.convert_to_numpy(outputs)
    others = tuple(axis for axis in range(values.ndim) if axis != channel_axis(layer, values.ndim))
    with np.errstate(invalid="ignore"):
        return values.mean(axis=others, dtype=np.float64).astype("float32")
