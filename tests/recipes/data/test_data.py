from __future__ import annotations

import numpy as np
import pytest

import tfgreen as tg
from tfgreen.errors import TfgreenError


def test_a_name_picks_the_form(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(9), y=np.zeros(9))
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "a.TSV").write_text("a\tb\n1\t2\n3\t4\n")
    assert tg.Data.load(tmp_path / "a.npz", seed=2).source == "a.npz"
    for name in ("a.csv", "a.TSV"):
        assert tg.Data.load(str(tmp_path / name), targets="b").train.x.shape == (1, 1)
    with pytest.raises(TfgreenError, match="expected a folder with one folder of images"):
        tg.Data.load(tmp_path)


@pytest.mark.parametrize(
    "text, options, message",
    [
        ("a.npy", {}, "a.npy: expected .npz, .csv, .tsv or .tfrecord, a folder of images or module:function, there is"),
        ("a.npz", {"target": "y"}, "'target' is no option of tg.Data.from_npz"),
        ("a.csv", {"target": "y"}, "'target' is no option of tg.Data.from_csv. Did you mean 'targets'"),
        ("a.npz", {}, "a.npz: expected an .npz file, but there is no such file"),
        (3, {}, "path: expected the path of a file"),
        ("no_module:data", {}, "there is no no_module"),
    ],
)
def test_what_is_none_of_them_is_named(text, options, message):
    with pytest.raises(TfgreenError, match=message):
        tg.Data.load(text, **options)
