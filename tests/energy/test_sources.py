"""Sources: which counters and drivers there are, and why not."""

from __future__ import annotations

import pytest

from tfgreen.energy import codecarbon, sources
from tfgreen.energy.sources import rapl_state, visible_gpus


def test_counters_of_packages_are_found_and_counted(rapl):
    rapl(names=("package-0", "package-1", "dram"))
    available, how = rapl_state()
    assert available and how.startswith("3 counters readable below")


def test_no_counters_at_all(no_rapl):
    available, why = rapl_state()
    assert not available and "no CPU energy counters" in why


def test_counters_that_codecarbon_cannot_read(rapl, monkeypatch):
    rapl()
    monkeypatch.setattr(codecarbon, "rapl_available", lambda folder: False)
    available, why = rapl_state()
    assert not available and "no package counter" in why


def test_counters_that_are_denied_are_told_from_missing_ones(rapl, monkeypatch):
    tree = rapl()
    monkeypatch.setattr(sources, "_readable", lambda path: path != tree.counters[0])
    assert rapl_state() == (True, f"1 counters readable below {tree.base.parent}")
    monkeypatch.setattr(sources, "_readable", lambda path: False)
    available, why = rapl_state()
    assert not available and str(tree.counters[0]) in why and "is not permitted" in why


@pytest.mark.parametrize("visible", ["", "-1", " -1 ", "NoDevFiles"])
def test_hidden_gpus_are_not_looked_for(gpus, visible, monkeypatch):
    gpus({"joules": 1.0, "watts": 1.0}, visible=visible)
    monkeypatch.setattr(codecarbon, "GpuReader", lambda *_: pytest.fail("the driver was asked"))
    reader, why = visible_gpus()
    assert reader is None and "hidden" in why


def test_gpus_that_answer_are_counted(gpus):
    gpus({"joules": 1.0, "watts": 1.0}, {"joules": 1.0, "watts": 1.0})
    reader, how = visible_gpus()
    assert reader.count == 2 and how == "2 GPU(s) answer"


def test_no_driver_no_device_and_a_driver_that_fails(gpus, monkeypatch):
    gpus()
    assert visible_gpus() == (None, "the GPU driver lists no device for this process")
    from codecarbon.core import gpu
    from codecarbon.external.hardware import GPU

    monkeypatch.setattr(GPU, "from_utils", lambda ids: 1 / 0)
    reader, why = visible_gpus()
    assert reader is None and why.startswith("the GPU driver failed: ZeroDivisionError")
    monkeypatch.setattr(gpu, "is_gpu_details_available", lambda: False)
    assert visible_gpus() == (None, "no GPU driver answers (NVML and AMD SMI were tried)")
