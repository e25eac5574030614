"""quiet_native_output: descriptors are captured, and given back whatever happens."""

from __future__ import annotations

import logging
import os

import pytest

from tfgreen.quiet import quiet_native_output


def test_quiet_captures_file_descriptors_and_restores_them(capfd):
    with pytest.raises(RuntimeError):
        with quiet_native_output() as captured:
            os.write(2, b"noise")
            raise RuntimeError
    os.write(1, b"heard")
    assert captured == ["noise"]
    assert capfd.readouterr() == ("heard", "")


def test_the_logger_of_tensorflow_gets_its_level_back():
    logger = logging.getLogger("tensorflow")
    before = logger.level
    with quiet_native_output():
        assert logger.level == logging.ERROR
    assert logger.level == before
