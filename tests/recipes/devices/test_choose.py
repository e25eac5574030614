"""The choice of a device: the least of those that fit, what binds, and what is not known."""

from __future__ import annotations

import math

from tfgreen.recipes.devices.choose import DeviceEstimate, choose


def row(device, ms=1.0, joules=1.0, price=1.0, blocked=(), **exceeded):
    return DeviceEstimate(device, ms, joules, None, None, price, blocked, exceeded)


def test_the_least_energy_of_those_that_fit_is_chosen():
    rows = [row("a", joules=3.0), row("b", joules=1.0), row("c", joules=0.1, blocked=("too small",))]
    assert choose(rows, {}) == ("b", "b: least energy of the 2 of 3 that fit; a takes 3 times as much.")
    assert choose([row("a", ms=2.0), row("b", ms=4.0, joules=0.1)], {}, "latency")[0] == "a"


def test_where_none_is_feasible_the_closest_and_the_binding_constraint_are_named():
    rows = [row("a", latency_ms=4.0), row("b", latency_ms=1.5, price_usd=1.2), row("c", price_usd=math.inf)]
    choice, reason = choose(rows, {"latency_ms": 2.0, "price_usd": 10.0})
    assert choice is None
    assert "The closest is b; latency_ms <= 2 binds: it is 1.5 times that there." in reason
    assert choose([row("a", blocked=("no room",))], {}) == (None, "No device fits; a: no room.")
    assert "it is not known there" in choose([rows[2]], {"price_usd": 10.0})[1]


def test_what_is_not_known_takes_no_infinite_times_as_much():
    rows = [row("a", joules=None), row("b", joules=2.0), row("c", joules=None)]
    choice, reason = choose(rows, {})
    assert choice == "b" and "the only one whose energy is known. It is not known of a, c. Give its profile" in reason
    choice, reason = choose([*rows, row("d")], {})
    assert choice == "d" and "b takes 2 times as much. It is not known of a, c." in reason and "inf" not in reason
    choice, reason = choose([rows[0], rows[2]], {})
    assert choice is None and "their energy is not known (a, c). Give its profile" in reason
    assert choose([rows[0]], {})[0] == "a"  # the only one
    free = choose([row("a", price=0.0), row("b", price=3.0)], {}, "price")[1]
    assert "inf" not in free and "it takes none" in free


def test_a_device_whose_limited_figure_is_not_known_is_named():
    rows = [row("a", price=None, price_usd=math.inf), row("b"), row("c", price_usd=3.0)]
    assert choose(rows, {"price_usd": 10.0}) == (
        "b", "b: the only one of 3 that fits and meets price_usd <= 10. Left out is a: price_usd is not known.",
    )
    assert choose([rows[0], rows[2]], {"price_usd": 10.0})[1].endswith("Left out is a: price_usd is not known.")
