"""The checks of arguments: each returns nothing, or raises with the argument, what was expected and what came."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection, Sequence

from tfgreen.errors import invalid_type, invalid_value


def check_integer(
    name: str, value: object, *, minimum: int | None = None, maximum: int | None = None, optional: bool = False
) -> None:
    """Raise unless ``value`` is an integer (no bool) in ``[minimum, maximum]``, or None where ``optional``.

    Another number (2.5) is a wrong value, anything else a wrong type.
    """
    if optional and value is None:
        return
    expected = f"an integer{_bounds(minimum, maximum)}{' or None' if optional else ''}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        raise (invalid_value if is_number else invalid_type)(name, expected=expected, received=value)
    if (minimum is not None and int(value) < minimum) or (maximum is not None and int(value) > maximum):
        raise invalid_value(name, expected=expected, received=value)


def check_number(
    name: str,
    value: object,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    optional: bool = False,
    fix: str = "",
) -> None:
    """Raise unless ``value`` is a finite number (no bool) within the bounds, or None where ``optional``.

    Example:
        >>> check_number("final_sparsity", 1.5, minimum=0, below=1)
        Traceback (most recent call last):
        ...
        tfgreen.errors.InvalidValueError: final_sparsity: expected a number >= 0 and < 1, received 1.5.
    """
    if optional and value is None:
        return
    expected = f"a number{_bounds(minimum, maximum, above, below)}{' or None' if optional else ''}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise invalid_type(name, expected=expected, received=value)
    number = float(value)
    fits = (
        (minimum is None or number >= minimum)
        and (maximum is None or number <= maximum)
        and (above is None or number > above)
        and (below is None or number < below)
    )
    if not fits or not math.isfinite(number):
        raise invalid_value(name, expected=expected, received=value, fix=fix)


def check_bool(name: str, value: object) -> None:
    """Raise unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise invalid_type(name, expected="True or False", received=value)


def check_option(name: str, value: object, options: Collection[object]) -> None:
    """Raise unless ``value`` is one of the options, in its type too (8 is not 8.0)."""
    if not is_option(value, options):
        listed = [repr(option) for option in options]
        expected = " or ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)
        raise invalid_value(name, expected=expected, received=repr(value))


def is_option(value: object, options: Collection[object]) -> bool:
    """Whether ``value`` is one of the options, in its type too; an array, of which ``==`` makes an array, is none."""
    return any(value is option or (type(value) is type(option) and value == option) for option in options)


def check_instance(name: str, value: object, cls: type | tuple[type, ...], expected: str) -> None:
    """Raise unless ``value`` is an instance of ``cls``, which the error calls ``expected`` ("a tg.PruneConfig")."""
    if not isinstance(value, cls):
        raise invalid_type(name, expected=expected, received=value)


def _bounds(
    minimum: float | None, maximum: float | None, above: float | None = None, below: float | None = None
) -> str:
    parts = {">=": minimum, ">": above, "<=": maximum, "<": below}
    given = [(sign, bound) for sign, bound in parts.items() if bound is not None]
    found = [f"{sign} {bound if isinstance(bound, int) else format(bound, 'g')}" for sign, bound in given]
    return " " + " and ".join(found) if found else ""


def check_are_texts(name: str, values: Sequence[object]) -> None:
    """Raise a TypeError unless each of ``values`` is a str; a layer has a name that is one.

    Example:
        >>> check_are_texts("keep_float", ("head", "block*"))
    """
    for number, value in enumerate(values):
        if not isinstance(value, str):
            own = getattr(value, "name", None)
            fix = f"Give its name: '{own}'." if isinstance(own, str) else ""
            raise invalid_type(f"{name}[{number}]", expected="a text", received=value, fix=fix)
