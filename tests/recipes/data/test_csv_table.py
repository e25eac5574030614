from __future__ import annotations

import numpy as np
import pytest

import tfgreen as tg
from tfgreen.errors import TfgreenError

TABLE = "a,b,label,price\n1,2,0,0.5\n3,4,1,1.5\n\n5,6,0,2\n7,8,1,3\n"


def read(tmp_path, text=TABLE, targets="label", **options):
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    return tg.Data.from_csv(tmp_path / "rows.csv", targets, **{"validation_share": 0, **options})


def test_columns_become_arrays(tmp_path):
    data = read(tmp_path)
    assert data.train.y.dtype == "int64" and data.train.y.tolist() == [0, 1, 0, 1]
    assert data.train.x.dtype == "float32" and data.train.x[:, 2].tolist() == [0.5, 1.5, 2, 3]
    several = read(tmp_path, targets={"kind": "label", "values": ["price"]}, features={"left": ["a"], "right": "b"})
    assert several.train.y["kind"].shape == (4,) and several.train.y["values"].shape == (4, 1)
    assert several.train.x["left"].tolist() == [[1], [3], [5], [7]] and several.train.x["right"].shape == (4,)
    assert read(tmp_path, targets="price").train.y.dtype == "float32"
    tabs = read(tmp_path, "\ufeff" + TABLE.replace(",", "\t"), delimiter="\t")
    np.testing.assert_array_equal(tabs.train.x, data.train.x)


def test_other_files_are_read_in_the_order_of_the_training_file(tmp_path):
    (tmp_path / "test.csv").write_text("label,price,more,b,a\n1,9,8,7,6\n")
    data = read(tmp_path, test=tmp_path / "test.csv", validation_share=0.5)
    assert data.test.x.tolist() == [[6, 7, 9]] and data.test.source == "test.csv"
    assert sorted(data.validation.y) == [0, 1] == sorted(data.train.y)
    (tmp_path / "test.csv").write_text("label,price,b\n1,9,8\n")
    with pytest.raises(TfgreenError, match=r"test.csv: column 'a': expected one of \['label', 'price', 'b'\]"):
        read(tmp_path, test=tmp_path / "test.csv")


BAD = {
    "a text": (TABLE.replace("3,4", "3,four"), {}, "line 3, column 'b': expected a number, received 'four'. Write"),
    "a word": (TABLE.replace("5,6,0", "5,6,cat"), {}, "line 5, column 'label': .*'cat'. Number the classes from 0"),
    "a gap": (TABLE.replace("3,4", "3,"), {}, "line 3, column 'b': .*''. Fill missing values in"),
    "NaN": (TABLE.replace("3,4", "3,nan"), {}, "line 3, column 'b': .*'nan'. Fill missing values in"),
    "a short line": (TABLE.replace("3,4,", "3,"), {}, "line 3: expected 4 columns, .* received 3"),
    "no such target": (TABLE, {"targets": "lable"}, "column 'lable': expected one of .* Did you mean 'label'"),
    "no such feature": (TABLE, {"features": ["a", "c"]}, "column 'c': expected one of"),
    "another delimiter": (TABLE.replace(",", ";"), {}, "column 'label': .* Pass delimiter=';'"),
    "a column twice": (TABLE.replace("a,b", "b,b"), {}, "expected a name for each column, received 'b' twice"),
    "no rows": ("a,label\n", {}, "received no rows"),
    "empty": ("", {}, "received no rows"),
    "no features": ("label\n1\n", {}, "features: expected one column or more"),
    "targets of another type": (TABLE, {"targets": 3}, "targets: expected names of columns"),
    "too large": (TABLE.replace("3,4", "3,1e300"), {}, "x_train: expected finite numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_named_with_line_and_column(case, tmp_path):
    text, options, message = BAD[case]
    with pytest.raises(TfgreenError, match=message) as caught:
        read(tmp_path, text, **options)
    assert "rows.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_bytes_and_missing_files(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(TfgreenError, match="rows.csv: expected a CSV file in UTF-8"):
        tg.Data.from_csv(tmp_path / "rows.csv", "b")
    with pytest.raises(TfgreenError, match="none.csv: expected a CSV file, but there is no such file"):
        tg.Data.from_csv(tmp_path / "none.csv", "b")
    with pytest.raises(TfgreenError, match="targets: expected the name of a column"):
        tg.Data.from_csv(tmp_path / "rows.csv")


def test_no_targets(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3,4\n")
    data = tg.Data.from_csv(tmp_path / "x.csv", (), validation_share=0)
    assert data.train.x.tolist() == [[1, 2], [3, 4]] and not data.train.has_targets
