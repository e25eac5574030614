"""The fingerprint of data: the same for the same samples in every process, another where one of them changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tfgreen.errors import TfgreenError
from tfgreen.recipes.measure.fingerprint import fingerprint

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = np.arange(40) % 2


def of_arrays(x=X, y=Y, weights=None, **options):
    return fingerprint(tg.Data.from_arrays(x, y, weights, **options))


def test_arrays():
    changed = X.copy()
    changed[-1, -1] = np.nextafter(changed[-1, -1], 9)
    labels = Y.copy()
    labels[3] = 1 - labels[3]
    assert of_arrays(X.copy(), source="elsewhere") == of_arrays() == of_arrays(np.asfortranarray(X)[::1])
    others = [
        of_arrays(changed), of_arrays(y=labels), of_arrays(X[::-1].copy()), of_arrays(X.astype("float64")),
        of_arrays(X.reshape(40, 3, 1)), of_arrays(weights=np.ones(40)), of_arrays(seed=1), of_arrays(y=None),
        of_arrays(validation_share=0),
        of_arrays({"a": X}), of_arrays({"b": X}), of_arrays([X]), of_arrays({"a": X[:, :1], "b": X[:, 1:]}),
        of_arrays(test=(X, Y)), of_arrays(y=Y.astype("int32")), of_arrays(y=Y.astype(str)),
    ]  # fmt: skip
    assert len({of_arrays(), *others}) == len(others) + 1


def test_the_same_in_another_process(tmp_path):
    np.savez(tmp_path / "data.npz", x_train=X, y_train=Y)
    code = f"import tfgreen as tg; from tfgreen.recipes.measure.fingerprint import fingerprint; \
print(fingerprint(tg.Data.load({str(tmp_path / 'data.npz')!r})))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert found == fingerprint(tg.Data.load(tmp_path / "data.npz")) == of_arrays()


def test_images_are_read_by_their_bytes_wherever_they_lie(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "one" / name).mkdir(parents=True)
        for number in range(5):
            pixels = np.full((4, 4, 3), 40.0 * number)
            keras.utils.save_img(tmp_path / "one" / name / f"{number}.png", pixels, scale=False)

    def read(folder, **options):
        return fingerprint(tg.Data.from_image_folder(tmp_path / folder, validation_share=0.2, **options))

    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two" / "dog" / "4.png").rename(tmp_path / "two" / "dog" / "5.png")
    assert read("one") == read("two") != read("one", image_size=(2, 2))
    assert read("one") != read("one", channels=1) != read("one", seed=3)
    shutil.copy(tmp_path / "two" / "dog" / "0.png", tmp_path / "two" / "dog" / "3.png")
    assert read("one") != read("two")
    data = tg.Data.from_image_folder(tmp_path / "one")
    shutil.rmtree(tmp_path / "one")
    with pytest.raises(TfgreenError, match="png: cannot be read"):
        fingerprint(data)


def test_records(tmp_path):
    def read(name="a", change=0.0, **options):
        with tf.io.TFRecordWriter(str(tmp_path / f"{name}.tfrecord")) as writer:
            for number in range(10):
                feature = tf.train.Feature(float_list=tf.train.FloatList(value=[number + change * (number == 9)]))
                example = tf.train.Example(features=tf.train.Features(feature={"x": feature, "y": feature}))
                writer.write(example.SerializeToString())
        schema = {"inputs": {"x": {"dtype": "float32"}}, "targets": {"y": {"dtype": options.pop("dtype", "float32")}}}
        return fingerprint(tg.Data.from_tfrecord(tmp_path / f"{name}.tfrecord", schema, **options))

    assert read() == read("b") and len({read(), read(change=1.0), read(seed=1), read(dtype="float64")}) == 4


def batches(x=X, y=Y, size=8):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(size)


def of_dataset(dataset):
    return fingerprint(tg.Data.from_arrays(dataset))


def test_a_dataset_is_read_by_its_samples_in_any_order():
    changed = X.copy()
    changed[5, 0] += 1
    first = of_dataset(batches())
    shuffled = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(40).batch(8)
    assert first == of_dataset(batches()) == of_dataset(shuffled)
    texts = [np.array(words) for words in (["ab", "c"] * 20, ["a", "bc"] * 20)]
    others = [batches(changed), batches(X, 1 - Y), batches(X[:-1], Y[:-1]), batches(size=4), *map(batches, texts)]
    assert len({first, *map(of_dataset, others)}) == 7


def test_a_dataset_of_other_samples_in_each_pass_is_refused():
    rng = np.random.default_rng()
    noisy = lambda x: (x + rng.normal(size=x.shape)).astype("float32")  # noqa: E731
    random = batches().map(lambda x, y: (tf.ensure_shape(tf.numpy_function(noisy, [x], tf.float32), x.shape), y))
    with pytest.raises(TfgreenError, match=r"The train split \(arrays\) gives other samples in each pass"):
        of_dataset(random)
    once = iter(zip(X, Y))
    spent = tf.data.Dataset.from_generator(lambda: once, output_signature=(tf.TensorSpec((3,)), tf.TensorSpec(())))
    with pytest.raises(TfgreenError, match="gives other samples in each pass"):
        of_dataset(spent.batch(8))
    with pytest.raises(TfgreenError, match="data: expected a tg.Data"):
        fingerprint(X)


def test_memory_stays_flat():
    data = tg.Data.from_arrays(np.zeros((60, 1000, 1000), "float32")[:, ::2], validation_share=0)  # 120 MB
    tracemalloc.start()
    try:
        fingerprint(data)
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()
