"""How amounts read: three digits, and the unit that suits them."""

from __future__ import annotations

_UNITS = {
    "count": {"G": 1e9, "M": 1e6, "k": 1e3, "": 1.0},
    "B": {"GB": 1e9, "MB": 1e6, "kB": 1e3, "B": 1.0},
    "J": {"MJ": 1e6, "kJ": 1e3, "J": 1.0, "mJ": 1e-3, "\u00b5J": 1e-6, "nJ": 1e-9},
    "kg": {"kg": 1.0, "g": 1e-3, "mg": 1e-6, "\u00b5g": 1e-9, "ng": 1e-12},
    "kWh": {"MWh": 1e3, "kWh": 1.0, "Wh": 1e-3, "mWh": 1e-6},
    "h": {"h": 1.0, "min": 1 / 60, "s": 1 / 3600},
    "ms": {"s": 1e3, "ms": 1.0, "\u00b5s": 1e-3},
}


def quantity(value: float, unit: str) -> str:
    """An amount with its unit, scaled where the unit is "B", "J", "kWh", "kg", "h", "ms" or "count".

    Example:
        >>> quantity(101_648, "B"), quantity(4.2e-12, "kg"), quantity(1.5, "points"), quantity(0.0242, "ms")
        ('102 kB', '4.2 ng', '1.5 points', '24.2 \u00b5s')
    """
    name, size = scaled_unit(value, unit)
    text = short(value / size)
    return f"{text} {'point' if (text, name) == ('1', 'points') else name}".rstrip()


def scaled_unit(value: float, unit: str) -> tuple[str, float]:
    """The unit that suits an amount, and its size in ``unit``.

    Example:
        >>> scaled_unit(101_648, "B"), scaled_unit(3, "points")
        (('kB', 1000.0), ('points', 1.0))
    """
    scaled = _UNITS.get(unit, {unit: 1.0})
    name = next((name for name, size in scaled.items() if abs(value) >= size), list(scaled)[-1] if value else unit)
    return name, scaled[name]


def short(value: float) -> str:
    """Three significant digits, without an exponent where it can be avoided.

    Example:
        >>> short(1234.5), short(0.0248)
        ('1234', '0.0248')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
