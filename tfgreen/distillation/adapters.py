"""Adapter: a teacher or student, run so that the requested tensors come out beside its outputs."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, Union

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfgreen.distillation.divergences import probabilities_to_logits
from tfgreen.errors import invalid_type, invalid_value, layer_subject
from tfgreen.model.batch_norm import fused_inference
from tfgreen.model.call_spec import symbolic_inputs
from tfgreen.model.capture import LINEAR, SIGMOID, SOFTMAX, Capture, Head, find_layer, outputs_by_name, read_heads
from tfgreen.model.fingerprint import fingerprint
from tfgreen.model.paths import walk
from tfgreen.typing import Arrays, Shape, Tensor, Tensors


class Predictor(Protocol):
    """A teacher that is no Keras model."""

    def predict(self, x: Arrays) -> Arrays:
        """Outputs for a batch of inputs."""


Teacher: TypeAlias = Union[keras.Model, Predictor]


class Adapter:
    """Base: a model whose outputs and logits can be requested by key.

    Attributes:
        model, role: The model, and ``"teacher"`` or ``"student"``, for errors.
        heads: What each of its outputs ends in.
        shapes: Key -> shape for a batch of 1, of what was requested.
        softmax_logits: Keys of logits that a constant may be added to.
    """

    def __init__(self, model: Teacher, role: str, heads: Mapping[str, Head]) -> None:
        self.model: Any = model
        self.role = role
        self.heads = dict(heads)
        self.shapes: dict[str, Shape] = {}
        self.softmax_logits: set[str] = set()
        self._from_probabilities: dict[str, str] = {}

    @property
    def subject(self) -> str:
        return f"{self.role} '{getattr(self.model, 'name', type(self.model).__name__)}'"

    def named(self, outputs: Tensors) -> dict[str, Tensor]:
        """The model's outputs by name."""
        return outputs_by_name(self.model, outputs)

    def output_named(self, name: str | None) -> str:
        """The name of the output that a loss means by ``output=name``.

        Raises:
            ValueError: There are several and none is named, or none has this name.
        """
        if len(self.heads) == 1 and not name:
            return next(iter(self.heads))
        if name not in self.heads:
            several = len(self.heads) > 1
            expected = f"output= one of {sorted(self.heads)}" if several else "output=None, as it has only one"
            raise invalid_value(self.subject, expected=expected, received=f"output={name!r}")
        return name

    def request_output(self, name: str) -> str:
        """Request an output as it is; returns its key."""
        self.shapes[f"output/{name}"] = self.heads[name].shape
        return f"output/{name}"

    def request_logits(self, name: str, activation: str, from_logits: bool | None) -> str:
        """Request the logits of an output; returns their key.

        Raises:
            ValueError: It cannot be told whether the output is logits, or the model shows that it is something else
                than ``from_logits`` states.
        """
        head, subject = self.heads[name], f"output '{name}' of {self.subject}" if name else f"output of {self.subject}"
        shown = {LINEAR: True, SOFTMAX: False, SIGMOID: False}.get(head.activation)
        if shown is None and from_logits is None:
            raise invalid_value(
                subject,
                expected="one that ends in a softmax, sigmoid or linear layer, which shows whether it is logits",
                received=f"one of {type(head.operation).__name__}" if head.operation is not None else "another",
                fix="State from_logits=True or False in the loss.",
            )
        if shown is not None and from_logits is not None and shown != from_logits:
            expected = f"from_logits={shown}, as it ends in a {head.activation} layer"
            raise invalid_value(subject, expected=expected, received=f"from_logits={from_logits}")
        if head.activation in (SOFTMAX, SIGMOID) and head.activation != activation:
            expected = f"activation='{head.activation}', which it ends in"
            raise invalid_value(subject, expected=expected, received=f"activation='{activation}'")
        key = f"logits/{name}"
        self.shapes[key] = head.shape
        if activation == SOFTMAX:
            self.softmax_logits.add(key)
        if shown is None and not from_logits:
            self._from_probabilities[key] = activation
        return key

    def request_layer(self, name: str) -> str:
        """Request what a layer returns; returns its key."""
        raise invalid_value(
            self.subject,
            expected="a Keras model, whose layers can be read",
            received=f"teacher_layer_name='{name}'",
            fix="Compare outputs only, or pass the Keras model.",
        )

    def from_outputs(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What was requested, as far as the outputs hold it."""
        found = {}
        for key in self.shapes:
            kind, _, name = key.partition("/")
            if kind != "layer":
                activation = self._from_probabilities.get(key)
                found[key] = probabilities_to_logits(named[name], activation) if activation else named[name]
        return found

    def fingerprint(self) -> str:
        """A hash of all that its outputs depend on, as far as it can be told from the model."""
        return fingerprint(self.model)

    def run(self, x: Tensors) -> dict[str, Tensor]:
        """Run the model in inference mode, and read what was requested; no gradient flows into it."""
        raise NotImplementedError(f"{type(self).__name__} must implement run(x).")


class KerasAdapter(Adapter):
    """A Keras model of any kind. Its logits are what its final activation is applied to."""

    def __init__(self, model: keras.Model, role: str) -> None:
        if not isinstance(model, keras.Model):
            raise invalid_type(role, expected="a keras.Model (Keras 3)", received=model)
        heads, self._call_shapes = read_heads(model)
        super().__init__(model, role, heads)
        self._places: dict[str, tuple[keras.Operation, str]] = {}
        self._rounded: dict[str, str] = {}
        # A teacher only infers.
        norms = [layer for _, layer in walk(model) if type(layer) is keras.layers.BatchNormalization]
        self._instead = [(norm, fused_inference(norm)) for norm in norms] if role == "teacher" else []
        self._capture = Capture({}, self._instead)

    def request_logits(self, name: str, activation: str, from_logits: bool | None) -> str:
        key = super().request_logits(name, activation, from_logits)
        head = self.heads[name]
        if head.operation is not None and head.activation in (SOFTMAX, SIGMOID):
            self._record(key, head.operation, "logits")
            if head.rounded:  # what is recorded are probabilities, before they are rounded
                self._rounded[key] = activation
        return key

    def request_layer(self, name: str) -> str:
        layer = find_layer(self.model, name, f"{self.role}_layer_name")
        shapes = self._call_shapes.get(id(layer), [])
        if len(shapes) != 1 or not shapes[0] or len(shapes[0]) < 2:
            raise invalid_value(
                f"{layer_subject(name, layer)} of {self.subject}",
                expected="a layer that the model calls once, and that returns one tensor (batch, ..., channels)",
                received=f"{len(shapes)} calls, with shapes {shapes}",
            )
        self.shapes[f"layer/{name}"] = shapes[0]
        self._record(f"layer/{name}", layer, "output")
        return f"layer/{name}"

    def _record(self, key: str, operation: keras.Operation, what: str) -> None:
        self._places[key] = (operation, what)
        self._capture = Capture(self._places, self._instead)

    @property
    def recorded(self) -> dict[str, list[Tensor]] | None:
        """What the recording in this thread holds so far, by key, one tensor per call; None outside of one."""
        return self._capture.current

    def recording(self) -> contextlib.AbstractContextManager[dict[str, list[Tensor]]]:
        """Record the requested tensors of runs in the block."""
        return self._capture.recording()

    def read(self, outputs: Tensors, recorded: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
        """What was requested, from a run's outputs and what was recorded."""
        # A layer shared with another place may have been called before; the output is the last call's.
        found = {**self.from_outputs(self.named(outputs)), **{key: calls[-1] for key, calls in recorded.items()}}
        for key, activation in self._rounded.items():
            found[key] = probabilities_to_logits(found[key], activation)
        return found

    def run(self, x: Tensors) -> dict[str, Tensor]:
        with self.recording() as recorded:
            tensors = self.read(self.model(x, training=False), recorded)
        return {key: ops.stop_gradient(tensor) for key, tensor in tensors.items()}


class PredictorAdapter(Adapter):
    """A teacher that is no Keras model but has ``predict(x)``, such as ``tg.LiteRTModel``; it runs outside the graph.
    ``inputs`` is a batch of one sample, on which it is tried."""

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
            found = self.named(self.model.predict(keras.tree.pack_sequence_as(x, arrays)))
            return [np.asarray(found[name], "float32") for name in self.heads]

        outputs = tf.numpy_function(predict, keras.tree.flatten(x), [tf.float32] * len(self.heads))
        for output, head in zip(outputs, self.heads.values()):
            output.set_shape((None, *head.shape[1:]))
        return self.from_outputs(dict(zip(self.heads, outputs)))


def adapt_teacher(teacher: Teacher, student: keras.Model) -> Adapter:
    """Take a teacher in any of its forms.

    Raises:
        TypeError: It is neither a Keras model nor has ``predict``.
        ValueError: It is not built, or has weights that are also the student's.
    """
    if isinstance(teacher, keras.Model):
        adapter = KerasAdapter(teacher, "teacher")
        ids = {id(variable) for variable in student.weights}
        shared = [variable.path for variable in teacher.weights if id(variable) in ids]
        if shared:
            raise invalid_value(
                adapter.subject,
                expected="weights of its own, which training the student does not change",
                received=f"{len(shared)} weights that are also the student's, such as '{shared[0]}'",
                fix="Pass a copy: keras.models.clone_model(model), then set_weights().",
            )
        return adapter
    if not callable(getattr(teacher, "predict", None)):
        raise invalid_type("teacher", expected="a keras.Model, a tg.LiteRTModel or a list of these", received=teacher)
    (spec,), _ = symbolic_inputs(student)
    return PredictorAdapter(teacher, keras.tree.map_structure(lambda t: np.zeros(t.shape, t.dtype), spec))
