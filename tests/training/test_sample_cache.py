from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tfgreen.files import own_path

X, Y = np.arange(12, dtype="float32").reshape(6, 2), np.arange(6)


def double(x, y):
    return x * 2, y


def values(dataset) -> list[float]:
    return sorted(float(x) for batch, *_ in dataset for x in batch[:, 0])


def kept(folder) -> list[str]:
    return sorted(os.listdir(folder))


def test_pipelines_of_one_folder_give_each_its_own_samples_and_write_the_same_ones_once(tmp_path):
    place = tmp_path / "not" / "there"
    train = tg.pipeline((X, Y), parse=double, cache=place)
    validation = tg.pipeline((X[:2] + 1, Y[:2]), parse=double, cache=f"{place}/")
    assert values(train) == [0, 4, 8, 12, 16, 20] and values(validation) == [2, 6]
    assert values(train) == values(tg.pipeline((X, Y), parse=double, cache=place, batch=4)) and len(kept(place)) == 2
    assert int(train.cardinality()) == 1
    factor = np.float32(3)
    others = [
        ((X[:4], Y[:4]), double, [0, 4, 8, 12]),
        ((X, Y), lambda x, y: (x * 3, y), [0, 6, 12, 18, 24, 30]),
        ((X, Y), lambda x, y: (x * factor + 1, y), [1, 7, 13, 19, 25, 31]),
        ((X, Y), lambda x, y: (tf.map_fn(lambda v: v - 1, x), y), [-1, 1, 3, 5, 7, 9]),
        ((X, Y), lambda x, y: (tf.cast(x, "int32"), y), [0, 2, 4, 6, 8, 10]),
        ((X, Y), lambda x, y: (x[::-1], y), [1, 3, 5, 7, 9, 11]),
    ]
    for data, parse, expected in others:
        assert values(tg.pipeline(data, parse=parse, cache=place)) == expected
        count = len(kept(place))
        assert values(tg.pipeline(data, parse=parse, cache=place)) == expected and len(kept(place)) == count
    assert len(kept(place)) == 8


def test_what_a_constant_that_a_function_captures_holds_counts(tmp_path):
    for factor in (2.0, 5.0):
        captured = tf.constant([factor])
        assert values(tg.pipeline((X, Y), parse=lambda x, y: (x * captured, y), cache=tmp_path))[1] == 2 * factor


def image(path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_png(np.full((4, 4, 3), value, "uint8")).numpy())


def test_a_folder_of_images_is_read_anew_when_it_or_the_size_changes(tmp_path):
    image(tmp_path / "data" / "a" / "1.png", 10)

    def read(size=(2, 2)):
        batches = tg.pipeline(tmp_path / "data", image_size=size, cache=tmp_path / "cache", shuffle=False)
        return [(x.shape[1], float(x.numpy().mean())) for xs, _ in batches for x in xs]

    assert read() == read() == [(2, 10.0)] and len(kept(tmp_path / "cache")) == 1
    assert read((3, 3)) == [(3, 10.0)]
    image(tmp_path / "data" / "a" / "2.png", 30)
    assert read() == [(2, 10.0), (2, 30.0)]
    image(tmp_path / "data" / "a" / "1.png", 50)
    os.utime(tmp_path / "data" / "a" / "1.png", ns=(1, 1))
    assert read() == [(2, 50.0), (2, 30.0)]


def test_what_cannot_be_told_from_other_data_is_kept_for_one_pipeline_and_said(tmp_path):
    (tmp_path / "x").write_text("1")
    parses = [
        lambda x, y: (tf.numpy_function(lambda v: v * 2, [x], tf.float32), y),
        lambda x, y: (x * tf.strings.to_number(tf.io.read_file(str(tmp_path / "x"))), y),
    ]
    cases = [(tf.data.Dataset.from_tensor_slices((X, Y)), double), *(((X, Y), parse) for parse in parses)]
    for data, parse in cases:
        with pytest.warns(UserWarning, match="kept for this pipeline alone"):
            dataset = tg.pipeline(data, parse=parse, cache=tmp_path / "cache")
        first = [x.numpy().tolist() for x, _ in dataset.unbatch()]
        assert sorted(first) == sorted(x.numpy().tolist() for x, _ in dataset.unbatch())
        assert len(kept(tmp_path / "cache")) == 1
        del dataset
        assert kept(tmp_path / "cache") == []


def test_threads_and_a_killed_process_are_never_in_the_way(tmp_path):
    found = []

    def fill() -> None:
        found.append(values(tg.pipeline((X, Y), parse=double, cache=tmp_path)))

    threads = [threading.Thread(target=fill) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[0, 4, 8, 12, 16, 20]] * 4 and len(kept(tmp_path)) == 1
    # What a process leaves that is killed as it writes; of one that has ended, the name is enough.
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = own_path(tmp_path / ".samples").name.replace(f"-{os.getpid()}-", f"-{int(dead.stdout)}-")
    (tmp_path / left).mkdir()
    assert values(tg.pipeline((X[:1], Y[:1]), parse=double, cache=tmp_path)) == [0]
    assert left not in kept(tmp_path) and len(kept(tmp_path)) == 2


def test_a_place_that_cannot_be_written_and_samples_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(tg.FileError, match="file.*cannot be written"):
        tg.pipeline((X, Y), parse=double, cache=tmp_path / "file")

    def broken(x, y):
        return tf.debugging.check_numerics(x / 0, "not finite"), y

    with pytest.raises(tg.FileError, match="cannot be filled.*not finite"):
        tg.pipeline((X, Y), parse=broken, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
