"""Random Keras models, as small programs: layers of every class with odd settings, branches, joins, shared and nested
parts, raw operations, several inputs and outputs.

A model is a list of statements, so that one which comes out wrong can be printed as a program and be shrunk: a
statement may be left out where one of its inputs can stand for its output.

    program = random_program(7)
    model, x = program.build(), program.data(32)
    print(program)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

MAX_VALUES = 4000  # of one sample of a tensor, so that a step takes milliseconds
MAX_CHANNELS = 24


class Doubled(layers.Layer):
    """A layer as tutorials write them: no ``**kwargs``, no ``get_config``, a weight and a layer of its own."""

    def __init__(self, units):
        super().__init__()
        self.dense = layers.Dense(units, activation="tanh")
        self.gain = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return self.dense(x) * self.gain


class FeedForward(layers.Layer):
    """A block as examples write it: its layers in a model that its code makes, without names."""

    def __init__(self, units):
        super().__init__()
        self.ffn = keras.Sequential([layers.Dense(units, activation="relu"), layers.Dense(units)])

    def call(self, x):
        return self.ffn(x)


class Coded(layers.Layer):
    """A layer whose code does something of its own with what a dense layer returns: one of ``CODE``."""

    def __init__(self, units, code, **kwargs):
        super().__init__(**kwargs)
        self.units, self.code = units, code
        self.dense = layers.Dense(units)

    def build(self, shape):
        self.gain = self.add_weight(shape=(self.units,), initializer="ones", name="gain")
        self.dense.build(shape)

    def call(self, x, training=False):
        return CODE[self.code](self, self.dense(x), training)


CODE = {
    "width": lambda layer, x, training: x / x.shape[-1],
    "shape": lambda layer, x, training: x / ops.sqrt(ops.cast(ops.shape(x)[-1], "float32")),
    "branch": lambda layer, x, training: x * 2 if x.shape[-1] > 5 else x * 3,
    "argument": lambda layer, x, training: x / layer.units,
    "own weight": lambda layer, x, training: x * layer.gain,
    "training": lambda layer, x, training: x + ops.ones((layer.units,)) if training else x,
    "tensorflow": lambda layer, x, training: tf.nn.relu(x),
    "kernel": lambda layer, x, training: ops.matmul(x, ops.transpose(layer.dense.kernel)),
}


def softsign_of_mine(x):
    """An activation that Keras does not know."""
    return x / (1.0 + ops.abs(x))


def relu(x):
    """One that bears the name of Keras's and is another."""
    return ops.minimum(ops.maximum(x, 0.0), 1.0)


def adapted(shape: tuple[int, ...], seed: int) -> layers.Normalization:
    """A Normalization that has seen data."""
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(seed).normal(0.5, 2.0, (32, *shape)).astype("float32"))
    return layer


def by_width(x):
    """An activation that counts channels."""
    return x / x.shape[-1]


NAMES: dict[str, Any] = {
    "Coded": Coded, "by_width": by_width, "tf": tf,
    "keras": keras, "layers": layers, "ops": ops, "np": np,
    "Doubled": Doubled, "FeedForward": FeedForward,
    "softsign_of_mine": softsign_of_mine, "relu": relu, "adapted": adapted,
}


@dataclasses.dataclass(frozen=True)
class Input:
    """An input: its name, its shape without the batch, and its dtype. Integers are below 12."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.name} = keras.Input({self.shape}, dtype={self.dtype!r}, name={self.name!r})"


@dataclasses.dataclass(frozen=True)
class Statement:
    """``target = code``, where ``code`` reads the variables ``inputs``."""

    target: str
    code: str
    inputs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.target} = {self.code.format(*self.inputs)}" if self.inputs else f"{self.target} = {self.code}"


@dataclasses.dataclass(frozen=True)
class Program:
    """A model as the statements that make it.

    Attributes:
        seed: Of its weights and its data.
        inputs: Its inputs.
        statements: In their order. Those whose target begins with ``layer`` make a layer, all others a tensor.
        outputs: The variables that it returns.
    """

    seed: int
    inputs: tuple[Input, ...]
    statements: tuple[Statement, ...]
    outputs: tuple[str, ...]

    def __str__(self) -> str:
        inputs, outputs = (", ".join(names) for names in ([one.name for one in self.inputs], self.outputs))
        return "\n".join([*map(str, self.inputs), *map(str, self.statements), f"keras.Model([{inputs}], [{outputs}])"])

    def build(self) -> keras.Model:
        """The model, with weights that are not the zeros and ones of new layers, which hide mistakes."""
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(self.seed)
        scope = dict(NAMES)
        for one in self.inputs:
            scope[one.name] = keras.Input(one.shape, dtype=one.dtype, name=one.name)
        for statement in self.statements:
            scope[statement.target] = eval(statement.code.format(*statement.inputs), scope)  # noqa: S307
        model = keras.Model(_alone([scope[one.name] for one in self.inputs]), _alone([scope[n] for n in self.outputs]))
        vary(model, self.seed)
        return model

    def data(self, count: int, seed: int = 0) -> Any:
        """Samples for the inputs, in their structure: normal numbers, or integers from 0 to 11."""
        rng = np.random.default_rng([self.seed, seed])
        return _alone(
            [
                rng.integers(0, 12, (count, *one.shape)).astype(one.dtype)
                if one.dtype.startswith("int")
                else rng.normal(size=(count, *one.shape)).astype(one.dtype)
                for one in self.inputs
            ]
        )

    def without(self, statement: Statement) -> Iterator[Program]:
        """The programs in which an input of a statement stands for its target, and those with fewer outputs."""
        rest = [other for other in self.statements if other is not statement]
        for stand_in in dict.fromkeys(name for name in statement.inputs if not name.startswith("layer")):
            def renamed(name: str, stand_in: str = stand_in) -> str:
                return stand_in if name == statement.target else name

            statements = [dataclasses.replace(s, inputs=tuple(map(renamed, s.inputs))) for s in rest]
            yield self._used(statements, tuple(dict.fromkeys(map(renamed, self.outputs))))

    def smaller(self) -> Iterator[Program]:
        """Programs with one output or one statement less; they may be no models."""
        for output in self.outputs if len(self.outputs) > 1 else ():
            yield self._used(list(self.statements), tuple(name for name in self.outputs if name != output))
        for statement in reversed(self.statements):
            yield from self.without(statement)

    def _used(self, statements: list[Statement], outputs: tuple[str, ...]) -> Program:
        """Only what leads to the outputs."""
        needed, found = set(outputs), []
        for statement in reversed(statements):
            if statement.target in needed:
                needed.update(statement.inputs)
                found.append(statement)
        inputs = tuple(one for one in self.inputs if one.name in needed)
        return Program(self.seed, inputs, tuple(reversed(found)), outputs)


def shrunk(program: Program, fails: Callable[[Program], bool]) -> Program:
    """The smallest program that still fails, found by leaving out one statement after the other."""
    for smaller in program.smaller():
        if smaller.inputs and smaller.statements and fails(smaller):
            return shrunk(smaller, fails)
    return program


def vary(model: keras.Model, seed: int) -> None:
    """Move weights off the values of new layers."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        shape, name = tuple(variable.shape), variable.name
        if name in ("bias", "beta", "moving_mean"):
            variable.assign(rng.normal(0, 0.3, shape))
        elif name in ("gamma", "moving_variance", "gain", "alpha"):
            variable.assign(rng.uniform(0.5, 1.5, shape))


def random_program(seed: int, statements: int | None = None) -> Program:
    """A random model; equal seeds give equal models.

    Args:
        seed: Any number.
        statements: About how many; drawn if None.
    """
    return _Writer(np.random.default_rng(seed), seed, statements).write()


def with_code(program: Program) -> Program:
    """The program with one more output: of a layer whose channels are hard to follow."""
    return _Writer(np.random.default_rng([program.seed, 1]), program.seed, 0).go_on(program)


def _alone(items: list[Any]) -> Any:
    return items[0] if len(items) == 1 else items


class _Writer:
    """Writes a program statement by statement; runs each at once, to know the shape of what it makes."""

    def __init__(self, rng: np.random.Generator, seed: int, count: int | None) -> None:
        self.rng, self.seed = rng, seed
        self.count = int(rng.integers(3, 14)) if count is None else count
        self.scope = dict(NAMES)
        self.inputs: list[Input] = []
        self.statements: list[Statement] = []
        self.tensors: list[str] = []  # float tensors that may be read
        self.unread: list[str] = []

    def write(self) -> Program:
        keras.backend.clear_session(free_memory=False)
        for _ in range(1 if self.chance(0.75) else 2):
            self.input()
        while len(self.statements) < self.count:
            self.step()
        outputs = tuple(self.head(name) for name in self.ends())
        return Program(self.seed, tuple(self.inputs), tuple(self.statements), outputs)

    def go_on(self, program: Program) -> Program:
        for one in program.inputs:
            self.scope[one.name] = keras.Input(one.shape, dtype=one.dtype, name=one.name)
        for statement in program.statements:
            self.scope[statement.target] = eval(statement.code.format(*statement.inputs), self.scope)  # noqa: S307
        self.statements = list(program.statements)
        name = self.pick(*program.outputs)
        last = self.add(self.coded(self.shape(name)), name) or name
        if self.chance(0.7):
            last = self.add("layers.Dense(2)(layers.Flatten()({}))", last) or last
        outputs = tuple(dict.fromkeys([*program.outputs, last]))
        return Program(program.seed, program.inputs, tuple(self.statements), outputs)

    def coded(self, shape: tuple[int, ...]) -> str:
        """Code that is hard to follow, on a tensor of this shape."""
        units, heads = self.number(4, 12), self.number(2, 4)
        first = "data_format='channels_first'"
        attention = f"layers.MultiHeadAttention({heads}, 3)({{0}}, {{0}}, return_attention_scores=True)"
        grouped = "layers.GroupQueryAttention(3, 4, 2)({0}, {0}, return_attention_scores=True)"
        options = [f"Coded({units}, {self.pick(*CODE)!r})({{}})"] * 2
        options.append(f"layers.Dense({units}, {self.pick('by_width', 'tf.nn.relu', 'softsign_of_mine')})({{}})")
        if len(shape) == 2:
            pick = self.pick("[1]", "[0]")
            both = f"layers.Concatenate()([layers.Flatten()(x) for x in {attention}])"
            options += [attention + pick, grouped + pick, both]
        if len(shape) == 3:  # more channels than any map is wide, which Keras takes for one another
            options += [f"layers.{c}(layers.Conv2D(60, 1, {first})({{}}))" for c in (
                f"Conv2D(60, 2, padding='same', {first})", f"DepthwiseConv2D(2, padding='same', {first})",
                f"Conv2DTranspose(60, 2, {first})", f"Conv2D(60, 1, groups=2, {first})",
            )]  # fmt: skip
        return str(self.pick(*options))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def input(self) -> None:
        name = f"in{len(self.inputs)}"
        side, length = self.number(5, 12), self.number(4, 10)
        images = ((side, side, self.number(1, 4)), (side, side + self.number(0, 3), 3))
        shape = self.pick(*images, *images, (length, self.number(2, 6)), (self.number(3, 12),), (length,))
        ids = len(shape) == 1 and shape == (length,) and self.chance(0.6)
        self.inputs.append(Input(name, shape, "int32" if ids else "float32"))
        self.scope[name] = keras.Input(shape, dtype=self.inputs[-1].dtype, name=name)
        if ids:
            self.add("layers.Embedding(12, %d)({})" % self.number(2, 8), name)
        else:
            self.tensors.append(name)
            self.unread.append(name)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.scope[name].shape[1:])

    def add(self, code: str, *inputs: str) -> str | None:
        """Append a statement if Keras takes it and its result is of a fair size."""
        target = f"x{len(self.statements)}"
        try:
            value = eval(code.format(*inputs), self.scope)  # noqa: S307
        except (ValueError, TypeError, IndexError):
            return None
        shape = tuple(value.shape[1:])
        if not shape or None in shape or 0 in shape or np.prod(shape) > MAX_VALUES:
            return None
        self.scope[target] = value
        self.statements.append(Statement(target, code, inputs))
        self.tensors.append(target)
        self.unread = [name for name in self.unread if name not in inputs] + [target]
        return target

    def layer(self, code: str) -> str:
        name = f"layer{len(self.statements)}"
        self.scope[name] = eval(code, self.scope)  # noqa: S307
        self.statements.append(Statement(name, code, ()))
        return name

    def step(self) -> None:
        name = self.pick(*(self.unread or self.tensors)) if self.chance(0.75) else self.pick(*self.tensors)
        draw = self.rng.random()
        if draw < 0.22:
            self.join(name)
        elif draw < 0.32:
            self.operation(name)
        elif draw < 0.38:
            self.shared(name)
        elif draw < 0.45:
            self.nested(name)
        else:
            self.add(self.one_layer(self.shape(name)) + "({})", name)

    def join(self, name: str) -> None:
        shape = self.shape(name)
        partners = [other for other in self.tensors if self.shape(other) == shape]
        others = [self.pick(*partners) for _ in range(self.number(1, 2))]
        places = ", ".join("{}" for _ in range(1 + len(others)))
        if self.chance(0.4):
            axis = self.number(1, len(shape))
            fits = [
                other
                for other in self.tensors
                if len(self.shape(other)) == len(shape)
                and all(a == b for i, (a, b) in enumerate(zip(self.shape(other), shape), 1) if i != axis)
            ]
            self.add(f"layers.Concatenate(axis={self.pick(axis, axis, -1)})([{{}}, {{}}])", name, self.pick(*fits))
        else:
            kind = self.pick("Add", "Add", "Multiply", "Average", "Maximum", "Minimum")
            self.add(f"layers.{kind}()([{places}])", name, *others)

    def operation(self, name: str) -> None:
        shape = self.shape(name)
        order = [0, *(self.rng.permutation(len(shape)) + 1).tolist()]
        cut = ", ".join([":", *(f"{self.number(0, 1)}:" for _ in shape)])
        same = [other for other in self.tensors if self.shape(other) == shape]
        code = self.pick(
            "{} * %.2f" % self.rng.uniform(-2, 2), "{} + %.2f" % self.rng.normal(), "ops.relu({})", "ops.sigmoid({})",
            "ops.tanh({})", "ops.abs({})", "ops.square({}) * 0.3", f"ops.transpose({{}}, {order})", f"{{}}[{cut}]",
            f"ops.reshape({{}}, (-1, {int(np.prod(shape))}))", "ops.mean({}, axis=-1, keepdims=True)",
            "ops.max({}, axis=1)", "ops.clip({}, -1.0, 1.0)", "-{}", "ops.softmax({})", "ops.expand_dims({}, -1)",
            "ops.flip({}, axis=1)", "ops.concatenate([{0}, ops.zeros_like({0})], axis=-1)",
            "{0} / (ops.mean(ops.abs({0}), axis=-1, keepdims=True) + 1e-3)", "ops.log(ops.relu({}) + 0.01)",
            "{0} * ops.rsqrt(ops.mean(ops.square({0}), axis=-1, keepdims=True) + 1e-3)", "ops.normalize({})",
        )
        if len(shape) == 2 and self.chance(0.3):
            how = f"use_causal_mask={self.chance(0.3)}"
            self.add(f"layers.MultiHeadAttention({self.number(1, 2)}, {self.number(2, 4)})({{0}}, {{0}}, {how})", name)
        elif self.chance(0.35):
            self.add(self.pick("{} + {}", "{} - {}", "{} * {}", "ops.maximum({}, {})"), name, self.pick(*same))
        else:
            self.add(code, name)

    def shared(self, name: str) -> None:
        """One layer, called on two tensors."""
        shape = self.shape(name)
        others = [other for other in self.tensors if self.shape(other) == shape]
        layer = self.layer(self.one_layer(shape))
        for tensor in (name, self.pick(*others)):
            self.add("{}({})", layer, tensor)

    def nested(self, name: str) -> None:
        """A model in the model, Sequential or functional."""
        shape = self.shape(name)
        first = self.one_layer(shape)
        parts = [first, self.pick("layers.ReLU()", "layers.Dropout(0.3)", "layers.BatchNormalization()")]
        try:
            model = self.layer(f"keras.Sequential([keras.Input({shape}), {', '.join(parts)}])")
        except ValueError:  # a window that is larger than the map
            return
        self.add("{}({})", model, name)

    def one_layer(self, shape: tuple[int, ...]) -> str:
        """The expression of a layer for a tensor of this shape."""
        activation = self.activation()
        units = self.number(1, MAX_CHANNELS)
        bias, last = self.chance(0.8), shape[-1]
        common = f"activation={activation}, use_bias={bias}{self.regularizers()}"
        anywhere = [
            f"layers.Dense({units}, {common})", f"layers.Dense({units}, {common})", "layers.BatchNormalization()",
            f"layers.BatchNormalization(scale={self.chance(0.5)}, center={self.chance(0.5)})",
            f"layers.Activation({activation})", f"layers.ReLU({self.pick('', '6.0', '2.0', 'negative_slope=0.1')})",
            "layers.LeakyReLU(negative_slope=0.2)", "layers.PReLU()", "layers.ELU()", "layers.Softmax()",
            "layers.LayerNormalization()", "layers.Dropout(0.2)", "layers.GaussianNoise(0.1)", "layers.Flatten()",
            "layers.Identity()", "layers.UnitNormalization()", "layers.ActivityRegularization(l2=1e-4)",
            f"layers.Rescaling({self.rng.uniform(-1, 1):.2f}, {self.rng.normal():.2f})",
            f"adapted({shape}, {self.number(0, 9)})", f"layers.Lambda(lambda v: v * {self.rng.uniform(0.5, 2):.2f})",
            f"Doubled({units})", f"FeedForward({units})",
        ]
        if len(shape) == 1:
            own = [f"layers.RepeatVector({self.number(2, 4)})", f"layers.Reshape((-1, {self.divisor(last)}))"]
        elif len(shape) == 2:
            own = self.sequence_layers(shape, units, common)
        elif len(shape) == 3:
            own = self.image_layers(shape, units, common)
        else:
            own = ["layers.Flatten()"]
        code = str(self.pick(*own)) if self.chance(0.6) else str(self.pick(*anywhere))
        two_kernels = code.startswith(("layers.Depthwise", "layers.Separable"))  # or one of that name
        return code.replace("kernel_regularizer", "depthwise_regularizer") if two_kernels else code

    def sequence_layers(self, shape: tuple[int, ...], units: int, common: str) -> list[str]:
        size, padding = self.number(1, 3), self.pick("same", "valid", "causal")
        few, sequences = self.number(2, 5), self.chance(0.5)
        plain = self.pick("same", "valid")
        return [
            f"layers.Conv1D({units}, {size}, strides={self.pick(1, 1, 2)}, padding={padding!r}, {common})",
            f"layers.Conv1D({units}, {size}, dilation_rate=2, padding={padding!r}, {common})",
            f"layers.DepthwiseConv1D({size}, padding={plain!r}, depth_multiplier={self.number(1, 2)}, {common})",
            f"layers.SeparableConv1D({units}, {size}, padding={plain!r}, {common})",
            f"layers.Conv1DTranspose({units}, {size}, strides=2, padding={plain!r}, {common})",
            f"layers.LSTM({few}, return_sequences={sequences})", f"layers.GRU({few}, return_sequences={sequences})",
            f"layers.SimpleRNN({few}, return_sequences={sequences}, go_backwards={self.chance(0.3)})",
            f"layers.Bidirectional(layers.GRU({few}, return_sequences={sequences}))",
            f"layers.TimeDistributed(layers.Dense({units}, {common}))",
            f"layers.EinsumDense('abc,cd->abd', (None, {units}), bias_axes='d')",
            "layers.MaxPooling1D(2)", "layers.AveragePooling1D(2, padding='same')", "layers.GlobalAveragePooling1D()",
            "layers.GlobalMaxPooling1D()", "layers.Permute((2, 1))", "layers.UpSampling1D(2)",
            "layers.ZeroPadding1D(1)", "layers.Cropping1D(1)",
        ]

    def image_layers(self, shape: tuple[int, ...], units: int, common: str) -> list[str]:
        size, padding, last = self.number(1, 3), self.pick("same", "valid"), shape[-1]
        strides, depth = self.pick(1, 1, 2), self.number(1, 2)
        groups = self.divisor(last)
        filters = groups * max(1, units // groups)
        return [
            f"layers.Conv2D({units}, {size}, strides={strides}, padding={padding!r}, {common})",
            f"layers.Conv2D({units}, {size}, padding={padding!r}, {common})",
            f"layers.Conv2D({units}, {size}, dilation_rate=2, padding={padding!r}, {common})",
            f"layers.Conv2D({filters}, {size}, groups={groups}, padding={padding!r}, {common})",
            f"layers.DepthwiseConv2D({size}, {strides}, padding={padding!r}, depth_multiplier={depth}, {common})",
            f"layers.SeparableConv2D({units}, {size}, padding={padding!r}, {common})",
            f"layers.Conv2DTranspose({units}, {size}, strides={strides}, padding={padding!r}, {common})",
            f"layers.MaxPooling2D({self.number(2, 3)}, strides={self.number(1, 2)}, padding={padding!r})",
            f"layers.AveragePooling2D({self.number(2, 3)}, strides={self.number(1, 2)}, padding={padding!r})",
            f"layers.AveragePooling2D({shape[:2]})", f"layers.GlobalAveragePooling2D(keepdims={self.chance(0.5)})",
            "layers.GlobalMaxPooling2D()", "layers.ZeroPadding2D(1)", "layers.Cropping2D(1)",
            f"layers.UpSampling2D(2, interpolation={self.pick('nearest', 'bilinear')!r})", "layers.Permute((3, 1, 2))",
            f"layers.GroupNormalization({groups})", "layers.SpatialDropout2D(0.2)", f"layers.Reshape((-1, {last}))",
        ]

    def divisor(self, value: int) -> int:
        return int(self.pick(*(d for d in range(1, value + 1) if value % d == 0)))

    def activation(self) -> str:
        known = "linear relu relu6 sigmoid tanh softmax silu gelu elu selu softplus hard_sigmoid hard_silu leaky_relu"
        own = ["softsign_of_mine", "relu", "layers.ReLU(3.0)", "'mish'"]
        common = ["'relu'", "'linear'", "None"] * 4
        return str(self.pick(*common, *map(repr, known.split()), *own))

    def regularizers(self) -> str:
        return str(self.pick(*[""] * 8, ", kernel_regularizer='l2'", ", activity_regularizer='l2'"))

    def ends(self) -> list[str]:
        """What nobody reads becomes an output; three at the most, the others are left out."""
        return self.unread[-self.number(1, 3) :]

    def head(self, name: str) -> str:
        if self.chance(0.35):
            return name
        shape = self.shape(name)
        if len(shape) > 1:
            name = self.add("layers.Flatten()({})" if self.chance(0.6) else "ops.mean({}, axis=1)", name) or name
        ends = "'softmax'", "'sigmoid'", "None", "'tanh'"
        return self.add(f"layers.Dense({self.number(1, 6)}, {self.pick(*ends)})({{}})", name) or name
