"""Config: the frozen dataclass behind every verb's settings, and its plain-dict form."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from tfgreen.errors import invalid_type, invalid_value

C = TypeVar("C", bound="Config")


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of all settings: plain values, checked on construction, frozen afterwards.

    A subclass is a frozen dataclass; verbs' configs are also ``kw_only``. It checks its fields in ``__post_init__``
    and raises :class:`ValueError` or :class:`TypeError`. A field that holds data rather than a setting
    (calibration arrays) is declared with :func:`data_field`: it takes no part in comparison or in ``to_dict``.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"class_name": ..., "config": {...}}`` of plain Python values, fit for JSON or YAML."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.compare}
        return {"class_name": type(self).__name__, "config": {name: _plain(value) for name, value in fields.items()}}

    @classmethod
    def from_dict(cls: type[C], data: dict[str, Any]) -> C:
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


def data_field() -> Any:
    """Declare a field that holds data (arrays, datasets): left out of equality, ``repr`` and ``to_dict``."""
    return dataclasses.field(default=None, compare=False, repr=False)


def _subclasses(cls: type[C]) -> list[type[C]]:
    found = [cls]
    for sub in cls.__subclasses__():
        found += _subclasses(sub)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise invalid_type("config value", expected="a plain value (number, string, list, dict, Config)", received=value)


def _restore(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"class_name", "config"}:
        return Config.from_dict(value)
    if isinstance(value, dict):
        return {k: _restore(v) for k, v in value.items()}
    if isinstance(value, list):
        return tuple(_restore(v) for v in value)
    return value
