from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tfgreen.errors import TfgreenError


def image(path, value, size=(6, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    encode = tf.io.encode_png if path.suffix == ".png" else tf.io.encode_jpeg
    path.write_bytes(encode(np.full((*size, 3), value, "uint8")).numpy())


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        image(tmp_path / "pets" / "cat" / f"{number}.png", 10 * number)
        image(tmp_path / "pets" / "dog" / f"{number}.jpg", 200 + number, size=(3, 9))
    return tmp_path / "pets"


def test_a_folder_of_classes_is_split_by_class(folder):
    data = tg.Data.from_image_folder(folder, image_size=(5, 7), validation_share=1 / 3)
    assert data.class_names == ("cat", "dog") and data.train.count == 8 and data.validation.count == 4
    x, y = next(iter(data.validation.x))
    assert x.shape == (4, 5, 7, 3) and x.dtype == "float32" and y.numpy().tolist() == [0, 0, 1, 1]
    assert (x.numpy()[2:] > 195).all() and (x.numpy()[:2] <= 50).all()
    seen = {float(value) for split in data.splits.values() for value in split.samples(99)[:, 0, 0, 0]}
    assert len(seen) == 12  # every image in one split only
    gray = tg.Data.from_image_folder(folder, image_size=(5, 7), channels=1)
    assert gray.train.samples(1).shape == (1, 5, 7, 1)


def test_it_trains_and_is_shuffled_anew(folder):
    data = tg.Data.from_image_folder(folder).with_image_size(4, 4)
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    arguments = data.train.fit_arguments(batch_size=4)
    model.fit(**arguments, validation_data=data.validation.validation_data(), verbose=0)
    orders = [np.concatenate([x[:, 0, 0, 0] for x, _ in arguments["x"]]).tolist() for _ in range(2)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]) and len(orders[0]) == data.train.count


def test_folders_of_splits(folder, tmp_path):
    for split in ("train", "val", "test"):
        image(tmp_path / "all" / split / "dog" / "1.png", 1)
        image(tmp_path / "all" / split / "cat" / "1.bmp.PNG", 2)
    (tmp_path / "all" / "train" / "dog" / "notes.txt").write_text("mine")
    data = tg.Data.from_image_folder(tmp_path / "all", image_size=(2, 2))
    assert [split.count for split in data.splits.values()] == [2, 2, 2]
    assert data.train.source == "train, 1 files that are no images left out"
    image(tmp_path / "all" / "test" / "cow" / "1.png", 2)
    with pytest.raises(TfgreenError, match="cow: expected a class of the training split"):
        tg.Data.from_image_folder(tmp_path / "all")


def test_bad_folders_are_named(folder, tmp_path):
    data = tg.Data.from_image_folder(folder)
    with pytest.raises(TfgreenError, match=r"Pass image_size=\(height, width\)"):
        data.train.samples(2)
    with pytest.raises(TfgreenError, match="pets.* has no test split. Put the classes into .*train"):
        data.test
    for size in (3, (3,), (3, 0), (3.5, 2)):
        with pytest.raises(TfgreenError, match="image_size: expected"):
            tg.Data.from_image_folder(folder, image_size=size)
    with pytest.raises(TfgreenError, match="channels: expected 1 or 3, received 2"):
        tg.Data.from_image_folder(folder, channels=2)
    (tmp_path / "empty").mkdir()
    (folder / "dog" / "empty.png").write_bytes(b"")
    with pytest.raises(TfgreenError, match="empty.png: expected an image .* received an empty file"):
        tg.Data.from_image_folder(folder)
    (folder / "dog" / "empty.png").write_text("not an image")
    with pytest.raises(TfgreenError, match="empty.png: expected an image .* received something else"):
        tg.Data.from_image_folder(folder)
    (folder / "dog" / "empty.png").write_bytes((folder / "cat" / "1.png").read_bytes()[:40])
    cut = tg.Data.from_image_folder(folder, image_size=(2, 2), validation_share=0)
    with pytest.raises(tf.errors.OpError, match="empty.png: expected an image, received damaged data"):
        cut.train.samples(99)
    for place, message in ((tmp_path / "empty", "received no folders"), (tmp_path / "none", "no such folder"),
                           (folder / "cat" / "1.png", "received a file")):  # fmt: skip
        with pytest.raises(TfgreenError, match=message):
            tg.Data.from_image_folder(place)
    (folder / "cow").mkdir()
    with pytest.raises(TfgreenError, match="cow: expected images"):
        tg.Data.from_image_folder(folder)


def test_the_files_are_checked_without_tensorflow(folder):
    code = (
        "import sys, tfgreen as tg; data = tg.Data.load(sys.argv[1], image_size=(4, 4)); data.validation\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True, text=True)
