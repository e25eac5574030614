"""RaplCounters: whole packages, each once, however the tree shows them."""

from __future__ import annotations

import shutil

import pytest

from tfgreen.energy import rapl as module
from tfgreen.energy.rapl import RaplCounters, rapl_packages


def test_packages_are_found_and_nothing_inside_or_around_them(rapl):
    tree = rapl(names=("package-0", "package-1", "dram", "core", "psys"))
    folders, how = rapl_packages()
    assert len(folders) == 2 and how.startswith("2 package counter(s) readable below")
    counters = RaplCounters(folders)
    counters.start()
    tree.burn(1.0, 2.0, 40.0, 80.0, 160.0)
    assert counters.joules() == pytest.approx(3.0)
    tree.burn(1.0, 2.0)
    assert counters.joules() == pytest.approx(6.0)


def test_a_counter_that_wraps_loses_nothing(rapl):
    tree = rapl(names=("package-0",), wrap=10_000_000)
    counters = RaplCounters(rapl_packages()[0])
    counters.start()
    for _ in range(5):
        tree.burn(6.0)
        counters.joules()
    assert counters.joules() == pytest.approx(30.0)


def test_a_package_that_two_drivers_show_counts_once(rapl):
    tree = rapl(names=("package-0",))
    shutil.copytree(tree.base / "intel-rapl:0", tree.base / "intel-rapl-mmio:0")
    folders, _ = rapl_packages()
    assert [folder.name for folder in folders] == ["intel-rapl:0"]


def test_no_counters_none_of_packages_and_denied_ones_are_told_apart(rapl, no_rapl, monkeypatch):
    folders, why = rapl_packages()
    assert not folders and "no CPU energy counters" in why
    tree = rapl(names=("package-0", "package-1", "dram"))
    monkeypatch.setattr(module, "_readable", lambda path: path != tree.counters[2])
    assert len(rapl_packages()[0]) == 2  # what is not needed may be denied
    monkeypatch.setattr(module, "_readable", lambda path: path != tree.counters[1])
    folders, why = rapl_packages()
    assert not folders and str(tree.counters[1]) in why and "is not permitted" in why
    for counter in tree.counters:
        (counter.parent / "name").write_text("core")
    assert "whole package" in rapl_packages()[1]


def test_a_counter_that_is_gone_is_an_error(rapl):
    tree = rapl()
    counters = RaplCounters(rapl_packages()[0])
    counters.start()
    tree.counters[0].unlink()
    with pytest.raises(OSError):
        counters.joules()
