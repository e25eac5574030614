"""Faithful copies: a layer is copied as the object that it is, not made anew from what its ``get_config()`` returns.

A config lacks whatever a class does not put into it: what ``adapt`` found, tables, functions of the user's, ties
between layers, adapters (LoRA). So each attribute is copied. What leads to a variable, a layer or an operation is made
anew; all else (arrays, tables, policies, plain functions) is shared with the original:

- a variable becomes a new one of equal value, path and flags;
- a layer, a metric or any other object becomes one of the same class with copied attributes, a list one of copies;
- a bound method is bound to the copy, and a closure holds the copies, as does a function that reads a global;
- the graph around a layer, and what ``compile`` set, is left out.

One :class:`Copies` serves a whole model: what two layers share, their copies share.
"""

from __future__ import annotations

import collections
import functools
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import keras
import tensorflow as tf

from tfgreen.model.internals import (
    copied_attributes,
    copy_functional,
    copy_input,
    copy_tf_function,
    copy_tracker,
    copy_variable,
    empty_copy,
    is_functional,
    is_tracker,
    on_copies,
)

T = TypeVar("T")
_TfFunction = tf.types.experimental.PolymorphicFunction
_CONTAINERS = (collections.OrderedDict, dict, list, set, collections.deque, tuple, frozenset)
_OPENED = (keras.Variable, tf.Variable, types.FunctionType, types.MethodType, functools.partial, _TfFunction)
_CLOSED = (str, bytes, int, float, complex, type, types.ModuleType, keras.KerasTensor, weakref.ref, keras.DTypePolicy)
# Objects of these packages belong to no layer alone, or must not be taken apart (lookup tables).
_CLOSED_PACKAGES = ("builtins", "tensorflow", "numpy", "logging", "threading", "absl", "jax", "torch")


class Copies:
    """The copies of the objects of one model, each made once.

    Example:
        >>> dense = keras.layers.Dense(2)
        >>> dense.build((None, 3))
        >>> copy = Copies().of(dense)
        >>> copy.kernel is dense.kernel, bool(keras.ops.all(copy.kernel == dense.kernel))
        (False, True)
    """

    def __init__(self) -> None:
        self._copied: dict[int, Any] = {}
        self._is_copied: dict[int, bool] = {}  # whether an object leads to a variable or an operation
        self._seen: list[object] = []  # keeps objects alive, so that none gets the id of another

    def of(self, value: T) -> T:
        """The copy of an object; the object itself if nothing that it leads to is copied."""
        self._explore(value)
        return self._copy(value)

    def in_graph(self, graph: keras.Model) -> Callable[[keras.Operation], Callable[..., Any]]:
        """What stands for the operation of each call in a graph."""
        return lambda operation: on_copies(self.of(operation), self.of)

    def keeps(self, part: object) -> bool:
        """Whether the copy of a container holds the copy of a part."""
        return True

    def put(self, value: object, copy: object) -> None:
        """Let an object stand for the copy of another, wherever that one is held."""
        self._is_copied[id(value)] = True
        self._seen.append(value)
        self._copied[id(value)] = copy

    def _explore(self, root: object) -> None:
        """Find out of each object that ``root`` leads to whether it is copied."""
        parents: dict[int, list[int]] = collections.defaultdict(list)
        reached: list[int] = []
        stack = [root]
        while stack:
            value = stack.pop()
            if _is_closed(value) or id(value) in self._is_copied:
                continue
            self._seen.append(value)
            self._is_copied[id(value)] = False
            if isinstance(value, (keras.Variable, tf.Variable, keras.Operation)) or is_tracker(value):
                reached.append(id(value))
            for child in _children(value):
                parents[id(child)].append(id(value))
                stack.append(child)
                # Later calls may add to a container that a layer holds, so no copy shares it.
                if isinstance(value, keras.Operation) and isinstance(child, (list, dict, set)):
                    reached.append(id(child))
        reached += [number for number in parents if self._is_copied.get(number)]
        while reached:
            number = reached.pop()
            self._is_copied[number] = True
            reached += [parent for parent in parents.pop(number, ()) if not self._is_copied[parent]]

    def _copy(self, value: Any) -> Any:
        if not self._is_copied.get(id(value)):
            return value
        if id(value) not in self._copied:
            self._copied[id(value)] = self._new(value, functools.partial(self._register, value))
        return self._copied[id(value)]

    def _register(self, original: object, copy: T) -> T:
        """Note a copy before what it holds is copied, which may lead back to it."""
        self._copied[id(original)] = copy
        return copy

    def _new(self, value: Any, register: Callable[[Any], Any]) -> Any:
        if isinstance(value, keras.Variable):
            return copy_variable(value, register, self._copy)
        if isinstance(value, tf.Variable):
            return tf.Variable(value.read_value(), trainable=value.trainable, name=value.name.partition(":")[0])
        if isinstance(value, keras.layers.InputLayer):
            return copy_input(value)
        if is_functional(value):
            return copy_functional(value, register, self.of, self.in_graph(value))
        if isinstance(value, keras.Operation):
            return self._filled(register(empty_copy(value)), copied_attributes(value))
        if is_tracker(value):
            return copy_tracker(value, register, self._copy)
        if isinstance(value, types.FunctionType):
            return self._function(value, register)
        if isinstance(value, types.MethodType):
            return types.MethodType(value.__func__, self._copy(value.__self__))
        if isinstance(value, functools.partial):
            keywords = {name: self._copy(item) for name, item in value.keywords.items()}
            return functools.partial(self._copy(value.func), *map(self._copy, value.args), **keywords)
        if isinstance(value, _TfFunction):
            return copy_tf_function(value, self._copy(value.python_function))
        if isinstance(value, _CONTAINERS):
            return self._container(value, register)
        return self._filled(register(object.__new__(type(value))), vars(value))

    def _filled(self, new: Any, attributes: dict[str, Any]) -> Any:
        """Give an object copied attributes, past ``__setattr__``, which would track them anew."""
        wrappers = {name for name, value in vars(new).items() if isinstance(value, types.FunctionType)}
        for name, value in attributes.items():
            if name not in wrappers:  # `__new__` made those, bound to the copy
                vars(new)[name] = self._copy(value)
        return new

    def _container(self, old: Any, register: Callable[[Any], Any]) -> Any:
        plain: Any = next(cls for cls in _CONTAINERS if isinstance(old, cls))
        # TensorFlow wraps the plain lists and dicts of its own objects, for checkpoints.
        cls: Any = plain if type(old).__module__.startswith("tensorflow") else type(old)
        if issubclass(cls, (tuple, frozenset)):
            parts = [self._copy(part) for part in old if self.keeps(part)]
            return cls(*parts) if hasattr(cls, "_fields") else cls(parts)
        new = register(cls.__new__(cls))
        if hasattr(new, "__dict__"):
            self._filled(new, getattr(old, "__dict__", {}))
        if isinstance(old, collections.defaultdict):
            new.default_factory = old.default_factory
        # By the methods of the plain class: those of a tracked container would track what it holds anew.
        if isinstance(old, dict):
            for key, value in old.items():
                if self.keeps(value):
                    plain.__setitem__(new, self._copy(key), self._copy(value))
        else:
            (set.update if plain is set else plain.extend)(new, [self._copy(part) for part in old if self.keeps(part)])
        return new

    def _function(self, old: types.FunctionType, register: Callable[[Any], Any]) -> types.FunctionType:
        before = old.__closure__ or ()
        cells = tuple(types.CellType() for _ in before)
        read = {name: value for name, value in _globals_read(old).items() if self._is_copied.get(id(value))}
        names = {**old.__globals__, **read} if read else old.__globals__
        new = register(types.FunctionType(old.__code__, names, old.__name__, old.__defaults__, cells))
        names.update({name: self._copy(value) for name, value in read.items()})
        functools.update_wrapper(new, old, updated=())
        del new.__wrapped__
        new.__kwdefaults__ = old.__kwdefaults__
        for cell, full in zip(cells, before):
            for content in _content(full):
                cell.cell_contents = self._copy(content)
        vars(new).update({name: self._copy(value) for name, value in vars(old).items()})
        return new


def variables_reached(root: object) -> dict[int, keras.Variable]:
    """The variables of Keras that an object leads to in any way, those of a closure included, by ``id``.

    Example:
        >>> dense = keras.layers.Dense(2)
        >>> dense.build((None, 3))
        >>> sorted(variable.name for variable in variables_reached(lambda x: x @ dense.kernel).values())
        ['bias', 'kernel']
    """
    seen: dict[int, object] = {}
    stack = [root]
    while stack:
        value = stack.pop()
        if id(value) not in seen and not _is_closed(value):
            seen[id(value)] = value
            stack.extend(_children(value))
    return {key: value for key, value in seen.items() if isinstance(value, keras.Variable)}


def _is_closed(value: object) -> bool:
    """Whether nothing is looked for in an object."""
    if value is None or isinstance(value, _CLOSED):
        return True
    if isinstance(value, (*_OPENED, *_CONTAINERS)):
        return False
    return type(value).__module__.partition(".")[0] in _CLOSED_PACKAGES or not hasattr(value, "__dict__")


def _children(value: Any) -> Iterator[object]:
    """What an object holds, as far as it may be copied."""
    if isinstance(value, types.FunctionType):
        yield from [content for cell in value.__closure__ or () for content in _content(cell)]
        yield from _globals_read(value).values()
        yield from vars(value).values()
    elif isinstance(value, types.MethodType):
        yield value.__self__
    elif isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, _TfFunction):
        yield value.python_function
    elif is_tracker(value):
        yield from [store for _, store in value.config.values()]
    elif isinstance(value, keras.Operation):
        yield from copied_attributes(value).values()
    elif not isinstance(value, tf.Variable):
        if isinstance(value, _CONTAINERS):
            yield from [*value.keys(), *value.values()] if isinstance(value, dict) else value
        yield from getattr(value, "__dict__", {}).values()


def _globals_read(function: types.FunctionType) -> dict[str, object]:
    """The layers and variables that a function, or one inside of it, reads from the globals of its module."""
    found: dict[str, object] = {}
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        for name in code.co_names:
            value = function.__globals__.get(name)
            if isinstance(value, (keras.Variable, keras.Layer)):
                found[name] = value
    return found


def _content(cell: types.CellType) -> list[object]:
    """What a cell of a closure holds, if anything."""
    try:
        return [cell.cell_contents]
    except ValueError:  # the name was never bound
        return []
