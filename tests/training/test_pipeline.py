from __future__ import annotations

import time
from contextlib import nullcontext

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg


def arrays(count=20):
    return np.arange(count * 2, dtype="float32").reshape(count, 2), np.arange(count)


def rows() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(arrays())


def seen(dataset) -> list[int]:
    return [int(label) for _, labels in dataset for label in labels]


def noisy(x, y):
    return x + tf.random.uniform(()), y


def test_arrays_come_in_batches_shuffled_anew_and_augmented_anew():
    batches = tg.pipeline(arrays(), augment=noisy, batch=8)
    assert [len(y) for _, y in batches] == [8, 8, 4]
    first, second = seen(batches), seen(batches)
    assert sorted(first) == sorted(second) == list(range(20)) and first != second
    x = {int(label): row for rows, labels in batches for row, label in zip(rows.numpy(), labels)}
    again = {int(label): row for rows, labels in batches for row, label in zip(rows.numpy(), labels)}
    assert all(0 <= x[i][0] - 2 * i < 1 for i in x) and any(not np.array_equal(x[i], again[i]) for i in x)


def test_the_smaller_batch_is_the_last_though_it_is_done_before_others():
    def slow(x, y):
        tf.numpy_function(lambda _: time.sleep(0.002), [y], [])
        return x, y

    batches = tg.pipeline(arrays(801), augment=slow, batch=8)
    assert [[len(y) for _, y in batches] for _ in range(3)] == [[8] * 100 + [1]] * 3


def test_a_seed_gives_the_same_order_and_no_shuffling_that_of_the_data():
    assert seen(tg.pipeline(arrays(), seed=3)) == seen(tg.pipeline(arrays(), seed=3))
    assert seen(tg.pipeline(arrays(), shuffle=False, batch=7)) == list(range(20))
    x, y = arrays()
    dicts = tg.pipeline(({"a": x, "b": x}, y, np.ones(20)), batch=20, shuffle=False)
    inputs, labels, weights = next(iter(dicts))
    assert set(inputs) == {"a", "b"} and len(weights) == len(labels) == 20


def test_samples_alone_and_dicts_are_augmented_as_a_function_of_one_sample_says():
    x, _ = arrays(5)
    (rows,) = tg.pipeline(x, augment=lambda row: (row[::-1], row.shape[0]), batch=5, shuffle=False)
    np.testing.assert_array_equal(rows[0], x[:, ::-1])
    assert rows[1].numpy().tolist() == [2] * 5
    (dicts,) = tg.pipeline({"a": x}, augment=lambda sample: sample["a"] + 1, batch=5, shuffle=False)
    np.testing.assert_array_equal(dicts, x + 1)


def test_samples_of_different_shapes_are_augmented_before_they_are_batched():
    ragged = tf.data.Dataset.range(6).map(lambda i: (tf.ones((3 + i, 2)) * tf.cast(i, "float32"), i))
    batches = tg.pipeline(ragged, augment=lambda x, y: (tf.image.random_crop(x, (3, 2)), y), batch=4)
    found = {int(label): row for rows, labels in batches for row, label in zip(rows.numpy(), labels)}
    assert sorted(found) == list(range(6)) and all((found[i] == i).all() for i in found)


@pytest.mark.parametrize("cache", [True, "file", False])
def test_what_is_slow_runs_once_before_the_cache(cache, tmp_path):
    counter = tf.Variable(0)

    def parse(x, y):
        counter.assign_add(1)
        return x, y

    samples = tf.data.Dataset.from_tensor_slices(arrays())
    says = pytest.warns(UserWarning, match="kept for this pipeline alone") if cache == "file" else nullcontext()
    with says:
        place = tmp_path / "cache" if cache == "file" else cache
        batches = tg.pipeline(samples, parse=parse, cache=place, augment=noisy)
    for _ in range(3):
        assert sorted(seen(batches)) == list(range(20))
    assert int(counter) == (60 if cache is False else 20)


def test_records_are_parsed(tmp_path):
    files = [tmp_path / f"{part}.tfrecord" for part in range(2)]
    for part, file in enumerate(files):
        with tf.io.TFRecordWriter(str(file)) as writer:
            for value in range(5):
                feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[5 * part + value]))
                writer.write(tf.train.Example(features=tf.train.Features(feature={"y": feature})).SerializeToString())

    def parse(record):
        y = tf.io.parse_single_example(record, {"y": tf.io.FixedLenFeature((), tf.int64)})["y"]
        return tf.cast(y, "float32"), y

    assert sorted(seen(tg.pipeline(files, parse=parse, batch=4))) == list(range(10))
    assert len(seen(tg.pipeline(files[0], parse=parse))) == 5
    with pytest.raises(ValueError, match="parse: expected a function of one serialized record"):
        tg.pipeline(files)


def test_a_folder_of_images_gives_images_and_classes(tmp_path):
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for index, suffix in enumerate((".png", ".jpg", ".txt")):
            image = tf.constant(np.full((9, 7, 3), 100 * number + 50, "uint8"))
            data = tf.io.encode_png(image) if suffix != ".jpg" else tf.io.encode_jpeg(image)
            tf.io.write_file(str(tmp_path / name / f"{index}{suffix}"), data)
    images, labels = next(iter(tg.pipeline(tmp_path, image_size=(6, 4), batch=8)))
    assert images.shape == (4, 6, 4, 3) and images.dtype == "float32" and sorted(labels.numpy()) == [0, 0, 1, 1]
    np.testing.assert_allclose(images.numpy().mean((1, 2, 3)), 100 * labels.numpy() + 50, atol=2)
    model = keras.Sequential([keras.Input((6, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert tg.fit(model, tg.pipeline(tmp_path, image_size=(6, 4)), verbose=0).epoch == [0]
    with pytest.raises(ValueError, match="image_size"):
        tg.pipeline(tmp_path)
    with pytest.raises(tg.FileError, match="one folder of images"):
        tg.pipeline(tmp_path / "cat", image_size=(6, 4))
    with pytest.raises(ValueError, match=r"image_size: expected \(height, width\)"):
        tg.pipeline(tmp_path, image_size=(6, 4, 3))


@pytest.mark.parametrize(
    "data, options, error, message",
    [
        (arrays(), {"batch": 0}, ValueError, "batch"),
        (arrays(), {"augment": 3}, TypeError, "augment"),
        (arrays(), {"augment": lambda x, y: (np.asarray(x), y)}, ValueError, "TensorFlow operations.*numpy_function"),
        (arrays(), {"augment": lambda x, y: (x / (1 // 0), y)}, ValueError, "augment.*fails with ZeroDivisionError"),
        (arrays(), {"parse": lambda x, y: {}["x"]}, ValueError, "parse.*fails with KeyError"),
        (arrays(), {"cache": 3}, TypeError, "cache"),
        (arrays(), {"cache": ""}, ValueError, "cache.*empty"),
        (rows().batch(4), {}, ValueError, "single samples, received batches.*unbatch"),
        (rows().batch(4).map(noisy).prefetch(1), {}, ValueError, "single samples, received batches"),
        (rows().take(0), {}, ValueError, "at least one sample"),
        ((np.ones(3), np.ones(4)), {}, ValueError, r"as many samples.*\[3, 4\]"),
        ((np.ones((0, 2)), np.ones(0)), {}, ValueError, "at least one"),
        ("nothing.tfrecord", {}, ValueError, "files that exist.*nothing.tfrecord"),
        (iter([1]), {}, TypeError, "data"),
    ],
    ids=range(14),
)
def test_bad_arguments_are_named(data, options, error, message):
    with pytest.raises(error, match=message):
        tg.pipeline(data, **options)


def test_samples_that_are_windows_of_rows_are_no_batches():
    windows = rows().batch(4, drop_remainder=True).map(lambda x, y: (x, y[0]))
    (batch,) = tg.pipeline(windows, batch=5)
    assert batch[0].shape == (5, 4, 2) and len(list(tg.pipeline(rows().batch(4).unbatch(), batch=10))) == 2
    (one,) = tg.pipeline(rows().batch(4).flat_map(lambda x, y: tf.data.Dataset.from_tensors((x, y[0]))), batch=5)
    assert one[0].shape == (5, 4, 2)


def test_a_file_that_holds_no_records_is_named(tmp_path):
    file = tmp_path / "junk.tfrecord"
    for content, message in ((b"nothing that is a record", "junk.tfrecord: expected TFRecords"), (b"", "1 empty file")):
        file.write_bytes(content)
        with pytest.raises((tg.FileError, ValueError), match=message):
            tg.pipeline(file, parse=lambda record: record)


def test_several_inputs_in_a_list_are_taken_as_fit_takes_them():
    x = np.arange(12, dtype="float32").reshape(6, 2)
    for data, first in ((([x, x + 1], x[:, 0]), lambda batch: batch[0]), ([x, x + 1], lambda batch: batch[0])):
        one, other = first(next(iter(tg.pipeline(data, batch=4, shuffle=False))))
        np.testing.assert_array_equal(one, x[:4])
        np.testing.assert_array_equal(other, x[:4] + 1)


@pytest.mark.parametrize("name", ["augment", "parse"])
@pytest.mark.parametrize("nothing", [None, (None, None), ()])
def test_a_function_that_returns_nothing_is_named(name, nothing):
    with pytest.raises(ValueError, match=f"{name}: expected a function that returns the sample.*one that returns None"):
        tg.pipeline((np.ones((4, 2)), np.ones(4)), **{name: lambda x, y: nothing})
