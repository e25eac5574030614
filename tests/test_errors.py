"""errors, config, files, quiet: what everything else stands on."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest

from tfgreen.config import Config, data_field
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.quiet import quiet_native_output


@dataclasses.dataclass(frozen=True)
class Inner(Config):
    power: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer(Config):
    inner: Inner = Inner()
    names: tuple[str, ...] = ("a",)
    data: object = data_field()


def test_config_round_trips_through_json_without_its_data():
    config = Outer(inner=Inner(5), names=("x", "y"), data=[1, 2])
    restored = Config.from_dict(json.loads(json.dumps(config.to_dict())))
    assert restored == config
    assert isinstance(restored, Outer) and restored.data is None


def test_config_names_an_unknown_class_or_field():
    with pytest.raises(ValueError, match="Nothing"):
        Config.from_dict({"class_name": "Nothing", "config": {}})
    with pytest.raises(ValueError, match=r"\['pover'\]"):
        Inner.from_dict({"class_name": "Inner", "config": {"pover": 2}})
    with pytest.raises(ValueError, match="class_name"):
        Inner.from_dict({"power": 2})


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Inner().power = 4


def test_errors_say_subject_expected_received_and_fix():
    error = invalid_value("frequency", expected="an integer > 0", received=0, fix="Leave it out for 100.")
    assert str(error) == "frequency: expected an integer > 0, received 0. Leave it out for 100."
    assert isinstance(invalid_type("model", expected="a keras.Model", received=3), TypeError)


def test_quiet_captures_file_descriptors_and_restores_them(capfd):
    with pytest.raises(RuntimeError):
        with quiet_native_output() as captured:
            os.write(2, b"noise")
            raise RuntimeError
    os.write(1, b"heard")
    assert captured == ["noise"]
    assert capfd.readouterr() == ("heard", "")
