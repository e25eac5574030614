from __future__ import annotations

import numpy as np
import pytest

import tfgreen as tg
from tfgreen.errors import TfgreenError

MODULE = """
import numpy as np
import tensorflow as tf
import tfgreen as tg

x, y = np.arange(20.0), np.arange(20) % 2

def arrays():
    return x, y, np.ones(20)

def dataset():
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)

def several():
    return {"train": (x, y), "val": dataset(), "test": tg.Split(x[:2], y[:2]), }

def ready():
    return tg.Data.from_arrays(x, y, validation_share=0.5)

def inputs():
    return {"a": x, "b": x}

def nothing():
    return None

def pair():
    return [x, y]

def without_train():
    return {"test": (x, y)}

def unequal():
    return x, y[:3]

def needs(path):
    return x, y

class Holder:
    @staticmethod
    def data():
        return x, y

number = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    name = f"task_{tmp_path.name.translate(str.maketrans('[]-.', '____'))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_function_returns_data_in_any_form(module):
    data = tg.Data.from_function(f"{module}:arrays")
    assert data.train.count == 18 and data.validation.sample_weight.shape == (2,) and data.source == f"{module}:arrays"
    several = tg.Data.load(f"{module}:several", validation_share=0.2)
    assert [split.count for split in several.splits.values()] == [20, None, 2]
    assert sorted(np.concatenate([x for x, _ in several.validation.x]).tolist()) == list(range(20))
    assert tg.Data.from_function(f"{module}:ready").validation.count == 10
    assert list(tg.Data.from_function(f"{module}:inputs").train.x) == ["a", "b"]
    assert tg.Data.from_function(f"{module}:Holder.data").train.count == 18


def test_nothing_is_drawn_from_a_dataset(module):
    data = tg.Data.from_function(f"{module}:dataset")
    assert list(data.splits) == ["train"] and data.train.samples(3).tolist() == [0, 8, 16]
    message = "no validation split. Return a dict with 'validation' from .*:dataset. It is not drawn"
    with pytest.raises(TfgreenError, match=message):
        data.validation


@pytest.mark.parametrize(
    "name, message",
    [
        ("nothing", "train: expected a tuple .* received NoneType"),
        ("pair", "train: expected a tuple .* received list"),
        ("without_train", "expected the key 'train'.* received \\['test'\\]"),
        ("unequal", "y_train: expected a label for each of 20 samples, received 3"),
        ("needs", "expected a function that takes no arguments: missing a required argument: 'path'"),
        ("number", "expected a function, received a int"),
        ("aray", "there is no aray. Did you mean 'arrays'"),
    ],
)
def test_what_cannot_be_used_is_named(name, message, module):
    with pytest.raises(TfgreenError, match=f"{module}:{name}: .*{message}"):
        tg.Data.from_function(f"{module}:{name}")


@pytest.mark.parametrize(
    "text, message",
    [
        ("no_such_module:data", "there is no no_such_module"),
        ("no_such.deep:data", "there is no no_such.deep"),
        ("os", "module:function"),
        (3, "module:function"),
    ],
)
def test_modules_that_are_not_there(text, message):
    with pytest.raises(TfgreenError, match=message):
        tg.Data.from_function(text)
