"""A teacher or student, run so that the tensors that losses compare come out beside its outputs."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from tfgreen.distillation.divergences import probabilities_to_logits
from tfgreen.errors import invalid_type, invalid_value, layer_subject
from tfgreen.model.batch_norm import fused_inference
from tfgreen.model.call_spec import symbolic_inputs
from tfgreen.model.capture import LINEAR, SIGMOID, SOFTMAX, Capture, Head, find_layer, outputs_by_name, read_heads
from tfgreen.model.paths import walk
from tfgreen.typing import Shape


class Compared:
    """Base: a model whose outputs and logits can be asked for by key.

    Args:
        model: The model.
        role: ``"teacher"`` or ``"student"``, for errors.
        heads: What each of its outputs ends in.

    Attributes:
        shapes: Key -> shape for a batch of 1, for what was asked for.
        softmax_logits: Keys of logits that a constant may be added to.
    """

    def __init__(self, model: Any, role: str, heads: Mapping[str, Head]) -> None:
        self.model = model
        self.role = role
        self.heads = dict(heads)
        self.shapes: dict[str, Shape] = {}
        self.softmax_logits: set[str] = set()
        self._from_probabilities: dict[str, str] = {}

    @property
    def subject(self) -> str:
        return f"{self.role} '{getattr(self.model, 'name', type(self.model).__name__)}'"

    def output_named(self, name: str | None) -> str:
        """The name of the output that a loss means by ``output=name``.

        Raises:
            ValueError: There are several and none is named, or none has this name.
        """
        if len(self.heads) == 1 and name is None:
            return next(iter(self.heads))
        if name not in self.heads:
            several = len(self.heads) > 1
            expected = f"output= one of {sorted(self.heads)}" if several else "output=None, as it has only one"
            raise invalid_value(self.subject, expected=expected, received=f"output={name!r}")
        return name

    def want_output(self, name: str) -> str:
        """Ask for an output as it is; returns its key."""
        self.shapes[f"output/{name}"] = self.heads[name].shape
        return f"output/{name}"

    def want_logits(self, name: str, activation: str, from_logits: bool | None) -> str:
        """Ask for the logits of an output; returns their key.

        Raises:
            ValueError: It cannot be told whether the output is logits, or the model shows that it is something else
                than ``from_logits`` states.
        """
        head = self.heads[name]
        shown = {LINEAR: True, SOFTMAX: False, SIGMOID: False}.get(head.activation)
        if shown is None and from_logits is None:
            made_by = f"one made by {type(head.operation).__name__}" if head.operation is not None else "another"
            raise invalid_value(
                self._output_subject(name),
                expected="one that ends in a softmax, sigmoid or linear layer, which shows whether it is logits",
                received=made_by,
                fix="State from_logits=True or False in the loss.",
            )
        if shown is not None and from_logits is not None and shown != from_logits:
            raise invalid_value(
                self._output_subject(name),
                expected=f"from_logits={shown}, as it ends in a {head.activation} layer",
                received=f"from_logits={from_logits}",
            )
        if head.activation in (SOFTMAX, SIGMOID) and head.activation != activation:
            expected = f"activation='{head.activation}', which it ends in"
            raise invalid_value(self._output_subject(name), expected=expected, received=f"activation='{activation}'")
        key = f"logits/{name}"
        self.shapes[key] = head.shape
        if activation == SOFTMAX:
            self.softmax_logits.add(key)
        if shown is None and not from_logits:
            self._from_probabilities[key] = activation
        return key

    def want_layer(self, name: str) -> str:
        """Ask for what a layer returns; returns its key."""
        raise invalid_value(
            self.subject,
            expected="a Keras model, whose layers can be read",
            received=f"teacher_layer='{name}'",
            fix="Compare outputs only, or pass the Keras model.",
        )

    def from_outputs(self, outputs: Any) -> dict[str, Any]:
        """What was asked for, as far as the outputs hold it."""
        named = outputs if isinstance(outputs, dict) and set(outputs) == set(self.heads) else None
        found = named or outputs_by_name(self.model, outputs)
        result = {}
        for key in self.shapes:
            kind, _, name = key.partition("/")
            if kind != "layer":
                result[key] = found[name]
                if key in self._from_probabilities:
                    result[key] = probabilities_to_logits(found[name], self._from_probabilities[key])
        return result

    def fingerprint(self) -> str:
        """A hash of all that its outputs depend on, as far as it can be told from the model."""
        content = getattr(self.model, "content", None)
        if not isinstance(content, bytes):
            raise invalid_type(f"{self.role}, with a cache", expected="a Keras or LiteRT model", received=self.model)
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    def run(self, x: Any) -> dict[str, Any]:
        """Run the model in inference mode; no gradient flows into it."""
        raise NotImplementedError(f"{type(self).__name__} must implement run(x).")

    def _output_subject(self, name: str) -> str:
        return f"output '{name}' of {self.subject}" if name else f"output of {self.subject}"


class ComparedModel(Compared):
    """A Keras model of any kind. Its logits are what its final activation is applied to."""

    def __init__(self, model: keras.Model, role: str) -> None:
        if not isinstance(model, keras.Model):
            raise invalid_type(role, expected="a keras.Model (Keras 3)", received=model)
        heads, self._call_shapes = read_heads(model)
        super().__init__(model, role, heads)
        self._places: dict[str, tuple[keras.Operation, str]] = {}
        self._kept_probabilities: dict[str, str] = {}
        # A teacher only infers.
        norms = [layer for _, layer in walk(model) if type(layer) is keras.layers.BatchNormalization]
        self._instead = [(norm, fused_inference(norm)) for norm in norms] if role == "teacher" else []
        self.capture = Capture({}, self._instead)

    def want_logits(self, name: str, activation: str, from_logits: bool | None) -> str:
        key = super().want_logits(name, activation, from_logits)
        operation = self.heads[name].operation
        if operation is not None and self.heads[name].activation in (SOFTMAX, SIGMOID):
            self._keep(key, operation, "logits")
            if self.heads[name].rounded:  # what is kept are probabilities, before they are rounded
                self._kept_probabilities[key] = activation
        return key

    def want_layer(self, name: str) -> str:
        layer = find_layer(self.model, name, f"{self.role}_layer")
        shapes = self._call_shapes.get(id(layer), [])
        if len(shapes) != 1 or not shapes[0] or len(shapes[0]) < 2:
            raise invalid_value(
                f"{layer_subject(name, layer)} of {self.subject}",
                expected="a layer that the model calls once, and that returns one tensor (batch, ..., channels)",
                received=f"{len(shapes)} calls, with shapes {shapes}",
            )
        self.shapes[f"layer/{name}"] = shapes[0]
        self._keep(f"layer/{name}", layer, "output")
        return f"layer/{name}"

    def _keep(self, key: str, operation: keras.Operation, what: str) -> None:
        self._places[key] = (operation, what)
        self.capture = Capture(self._places, self._instead)

    def recording(self) -> contextlib.AbstractContextManager[dict[str, list[Any]]]:
        return self.capture.recording()

    def read(self, outputs: Any, kept: Mapping[str, list[Any]]) -> dict[str, Any]:
        """What was asked for, from a run's outputs and what was recorded."""
        # A layer shared with another place may have been called before; the output is made last.
        found = {**self.from_outputs(outputs), **{key: tensors[-1] for key, tensors in kept.items()}}
        for key, activation in self._kept_probabilities.items():
            found[key] = probabilities_to_logits(found[key], activation)
        return found

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        # Layers' names differ from process to process; their classes and activations do not.
        for _, layer in walk(self.model):
            activation = getattr(getattr(layer, "activation", None), "__name__", "")
            digest.update(f"{type(layer).__name__} {activation}\n".encode())
        for variable in self.model.weights:
            array = variable.numpy()
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def run(self, x: Any) -> dict[str, Any]:
        with self.recording() as kept:
            tensors = self.read(self.model(x, training=False), kept)
        return {key: ops.stop_gradient(tensor) for key, tensor in tensors.items()}


class ComparedPredictor(Compared):
    """A teacher that is no Keras model but has ``predict(x)``, such as ``tg.LiteRTModel``; it runs outside the graph.

    Args:
        model: The teacher.
        inputs: One sample of inputs, in the structure that ``predict`` takes.
    """

    def __init__(self, model: Any, inputs: Any) -> None:
        outputs = outputs_by_name(model, model.predict(inputs))
        heads = {name: Head("", None, tuple(np.shape(array))) for name, array in outputs.items()}
        super().__init__(model, "teacher", heads)

    def run(self, x: Any) -> dict[str, Any]:
        import tensorflow as tf

        names = list(self.heads)

        def predict(*arrays: np.ndarray) -> list[np.ndarray]:
            found = outputs_by_name(self.model, self.model.predict(keras.tree.pack_sequence_as(x, arrays)))
            return [np.asarray(found[name], "float32") for name in names]

        outputs = tf.numpy_function(predict, keras.tree.flatten(x), [tf.float32] * len(names))
        for name, output in zip(names, outputs):
            output.set_shape((None, *self.heads[name].shape[1:]))
        return self.from_outputs(dict(zip(names, outputs)))


def compared_teacher(teacher: Any, student: keras.Model) -> Compared:
    """Take a teacher in any of its forms.

    Raises:
        TypeError: It is neither a Keras model nor has ``predict``.
        ValueError: It is not built, or has weights that are also the student's.
    """
    if isinstance(teacher, keras.Model):
        compared = ComparedModel(teacher, "teacher")
        ids = {id(variable) for variable in student.weights}
        shared = [variable.path for variable in teacher.weights if id(variable) in ids]
        if shared:
            raise invalid_value(
                compared.subject,
                expected="weights of its own, which training the student does not change",
                received=f"{len(shared)} weights that are also the student's, such as '{shared[0]}'",
                fix="Pass a copy: keras.models.clone_model(model), then set_weights().",
            )
        return compared
    if not callable(getattr(teacher, "predict", None)):
        raise invalid_type("teacher", expected="a keras.Model, a tg.LiteRTModel or a list of these", received=teacher)
    (spec,), _ = symbolic_inputs(student)
    return ComparedPredictor(teacher, keras.tree.map_structure(lambda t: np.zeros(t.shape, t.dtype), spec))
