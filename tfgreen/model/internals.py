"""The one door to what Keras keeps private; each use says why nothing public serves."""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend import AutocastScope, compute_output_spec
from keras.src.models.functional import Functional, functional_like_constructor
from keras.src.saving.serialization_lib import SafeModeScope
from keras.src.trainers.trainer import Trainer
from keras.src.utils.naming import to_snake_case
from keras.src.utils.tracking import Tracker

from tfgreen.typing import PlainDict, Shape, Tensor, Tensors

Register = Callable[[Any], Any]
Copy = Callable[[Any], Any]


def is_container(layer: keras.Operation) -> bool:
    """Whether a layer is a model whose layers can be replaced one by one: Sequential, or a functional graph.

    A model whose class has a constructor of its own is not: Keras could not load it with other layers inside.
    """
    if type(layer) is keras.Sequential:
        return layer.built and layer._functional is not None  # a deferred Sequential has no graph yet
    return isinstance(layer, Functional) and functional_like_constructor(type(layer))


def is_named_by_keras(layer: keras.Layer) -> bool:
    """Whether a layer bears the name that Keras gives to one of its class, which it numbers in each process anew."""
    return re.fullmatch(rf"{to_snake_case(type(layer).__name__)}(_\d+)?", layer.name) is not None


def is_graph(layer: keras.Layer) -> bool:
    """Whether a layer is a model whose config lists its layers by name."""
    return isinstance(layer, (Functional, keras.Sequential))


def graph_of(model: keras.Model) -> Functional:
    """The functional model that runs a Sequential model, which is one itself for any other."""
    return model._functional if isinstance(model, keras.Sequential) else model


def graph_calls(graph: Functional) -> Iterator[Any]:
    """The calls (Keras nodes) of a functional model, producers before consumers, those of its inputs left out."""
    # The public `operations` lists a shared layer once, so only the nodes hold all its calls and who feeds them.
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from (call for call in graph._nodes_by_depth[depth] if not call.is_input)


def passed_inputs(call: Any) -> list[Tensor]:
    """What a call of a nested model passed for each of its inputs, in the order of the model's ``inputs``."""
    arguments, structure = call.arguments, graph_of(call.operation)._inputs_struct
    passed = arguments.args[0] if arguments.args else arguments.kwargs["inputs"]
    if isinstance(passed, dict) and not isinstance(structure, dict):  # Keras then goes by the names of the inputs
        passed = [passed[tensor.name] for tensor in keras.tree.flatten(structure)]
    return keras.tree.flatten(passed)


def input_layers(model: keras.Model) -> Any:
    """The InputLayers of a functional or Sequential model, in the structure of its inputs."""
    # A KerasTensor's own name may differ from its InputLayer's, and only the latter is the name users feed by.
    return keras.tree.map_structure(lambda tensor: tensor._keras_history.operation, graph_of(model)._inputs_struct)


def tracked_layers(layer: keras.Layer) -> list[keras.Layer]:
    """The direct sublayers of a layer; the public ``layers`` is that of models only."""
    return layer._layers


def tracked_variables(layer: keras.Layer) -> tuple[list[keras.Variable], list[keras.Variable]]:
    """The variables that a layer made to be trained, frozen or not, and the others, without those of its sublayers.

    The public ``layer.weights`` includes the sublayers'.
    """
    return layer._trainable_variables, layer._non_trainable_variables


def add_bias(layer: keras.Layer, size: int) -> None:
    """Give a built dense or convolution layer that has none a bias of zeros; Keras locks a layer once it is built."""
    layer._tracker.unlock()
    layer.use_bias = True
    layer.bias = layer.add_weight(
        shape=(size,), initializer="zeros", regularizer=layer.bias_regularizer, constraint=layer.bias_constraint,
        name="bias",
    )
    layer._tracker.lock()


def untrack(layer: keras.Layer, variable: keras.Variable) -> None:
    """Let a built layer forget a variable, as Keras does when it replaces one."""
    layer._untrack_variable(variable)


def set_build_config(layer: keras.Layer, config: PlainDict) -> None:
    """Let a layer without a ``build()`` of its own return ``config`` from ``get_build_config()``."""
    layer._build_shapes_dict = config.get("shapes_dict", config)


def resize_variable(variable: keras.Variable, value: Any) -> None:
    """Let a variable of a layer hold an array of another shape from now on."""
    variable._shape = variable._validate_shape(value.shape)
    with tf.init_scope():
        variable._initialize(tf.convert_to_tensor(value, dtype=variable.dtype))


def resize_inputs(layer: keras.Layer, resized: Callable[[int, Shape], Shape]) -> None:
    """Let a built layer expect other inputs: ``resized`` takes the number of an input and its old shape."""
    numbers = itertools.count()

    def visit(shape: Any) -> Any:
        if isinstance(shape, dict):
            return {key: visit(part) for key, part in shape.items()}
        if isinstance(shape, (list, tuple)) and any(isinstance(part, (list, tuple)) for part in shape):
            return [visit(part) for part in shape]
        number = next(numbers)
        return shape if shape is None else resized(number, tuple(shape))

    if getattr(layer, "_build_shapes_dict", None):
        layer._build_shapes_dict = visit(dict(layer._build_shapes_dict))
    specs = layer.input_spec
    if isinstance(specs, (list, tuple)):
        layer.input_spec = [_resized_spec(spec, functools.partial(resized, i)) for i, spec in enumerate(specs)]
    elif specs is not None:
        layer.input_spec = _resized_spec(specs, functools.partial(resized, 0))


def _resized_spec(spec: Any, resized: Callable[[Shape], Shape]) -> Any:
    if spec.shape is None and not spec.axes:
        return spec
    if spec.shape is not None:
        new = resized(tuple(spec.shape))
        return keras.layers.InputSpec(dtype=spec.dtype, shape=new, axes={axis: new[axis] for axis in spec.axes})
    least = max(axis + 1 if axis >= 0 else -axis for axis in spec.axes)
    rank = spec.ndim or max(least, spec.min_ndim or 0)
    new = resized(tuple(spec.axes.get(axis, spec.axes.get(axis - rank)) for axis in range(rank)))
    axes = {axis: new[axis] for axis in spec.axes}
    return keras.layers.InputSpec(
        dtype=spec.dtype, ndim=spec.ndim, max_ndim=spec.max_ndim, min_ndim=spec.min_ndim, axes=axes
    )


def replay(model: keras.Model, inputs: Tensors, operation: Callable[[keras.Operation], Callable[..., Any]]) -> Any:
    """Run a functional model's graph on other inputs with other operations; returns its outputs in their structure.

    ``keras.models.clone_model`` renames anonymous inputs, and shares the raw operations.
    """
    return model._run_through_graph(inputs, operation_fn=operation)


def run_symbolically(call: Callable[..., Any], *inputs: Tensors, **named_inputs: Tensors) -> Any:
    """Run a function, with every ``call`` below it, on KerasTensors in a throw-away graph; returns KerasTensors.

    A functional model's ``compute_output_spec`` infers shapes without running its layers.
    """
    return compute_output_spec(lambda *args, **kwargs: call(*args, **kwargs), *inputs, **named_inputs)


def calls_of(operation: keras.Operation) -> list[Any]:
    """The calls (Keras nodes) of an operation on KerasTensors, in whatever models hold them."""
    return operation._inbound_nodes


def consumers_of(operation: keras.Operation) -> list[keras.Operation]:
    """The operations that take in what an operation returns, once for each call."""
    return [call.operation for call in operation._outbound_nodes]


def history_of(tensor: keras.KerasTensor) -> Any:
    """Which call of which operation returned a KerasTensor, as the last one says that did."""
    return tensor._keras_history


def set_history(tensor: keras.KerasTensor, history: Any) -> None:
    """Say which call returned a KerasTensor."""
    tensor._keras_history = history


def producing_call(tensor: keras.KerasTensor, history: Any = None) -> Any:
    """The call (Keras node) that returns a KerasTensor."""
    history = history or tensor._keras_history
    return calls_of(history.operation)[history.node_index]


def on_copies(call: Callable[..., Any], copy: Copy) -> Callable[..., Any]:
    """A call with copies of what is passed to it: an operation in a graph may be called on a layer's variable."""
    return lambda *args, **kwargs: call(*copy(args), **copy(kwargs))


# What belongs to the graph around an operation, to its last call, or to `compile`, and so not to a copy.
_CALL_STATE = frozenset("_inbound_nodes _outbound_nodes _losses _loss_ids _losses_override".split())
_COMPILE_STATE = frozenset(
    "optimizer stop_training history _compile_config _compiled_trainable_state _distribute_strategy "
    "_distribute_reduction_method _epoch_iterator".split()
)
_FUNCTIONAL: Any = Functional
_TRAINER: Any = keras.Model.__bases__[0]  # the backend's; its constructor sets what `compile` changes


def is_functional(value: object) -> bool:
    """Whether an object is a functional model of any class."""
    return isinstance(value, Functional)


def is_tracker(value: object) -> bool:
    """Whether an object is what tells a layer the variables and layers in its attributes."""
    return isinstance(value, Tracker)


def copied_attributes(operation: keras.Operation) -> PlainDict:
    """The attributes of an operation without the graph around it, its last call and its compilation, and as they are
    when nobody listens to its calls."""
    left_out = _CALL_STATE | (_COMPILE_STATE | _trainer_state(operation) if isinstance(operation, Trainer) else set())
    own = {name: value for name, value in vars(operation).copy().items() if name not in left_out}
    replaced = {name: value for name, value in own.items() if isinstance(value, StandIn)}
    for name, value in replaced.items():
        own.pop(name)
        if value.is_own:
            own[name] = value.plain
    return own


class StandIn:
    """Stands for an attribute of an operation for a while: for ``plain``, which the operation holds itself if
    ``is_own``, and else its class."""

    plain: Any
    is_own: bool


def empty_copy(operation: keras.Operation) -> keras.Operation:
    """An object of the same class, not called and not compiled, whose other attributes are yet to be set."""
    new = (keras.Layer if isinstance(operation, keras.Layer) else keras.Operation).__new__(type(operation))
    if isinstance(operation, Trainer):
        _TRAINER.__init__(new)
    new.__dict__.update(_inbound_nodes=[], _outbound_nodes=[])
    if isinstance(operation, keras.Layer):
        new.__dict__.update(_losses=[], _loss_ids=set(), _losses_override=[])
    return new


def _trainer_state(model: keras.Model) -> set[str]:
    fresh = keras.Layer.__new__(type(model))
    before = set(vars(fresh))
    _TRAINER.__init__(fresh)
    return {name for name in set(vars(fresh)) - before if name != "_tracker" and not name.startswith("_self_")}


def copy_variable(old: keras.Variable, register: Register, copy: Copy) -> keras.Variable:
    """A variable of equal value, path and flags, made under the current distribution strategy."""
    new = register(object.__new__(type(old)))
    own = {name: value for name, value in vars(old).items() if not name.startswith("_self_")}
    new.__dict__.update({**own, "_constraint": copy(old._constraint), "_regularizer": copy(old._regularizer)})
    if old._value is not None:  # else it is yet to be initialized
        with tf.init_scope():
            new._initialize(old._value.read_value())
    return new


def copy_input(layer: keras.layers.InputLayer) -> keras.layers.InputLayer:
    """A new InputLayer whose layer and tensor bear the names of the original's (they differ for anonymous inputs)."""
    return resized_input(layer, layer.batch_shape)


def resized_input(layer: keras.layers.InputLayer, shape: tuple[int | None, ...]) -> keras.layers.InputLayer:
    """An InputLayer and tensor of the same names for another shape, batch included."""
    new = type(layer).from_config({**layer.get_config(), "batch_shape": shape})
    new.output.name = layer.output.name
    return new


def copy_tracker(old: Tracker, register: Register, copy: Copy) -> Tracker:
    """A tracker that keeps its objects in the copies of the lists in which the old one does."""
    new = register(Tracker.__new__(type(old)))
    new.config = {name: (test, copy(store)) for name, (test, store) in old.config.items()}
    new.stored_ids = {name: {id(item) for item in store} for name, (_, store) in new.config.items()}
    new.locked, new._lock_violation_msg, new.exclusions = old.locked, old._lock_violation_msg, old.exclusions
    return new


def copy_functional(
    old: Functional, register: Register, copy: Copy, operation: Callable[[keras.Operation], Callable[..., Any]]
) -> Functional:
    """A functional model of the same class, its graph run again with what ``operation`` makes of its operations."""
    new = register(keras.Layer.__new__(type(old)))
    inputs = keras.tree.map_structure(lambda layer: copy(layer).output, input_layers(old))
    outputs = replay(old, inputs, operation)
    _TRAINER.__init__(new)
    _FUNCTIONAL.__init__(new, inputs, outputs, name=old.name)
    for name, value in copied_attributes(old).items():
        if name not in vars(new):
            setattr(new, name, copy(value))
    new.__dict__.update(_trainable=old._trainable, _path=old._path)
    return new


def copy_tf_function(old: tf.types.experimental.PolymorphicFunction, function: Callable[..., Any]) -> Any:
    """A ``tf.function`` of another Python function with the settings of an old one, which are not public."""
    return old._clone(function)


def compile_settings(model: keras.Model) -> PlainDict:
    """The arguments of ``compile`` as they were given; ``get_compile_config`` holds functions only by their names."""
    return dict(model._compile_config.config)


def build_metrics(model: keras.Model, batch: Tensors) -> None:
    """Build the loss, the metrics and the optimizer of a compiled model for batches like this one, symbolic or not.

    Keras does so as it traces the first step, where XLA allows no new variables.
    """
    model._symbolic_build(data_batch=batch)


def compiled_losses(model: keras.Model) -> list[keras.losses.Loss]:
    """The losses that a compiled model computes, of functions too, once they are built."""
    compiled = getattr(model, "_compile_loss", None)
    flat = getattr(compiled, "_flat_losses", None) or ()
    return [one.loss for one in flat]


def autocasting(layer: keras.Layer) -> contextlib.AbstractContextManager[None]:
    """Cast variables as in a call of the layer: Keras does so around ``call``, and not where it asks for its shape."""
    casts = layer.autocast and keras.backend.is_float_dtype(layer.compute_dtype)
    scope: contextlib.AbstractContextManager[None] = AutocastScope(layer.compute_dtype if casts else None)
    return scope


def keras_mask(tensor: Tensor) -> Tensor | None:
    """The mask that Keras keeps beside a tensor."""
    mask: Tensor | None = getattr(tensor, "_keras_mask", None)
    return mask


def with_keras_mask(tensor: Tensor, mask: Tensor) -> Tensor:
    """The tensor as a new one, with this mask beside it."""
    result = keras.ops.add(tensor, 0)
    result._keras_mask = mask
    return result


@contextlib.contextmanager
def sizes_unchecked(model: keras.Model) -> Iterator[None]:
    """In the block, a graph of layers does not compare its inputs with the shapes it was made for."""
    own = vars(model)
    before = own.get("_manual_input_spec", own)  # the dict itself stands for none
    own["_manual_input_spec"] = None
    try:
        yield
    finally:
        if before is own:
            del own["_manual_input_spec"]
        else:
            own["_manual_input_spec"] = before


def running_code_of_files(allowed: bool) -> contextlib.AbstractContextManager[Any]:
    """While it lasts, what Keras loads may hold Python code, where that is ``allowed``; otherwise as it was set."""
    return SafeModeScope(False) if allowed else contextlib.nullcontext()
