"""The door to CodeCarbon: tables read without it, counters in joules, and its log kept out of this thread only."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest

from tfgreen.energy import codecarbon
from tfgreen.errors import FileError


def test_tables_are_read_without_importing_the_package():
    code = (
        "import sys\nfrom tfgreen.energy import codecarbon\n"
        "assert codecarbon.energy_mix()['DEU']['country_name'] == 'Germany'\n"
        "assert all(float(grid.get('carbon_intensity') or 0) >= 0 for grid in codecarbon.energy_mix().values())\n"
        "assert ('AMD EPYC 7763', '280.0') in codecarbon.rated_powers(), codecarbon.rated_powers()[:3]\n"
        "assert codecarbon.version().startswith('CodeCarbon 3.') and 'codecarbon' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_table_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(codecarbon.importlib.util, "find_spec", lambda name: None)
    codecarbon.energy_mix.cache_clear()
    with pytest.raises(FileError, match="global_energy_mix.json: not found; tfgreen needs codecarbon"):
        codecarbon.energy_mix()


def test_a_busy_thread_has_watts():
    assert 1 < codecarbon.thread_watts() < 20


def test_gpus_with_and_without_a_counter(gpus):
    counter, power = gpus({"joules": 10.0, "watts": 70.0}, {"joules": None, "watts": 50.0})
    both = codecarbon.GpuReader(None)
    both.start()
    assert both.answers and both.count == 2 and not both.counted
    one = codecarbon.GpuReader("0")
    one.start()
    assert one.count == 1 and one.counted
    counter["joules"] += 6.0
    assert one.joules(1.0) == pytest.approx(6.0, rel=1e-4)


def test_a_machine_without_a_driver_has_no_gpus(monkeypatch):
    from codecarbon.core import gpu

    monkeypatch.setattr(gpu, "is_gpu_details_available", lambda: False)
    reader = codecarbon.GpuReader(None)
    reader.start()
    assert not reader.answers and reader.count == 0 and reader.joules(1.0) is None


def test_only_the_thread_inside_the_block_is_quiet():
    heard = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger = logging.getLogger("codecarbon")
    logger.addHandler(handler)
    try:
        with codecarbon.quiet():
            logger.warning("inside")
            other = threading.Thread(target=logger.warning, args=("another thread",))
            other.start()
            other.join()
        logger.warning("afterwards")
    finally:
        logger.removeHandler(handler)
    assert heard == ["another thread", "afterwards"]
