"""Config: the frozen dataclass behind every verb's settings, and its plain-dict form."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from tfgreen.errors import InvalidTypeError, invalid_type, invalid_value
from tfgreen.typing import PlainDict

C = TypeVar("C", bound="Config")


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of all settings: plain values, checked on construction, frozen afterwards.

    A subclass is a frozen dataclass; verbs' configs are also ``kw_only``. It checks its fields in ``__post_init__``
    and raises :class:`ValueError` or :class:`TypeError`. A field that holds data rather than a setting
    (calibration arrays) is declared with :func:`data_field`: it takes no part in comparison or in ``to_dict``.

    Example:
        >>> import tfgreen as tg
        >>> config = tg.ClusterConfig(number_of_clusters=8)
        >>> tg.Config.from_dict(config.to_dict()) == config
        True
    """

    def to_dict(self) -> PlainDict:
        """Return ``{"class_name": ..., "config": {...}}`` of plain Python values, fit for JSON or YAML."""
        names = [field.name for field in dataclasses.fields(self) if field.compare]
        plain = {name: _plain(name, getattr(self, name)) for name in names}
        return {"class_name": type(self).__name__, "config": plain}

    @classmethod
    def from_dict(cls: type[C], data: PlainDict) -> C:
        """Rebuild a config from :meth:`to_dict`; ``from_dict(c.to_dict()) == c``.

        Args:
            data: ``{"class_name": ..., "config": {...}}``. The class must be ``cls`` or a subclass of it.

        Raises:
            ValueError: The class is unknown here, or a field is not one of its fields.
        """
        if not isinstance(data, dict) or set(data) != {"class_name", "config"}:
            raise invalid_value(f"{cls.__name__}.from_dict", expected="keys 'class_name' and 'config'", received=data)
        known = {c.__name__: c for c in _subclasses(cls)}
        if data["class_name"] not in known:
            raise invalid_value(
                f"{cls.__name__}.from_dict", expected=f"a class_name of {sorted(known)}", received=data["class_name"]
            )
        target = known[data["class_name"]]
        names = {f.name for f in dataclasses.fields(target)}
        unknown = sorted(set(data["config"]) - names)
        if unknown:
            raise invalid_value(f"{target.__name__}.from_dict", expected=f"fields of {sorted(names)}", received=unknown)
        return target(**{name: _restore(value) for name, value in data["config"].items()})


def resolve_config(cls: type[C], config: C | None, options: Mapping[str, object]) -> C:
    """The config of a verb that takes one, or its fields as keyword arguments, or both: the arguments then override.

    Args:
        cls: The class of the verb's config.
        config: What the user passed, or None.
        options: The keyword arguments.

    Raises:
        TypeError: ``config`` is of another class, or an option is no field of it; the nearest field is named.
        ValueError, TypeError: As the config raises for a field.

    Example:
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class Rounding(Config):
        ...     bits: int = 8
        >>> resolve_config(Rounding, Rounding(), {"bits": 4})
        Rounding(bits=4)
    """
    if config is not None and not isinstance(config, cls):
        raise invalid_type("config", expected=f"a tg.{cls.__name__}", received=config)
    names = [field.name for field in dataclasses.fields(cls)]
    for option in options:
        if option not in names:
            near = difflib.get_close_matches(option, names, 1)
            fix = f"Did you mean '{near[0]}'?" if near else f"Its fields are {', '.join(names)}."
            raise InvalidTypeError(f"'{option}' is no field of tg.{cls.__name__}. {fix}")
    return cls(**options) if config is None else dataclasses.replace(config, **options)


def data_field() -> Any:
    """Declare a field that holds data (arrays, datasets): left out of equality, ``repr`` and ``to_dict``."""
    return dataclasses.field(default=None, compare=False, repr=False)


def _subclasses(cls: type[C]) -> list[type[C]]:
    found = [cls]
    for sub in cls.__subclasses__():
        found += _subclasses(sub)
    return found


def _plain(name: str, value: object) -> object:
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, (list, tuple)):
        return [_plain(name, item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(name, item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise invalid_type(name, expected="a plain value (number, string, list, dict, Config)", received=value)


def _restore(value: object) -> Any:
    if isinstance(value, dict) and set(value) == {"class_name", "config"}:
        return Config.from_dict(value)
    if isinstance(value, dict):
        return {k: _restore(v) for k, v in value.items()}
    if isinstance(value, list):
        return tuple(_restore(v) for v in value)
    return value
