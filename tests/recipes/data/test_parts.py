from __future__ import annotations

import pytest

from tfgreen.errors import FileError, InvalidValueError, invalid_value
from tfgreen.recipes.data.parts import check_file, naming


def test_errors_get_the_name_of_the_file_once(tmp_path):
    with pytest.raises(InvalidValueError, match="^data.npz: x: expected"):
        with naming("data.npz"):
            raise invalid_value("x", expected="numbers", received="texts")
    with pytest.raises(FileError, match="^other.npz: damaged"):
        with naming("data.npz"):
            raise FileError("other.npz: damaged")
    with pytest.raises(FileError, match="expected a CSV file, received a folder"):
        check_file(tmp_path, "a CSV file")
