"""What a client says: read where it can be right, and refused with the name of what is not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import tfgreen as tg
from tfgreen.federated.flower import flower_app
from tfgreen.federated.link import Answer, coded_arrays, coded_bytes

RIGHT = {"client": 1, "samples": 40, "version": 3, "joules": 1.5, "refused": ""}


def content(record: dict | None) -> SimpleNamespace:
    return SimpleNamespace(config_records={} if record is None else {"tfgreen": record})


def test_an_answer_is_read():
    assert Answer.read(content(RIGHT)) == Answer(1, 40, 3, 1.5)
    assert Answer.read(content({"client": 0, "samples": 0, "refused": "no data"})).refused == "no data"


@pytest.mark.parametrize(
    "change",
    [
        {"samples": -1}, {"samples": 1.5}, {"samples": True}, {"client": "1"}, {"joules": float("nan")}, {"joules": 1},
        {"version": -1}, {"refused": b"no"}, {"else": 1}, {"samples": 0}, None,
    ],
    ids=str,
)  # fmt: skip
def test_an_answer_that_no_client_gives_is_refused(change):
    record = None if change is None else {**RIGHT, **change}
    with pytest.raises(ValueError, match="reply: expected .* must run the same version of tfgreen"):
        Answer.read(content(record))


def test_only_coded_bytes_are_read():
    try:
        app = flower_app()
    except tg.InvalidValueError:
        pytest.skip("Flower is not installed")
    assert coded_bytes(app.RecordDict({"arrays": coded_arrays([b"one", b""])})) == [b"one", b""]
    import numpy as np

    for records in ({"arrays": app.ArrayRecord([np.ones(3)])}, {}):
        with pytest.raises(ValueError, match="message: expected coded updates in 'arrays', received"):
            coded_bytes(app.RecordDict(records))
