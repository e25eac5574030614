"""Config: the frozen dataclass behind every verb's settings, and its plain-dict form."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar, cast

from tfgreen.errors import InvalidTypeError, invalid_type, invalid_value
from tfgreen.tables import html_table
from tfgreen.typing import PlainDict

C = TypeVar("C", bound="Config")
F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of all settings: plain values, checked on construction, frozen afterwards.

    A subclass is a frozen dataclass that checks its fields in ``__post_init__`` and raises ``ValueError`` or
    ``TypeError``. A field of data rather than settings (calibration arrays) takes no part in comparison and
    ``to_dict``. A function or an object of a class of the user's, where a field takes one, goes into ``to_dict`` if it
    is registered with ``keras.saving.register_keras_serializable``.

    Example:
        >>> import tfgreen as tg
        >>> config = tg.ClusterConfig(number_of_clusters=8)
        >>> tg.Config.from_dict(config.to_dict()) == config
        True
    """

    shown_in: ClassVar[str] = "tg"  # where its users find it, for errors

    def __new__(cls: type[C], *args: object, **options: object) -> C:
        check_options(options, [field.name for field in dataclasses.fields(cls)], f"field of {cls.__name__}")
        return super().__new__(cls)

    def to_dict(self) -> PlainDict:
        """Return ``{"class_name": ..., "config": {...}}`` of plain Python values, fit for JSON or YAML."""
        names = [field.name for field in dataclasses.fields(self) if field.compare]
        plain = {name: _plain(name, getattr(self, name)) for name in names}
        return {"class_name": type(self).__name__, "config": plain}

    def _repr_html_(self) -> str:
        names = [field.name for field in dataclasses.fields(self) if field.repr]
        return html_table(("setting", "value"), [(n, str(getattr(self, n))) for n in names], type(self).__name__, -1)

    @classmethod
    def from_dict(cls: type[C], data: PlainDict) -> C:
        """Rebuild a config of this class or a subclass from :meth:`to_dict`; ``from_dict(c.to_dict()) == c``.

        Raises:
            ValueError: The class is unknown here, or a field is not one of its fields.
        """
        if not isinstance(data, dict) or set(data) != {"class_name", "config"}:
            raise invalid_value(f"{cls.__name__}.from_dict", expected="keys 'class_name' and 'config'", received=data)
        known = {c.__name__: c for c in _subclasses(cls)}
        target = known.get(data["class_name"])
        if target is None:
            expected = f"a class_name of {sorted(known)}"
            raise invalid_value(f"{cls.__name__}.from_dict", expected=expected, received=data["class_name"])
        names = {f.name for f in dataclasses.fields(target)}
        unknown = sorted(set(data["config"]) - names)
        if unknown:
            raise invalid_value(f"{target.__name__}.from_dict", expected=f"fields of {sorted(names)}", received=unknown)
        return target(**{name: _restore(value) for name, value in data["config"].items()})


def resolve_config(cls: type[C], config: C | None, options: Mapping[str, object]) -> C:
    """The config of a verb that takes one, or its fields as keyword arguments, or both: the arguments then override.

    An option that is no field of the config is an error that names the nearest field.
    """
    name, names = f"{cls.shown_in}.{cls.__name__}", [field.name for field in dataclasses.fields(cls)]
    if config is not None and not isinstance(config, cls):
        fix = f"Pass settings by their names, such as {names[0]}=..."
        raise invalid_type("config", expected=f"a {name}", received=config, fix=fix)
    check_options(options, names, f"field of {name}")
    return cls(**options) if config is None else dataclasses.replace(config, **options)


def check_options(options: Iterable[str], names: Sequence[str], what: str) -> None:
    """Raise on an option that is none of the names, which are each a ``what``, with the name that is nearest to it."""
    for option in options:
        if option not in names:
            near = difflib.get_close_matches(option, names, 1)
            fix = f"Did you mean '{near[0]}'?" if near else f"There are {', '.join(names)}."
            raise InvalidTypeError(f"'{option}' is no {what}. {fix}")


def named_options(function: F) -> F:
    """Let a function that takes its options one by one name the nearest to a misspelled one.

    Example:
        >>> @named_options
        ... def scaled(x, *, factor=1):
        ...     return factor * x
        >>> scaled(2, facter=3)
        Traceback (most recent call last):
        ...
        tfgreen.errors.InvalidTypeError: 'facter' is no option of scaled. Did you mean 'factor'?
    """
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: object, **options: object) -> object:
        check_options(options, names, f"option of {function.__name__}")
        return function(*args, **options)

    return cast(F, call)


def data_field() -> Any:
    """Declare a field that holds data (arrays, datasets): left out of equality, ``repr`` and ``to_dict``."""
    return dataclasses.field(default=None, compare=False, repr=False)


def _subclasses(cls: type[C]) -> list[type[C]]:
    return [cls, *(found for sub in cls.__subclasses__() for found in _subclasses(sub))]


def _plain(name: str, value: object) -> object:
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, (list, tuple)):
        return [_plain(name, item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(name, item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, numbers.Real):  # NumPy's
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    import keras  # only for objects of Keras: a file is loaded and inspected without it

    kind = value if callable(value) and hasattr(value, "__name__") else type(value)
    if keras.saving.get_registered_object(keras.saving.get_registered_name(kind)) is not kind:
        expected = "a plain value (number, string, list, dict, Config), or what is registered with Keras"
        fix = "Put @keras.saving.register_keras_serializable() on the function or class."
        raise invalid_type(name, expected=expected, received=value, fix=fix)
    return keras.saving.serialize_keras_object(value)


def _restore(value: object) -> Any:
    if isinstance(value, dict) and set(value) == {"class_name", "config"}:
        return Config.from_dict(value)
    if isinstance(value, dict) and "registered_name" in value:
        import keras

        return keras.saving.deserialize_keras_object(value)
    if isinstance(value, dict):
        return {k: _restore(v) for k, v in value.items()}
    if isinstance(value, list):
        return tuple(_restore(v) for v in value)
    return value
