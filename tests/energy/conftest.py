"""Machines to measure: fake RAPL counters in a folder, fake GPUs behind CodeCarbon's own reader."""

from __future__ import annotations

import pytest

from tfgreen.energy import rapl as rapl_module


@pytest.fixture(autouse=True)
def no_gpu_by_accident(monkeypatch):
    """The machine that runs the tests may have GPUs; these tests bring their own."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")


class Rapl:
    """A powercap tree with two packages; ``burn`` moves the counters as the kernel would."""

    def __init__(self, folder, names=("package-0", "package-1"), wrap=262_143_328_850):
        self.base = folder / "intel-rapl"
        self.wrap = wrap
        self.counters = []
        for i, name in enumerate(names):
            domain = self.base / f"intel-rapl:{i}"
            domain.mkdir(parents=True)
            (domain / "name").write_text(name)
            (domain / "max_energy_range_uj").write_text(str(wrap))
            (domain / "energy_uj").write_text(str((i + 1) * 7_000_000))
            self.counters.append(domain / "energy_uj")

    def burn(self, *joules):
        for path, amount in zip(self.counters, joules):
            # Renamed into place: the sampling thread must never read a half-written file, as the kernel shows none.
            moved = path.with_suffix(".new")
            moved.write_text(str((int(path.read_text()) + int(amount * 1e6)) % self.wrap))
            moved.rename(path)


@pytest.fixture()
def rapl(tmp_path, monkeypatch):
    """Return a function that installs fake counters and hands them back."""

    def install(**options):
        tree = Rapl(tmp_path / "powercap", **options)
        monkeypatch.setattr(rapl_module, "RAPL_DIR", str(tree.base))
        return tree

    return install


@pytest.fixture()
def no_rapl(tmp_path, monkeypatch):
    """A machine without counters, wherever the test runs."""
    monkeypatch.setattr(rapl_module, "RAPL_DIR", str(tmp_path / "none" / "intel-rapl"))


@pytest.fixture()
def gpus(monkeypatch):
    """Return a function that installs fake GPUs: each a dict of ``joules`` (counter, or None) and ``watts``."""
    from codecarbon.core import gpu
    from codecarbon.core.gpu_device import GPUDevice
    from codecarbon.external import hardware

    class Fake(GPUDevice):
        def _get_total_energy_consumption(self):
            return None if self.handle["joules"] is None else self.handle["joules"] * 1000

        def _get_power_usage(self):
            if self.handle["watts"] is None:
                raise OSError("driver gone")
            return self.handle["watts"]

        def _init_static_details(self):
            self._gpu_name, self._uuid = "fake", f"GPU-{self.gpu_index}"
            self._power_limit = self._total_memory = 0

    def install(*handles, visible=None):
        class Devices(gpu.AllGPUDevices):
            def __init__(self):
                self.devices = [Fake(handle=h, gpu_index=i) for i, h in enumerate(handles)]
                self.device_count = len(self.devices)

        monkeypatch.setattr(gpu, "is_gpu_details_available", lambda: True)
        monkeypatch.setattr(hardware, "AllGPUDevices", Devices)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return handles

    return install
