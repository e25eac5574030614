"""energy_sources: each source with its state on this machine."""

from __future__ import annotations

from tfgreen.energy import rapl as rapl_module
from tfgreen.energy.cpu import cpu_identity
from tfgreen.energy.doctor import energy_sources


def test_energy_sources_name_what_there_is(rapl, gpus):
    rapl()
    gpus({"joules": 1.0, "watts": 1.0})
    found = {source.name: source for source in energy_sources()}
    assert found["CPU counters (RAPL)"].available and "2 package counter" in found["CPU counters (RAPL)"].detail
    assert found["GPU counters (NVML, AMD SMI)"].available
    assert all(source.detail for source in found.values())


def test_what_is_missing_has_its_reason(no_rapl):
    found = {source.name: source for source in energy_sources()}
    assert list(found)[0] == "CPU counters (RAPL)" and not found["CPU counters (RAPL)"].available
    assert "no CPU energy counters" in found["CPU counters (RAPL)"].detail
    assert not found["GPU counters (NVML, AMD SMI)"].available
    assert "hidden" in found["GPU counters (NVML, AMD SMI)"].detail
    assert cpu_identity().model in found["CPU rated power"].detail
    assert found["CPU estimate"].available and "W per" in found["CPU estimate"].detail
    assert found["grid intensities"].available and "DEU: year 2023" in found["grid intensities"].detail


def test_counters_that_may_not_be_read_are_named(rapl, monkeypatch):
    rapl()
    monkeypatch.setattr(rapl_module, "_readable", lambda path: False)
    assert "not permitted" in energy_sources()[0].detail
