"""Adapter: a teacher or student, run so that the requested tensors come out beside its outputs."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, Union

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfgreen.distillation.attention_layers import probabilities, projections
from tfgreen.distillation.divergences import probabilities_to_logits
from tfgreen.errors import invalid_type, invalid_value, layer_subject
from tfgreen.model.batch_norm import fused_inference
from tfgreen.model.call_spec import symbolic_inputs
from tfgreen.model.capture import (
    LINEAR,
    SIGMOID,
    SOFTMAX,
    Capture,
    Head,
    What,
    find_layer,
    outputs_by_name,
    read_heads,
)
from tfgreen.model.fingerprint import fingerprint
from tfgreen.model.paths import check_built_model, join_path, walk
from tfgreen.transforms.selection import check_finite
from tfgreen.typing import Arrays, Shape, Tensor, Tensors


class Predictor(Protocol):
    """A teacher that is no Keras model; ``predict`` gives its outputs for a batch of inputs."""

    def predict(self, x: Arrays) -> Arrays: ...


Teacher: TypeAlias = Union[keras.Model, Predictor]
Keyed: TypeAlias = Mapping[str, Tensor]  # what was requested of a model, by the keys of the requests


@dataclasses.dataclass(frozen=True)
class Request:
    """A tensor that a model is asked for, and where it is read."""

    shape: Shape  # for a batch of 1
    output: str  # the name of the output that it is or belongs to; "" for a layer
    place: tuple[keras.Operation, What] | None = None  # what `Capture` records of which operation; None for the output
    undone: str = ""  # the activation that is undone on what is read, as it holds probabilities
    softmax: bool = False  # logits to which a constant may be added
    call: int = -1  # of the calls, the last for the output: a layer may have been called elsewhere before


class Adapter:
    """Base: a model whose tensors are requested, which gives each a key, and then read by key.

    ``role`` is ``"teacher"`` or ``"student"``, for errors; ``heads`` is what each output ends in.
    """

    def __init__(self, model: Teacher, role: str, heads: Mapping[str, Head]) -> None:
        self.model: Any = model
        self.role = role
        self.heads = dict(heads)
        self.requests: dict[str, Request] = {}

    @property
    def subject(self) -> str:
        return f"{self.role} '{getattr(self.model, 'name', type(self.model).__name__)}'"

    def output_named(self, name: str | None) -> str:
        """The name of the output that a loss means by ``output=name``; None for the only one."""
        if len(self.heads) == 1 and not name:
            return next(iter(self.heads))
        if name not in self.heads:
            several = len(self.heads) > 1
            expected = f"output= one of {sorted(self.heads)}" if several else "output=None, as it has only one"
            raise invalid_value(self.subject, expected=expected, received=f"output={name!r}")
        return name

    def request_output(self, name: str) -> str:
        """Request an output as it is."""
        return self._request(f"output/{name}", Request(self.heads[name].shape, name))

    def request_logits(self, name: str, activation: str, from_logits: bool | None) -> str:
        """Request the logits of an output for an ``activation``, softmax or sigmoid, which is part of the key.

        ``from_logits`` is what the loss states of the output: needed where the model does not show it, refused where
        the model shows something else.
        """
        head, subject = self.heads[name], f"output '{name}' of {self.subject}" if name else f"output of {self.subject}"
        shown = {LINEAR: True, SOFTMAX: False, SIGMOID: False}.get(head.activation)
        if shown is None and from_logits is None:
            expected = "one that ends in a softmax, sigmoid or linear layer, which shows whether it is logits"
            received = f"one of {type(head.operation).__name__}" if head.operation is not None else "another"
            fix = "State from_logits=True or False in the loss."
            raise invalid_value(subject, expected=expected, received=received, fix=fix)
        if shown is not None and from_logits is not None and shown != from_logits:
            expected = f"from_logits={shown}, as it ends in a {head.activation} layer"
            raise invalid_value(subject, expected=expected, received=f"from_logits={from_logits}")
        if shown is False and head.activation != activation:
            expected = f"activation='{head.activation}', which it ends in"
            raise invalid_value(subject, expected=expected, received=f"activation='{activation}'")
        place = (head.operation, "logits") if shown is False and head.operation is not None else None
        # What only rounds the output is applied to probabilities, not to logits.
        probabilities = head.rounded if place else shown is None and not from_logits
        undone = activation if probabilities else ""
        return self._request(f"{activation}/{name}", Request(head.shape, name, place, undone, activation == SOFTMAX))

    def request_layer(self, name: str) -> str:
        """Request what a layer returns, which only a Keras model can give."""
        expected, received = "a Keras model, whose layers can be read", f"teacher_layer_name='{name}'"
        fix = "Compare outputs only, or pass the Keras model."
        raise invalid_value(self.subject, expected=expected, received=received, fix=fix)

    def request_attention(self, name: str, part: str) -> str:
        """Request of an attention layer, or of the only one in a layer, its ``"query"``, ``"key"`` or ``"value"``, its
        ``"output"``, or the ``"probabilities"``, ``(batch, heads, queries, keys)``."""
        return self.request_layer(name)

    def heads_of(self, name: str) -> int | None:
        """How many heads the attention layer of a name has, as far as it says."""
        return None

    def _request(self, key: str, request: Request) -> str:
        self.requests[key] = request
        return key

    def read(self, outputs: Tensors, recorded: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
        """What was requested, by key, from a run's outputs and what was recorded in it."""
        named, found = outputs_by_name(self.model, outputs), {}
        for key, request in self.requests.items():
            tensor = recorded[key][request.call] if request.place else named[request.output]
            tensor = keras.tree.flatten(tensor)[0]  # of several that a layer returns
            if request.place and request.place[1] is probabilities and len(tensor.shape) > 4:  # heads in groups
                sizes = ops.shape(tensor)
                tensor = ops.reshape(tensor, (sizes[0], -1, *sizes[-2:]))
            found[key] = probabilities_to_logits(tensor, request.undone) if request.undone else tensor
        return found

    def fingerprint(self) -> str:
        """A hash of all that its outputs depend on, as far as the model shows it."""
        return fingerprint(self.model)

    def run(self, x: Tensors) -> dict[str, Tensor]:
        """Run the model in inference mode, and read what was requested; no gradient flows into it."""
        raise NotImplementedError(f"{type(self).__name__} must implement run(x).")


class KerasAdapter(Adapter):
    """A Keras model of any kind. Its logits are what its final activation is applied to."""

    def __init__(self, model: keras.Model, role: str) -> None:
        check_built_model(model, role)
        heads, self._call_shapes = read_heads(model)
        super().__init__(model, role, heads)
        norms = [layer for _, layer in walk(model) if type(layer) is keras.layers.BatchNormalization]
        self._instead = [(norm, fused_inference(norm)) for norm in norms] if role == "teacher" else []  # it only infers
        self._capture = Capture({}, self._instead)

    def request_layer(self, name: str) -> str:
        path, call = self._called(name)
        layer = find_layer(self.model, path, f"{self.role}_layer_name")
        return self._request_call(name, layer, call, f"layer/{name}")

    def request_attention(self, name: str, part: str) -> str:
        path, call = self._called(name)
        layer = find_layer(self.model, path, f"{self.role}_layer_name")
        within = [("", layer), *walk(layer)]
        found = {join_path(path, below) if below else path: sub for below, sub in within if projections(sub)}
        if len(found) != 1:
            subject, expected = f"{layer_subject(path, layer)} of {self.subject}", "an attention layer, or one in it"
            received = f"several: {[*found]}" if found else "none with a query, key and value layer"
            raise invalid_value(subject, expected=expected, received=received)
        (where, attention), key = next(iter(found.items())), f"{part}/{name}"
        if part in ("output", "probabilities"):
            self._request_call(where, attention, call, key)
            if part == "probabilities":
                probabilities(attention, lambda tensor: None)  # or say that there are none
                heads = getattr(attention, "num_heads", None) or getattr(attention, "num_query_heads", None)
                _, length, *_ = self.requests[key].shape
                place = attention, probabilities
                self._request(key, Request((1, heads, length, length), "", place, call=self.requests[key].call))
            return key
        sub = projections(attention)[part][1]
        return self._request_call(f"{where}/{projections(attention)[part][0]}", sub, call, key)

    def heads_of(self, name: str) -> int | None:
        layer = find_layer(self.model, self._called(name)[0], f"{self.role}_layer_name")
        heads = [getattr(sub, "num_heads", None) for _, sub in [("", layer), *walk(layer)] if projections(sub)]
        return next((number for number in heads if number), None)

    def _called(self, name: str) -> tuple[str, int | None]:
        """The path in the name of a layer, and the number of the call if it names one (``"path@1"``)."""
        path, _, number = name.rpartition("@")
        return (path, int(number)) if path and number.isdigit() else (name, None)

    def _request_call(self, name: str, layer: keras.Layer, call: int | None, key: str) -> str:
        shapes = self._call_shapes.get(id(layer), [])
        number = call or 0
        once = number < len(shapes) if call is not None else len(shapes) == 1
        if not once or not shapes[number] or len(shapes[number] or ()) < 2:
            subject = f"{layer_subject(name, layer)} of {self.subject}"
            expected = "a layer that the model calls once, and that returns one tensor (batch, ..., channels)"
            fix = f"Say which call is meant: '{name}@0'." if len(shapes) > 1 and call is None else ""
            received = f"{len(shapes)} calls, with shapes {shapes}"
            raise invalid_value(subject, expected=expected, received=received, fix=fix)
        return self._request(key, Request(shapes[number] or (), "", (layer, "output"), call=number))

    def _request(self, key: str, request: Request) -> str:
        super()._request(key, request)
        self._capture = Capture({key: r.place for key, r in self.requests.items() if r.place}, self._instead)
        return key

    @property
    def recorded(self) -> dict[str, list[Tensor]] | None:
        """What the recording in this thread holds so far, by key, one tensor per call; None outside of one."""
        return self._capture.current

    def recording(self) -> contextlib.AbstractContextManager[dict[str, list[Tensor]]]:
        """Record the requested tensors of runs in the block."""
        return self._capture.recording()

    def run(self, x: Tensors) -> dict[str, Tensor]:
        with self.recording() as recorded:
            tensors = self.read(self.model(x, training=False), recorded)
        return {key: ops.stop_gradient(tensor) for key, tensor in tensors.items()}


class PredictorAdapter(Adapter):
    """A teacher with ``predict(x)``, such as ``tg.LiteRTModel``, which runs outside the graph.

    ``inputs`` is a batch of one sample, on which it is tried.
    """

    def __init__(self, model: Predictor, inputs: Arrays) -> None:
        outputs = outputs_by_name(model, model.predict(inputs))
        super().__init__(model, "teacher", {name: Head("", None, np.shape(array)) for name, array in outputs.items()})

    def fingerprint(self) -> str:
        content = getattr(self.model, "content", None)
        if not isinstance(content, bytes):
            raise invalid_type("teacher, with a cache", expected="a Keras or LiteRT model", received=self.model)
        return hashlib.sha256(content).hexdigest()

    def run(self, x: Tensors) -> dict[str, Tensor]:
        def predict(*arrays: np.ndarray) -> list[np.ndarray]:
            found = outputs_by_name(self.model, self.model.predict(keras.tree.pack_sequence_as(x, arrays)))
            return [np.asarray(found[name], "float32") for name in self.heads]

        outputs = tf.numpy_function(predict, keras.tree.flatten(x), [tf.float32] * len(self.heads))
        for output, head in zip(outputs, self.heads.values()):
            output.set_shape((None, *head.shape[1:]))
        return self.read(dict(zip(self.heads, outputs)), {})


def adapt_teacher(teacher: Teacher, student: keras.Model) -> Adapter:
    """The adapter of a teacher in any of its forms; its weights must be finite, and not the student's."""
    if not isinstance(teacher, keras.Model):
        if not callable(getattr(teacher, "predict", None)):
            expected = "a keras.Model, a tg.LiteRTModel or a list of these"
            raise invalid_type("teacher", expected=expected, received=teacher)
        (spec,), _ = symbolic_inputs(student)
        return PredictorAdapter(teacher, keras.tree.map_structure(lambda t: np.zeros(t.shape, t.dtype), spec))
    adapter = KerasAdapter(teacher, "teacher")
    ids = {id(variable) for variable in student.weights}
    shared = [variable.path for variable in teacher.weights if id(variable) in ids]
    if shared:
        expected = "weights of its own, which training the student does not change"
        received = f"{len(shared)} weights that are also the student's, such as '{shared[0]}'"
        fix = "Pass a copy: keras.models.clone_model(model), then set_weights()."
        raise invalid_value(adapter.subject, expected=expected, received=received, fix=fix)
    for variable in teacher.weights:
        if keras.backend.is_float_dtype(variable.dtype):
            subject = f"{adapter.subject}, weight '{variable.path}'"
            check_finite(keras.ops.convert_to_numpy(variable), subject, "It teaches NaN; load a healthy checkpoint.")
    return adapter
