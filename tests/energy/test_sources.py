"""Sources: the tiers of trust, and which GPUs there are, or why not."""

from __future__ import annotations

import pytest

from tfgreen.energy import codecarbon
from tfgreen.energy.sources import visible_gpus, weakest


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


def test_a_sum_is_as_good_as_its_weakest_part():
    assert weakest(["external", "rapl"]) == "rapl" and weakest(["estimate", "nvml"]) == "estimate"
    assert weakest([]) == "unavailable"
