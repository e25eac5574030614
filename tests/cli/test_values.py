"""What texts on the command line stand for."""

from __future__ import annotations

import argparse

import pytest

from tfgreen.cli import values


def test_what_is_understood():
    assert values.whole(1)("12") == 12 and values.layer_mode("d=e=int4") == ("d=e", "int4")
    assert values.positive("1e3") == 1000 and values.share("0.5") == 0.5 and values.image_size("96x64") == (96, 64)
    assert values.folder("v1.2/out") == "v1.2/out"


@pytest.mark.parametrize(
    ("read", "texts"),
    [
        (values.whole(1), ["0", "1e3", "-1", "1.5", "", "4294967296", "\u0661"]),
        (values.layer_mode, ["out", "=int8", "out=int16"]),
        (values.positive, ["0", "-1", "inf", "nan", "x"]),
        (values.share, ["0", "1", "nan", ""]),
        (values.folder, ["out.tflite", "a/b.json"]),
        (values.image_size, ["96", "0x96", "96x96x3", "ax9", "-9x9"]),
    ],
)
def test_what_is_not(read, texts):
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError, match="expected .*, received (a file, )?'"):
            read(text)
