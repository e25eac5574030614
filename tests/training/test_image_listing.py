"""Images in folders: listed and checked without TensorFlow, decoded when they are needed, and named where damaged."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tfgreen.training.image_listing import check_image_size, class_folders, list_images


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("cat", "dog", ".hidden")):
        (tmp_path / name).mkdir()
        for index in range(2):
            pixels = np.full((6, 4, 3), 100 * number + index, "uint8")
            (tmp_path / name / f"{index}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    return tmp_path


def test_images_and_class_numbers(folder):
    (folder / "cat" / "notes.txt").write_text("mine")
    classes = class_folders(folder)
    listing, left_out = list_images(folder, classes, (3, 2))
    assert classes == ["cat", "dog"] and (len(listing), left_out) == (4, 1)
    found = [(float(image[0, 0, 0]), int(label)) for image, label in listing.samples()]
    assert found == [(0, 0), (1, 0), (100, 1), (101, 1)]
    assert listing.samples().element_spec[0].shape == (3, 2, 3)
    (images, labels), *_ = listing.pick(np.array([3, 0])).batches(8, shuffle=False)
    assert images.shape == (2, 3, 2, 3) and labels.numpy().tolist() == [1, 0]


def test_a_damaged_file_is_named_by_the_data_and_by_the_pipeline(folder):
    whole = (folder / "cat" / "1.png").read_bytes()
    (folder / "cat" / "1.png").write_bytes(whole[:40])
    data = tg.Data.from_image_folder(folder, image_size=(3, 2), validation_share=0)
    for batches in (tg.pipeline(folder, image_size=(3, 2)), data.train.x):
        with pytest.raises(tf.errors.OpError, match="1.png: expected an image, received damaged data"):
            list(batches)


@pytest.mark.parametrize("size", [3, (3,), (3, 0), (3.5, 2)])
def test_bad_sizes(size):
    with pytest.raises((ValueError, TypeError), match="image_size: expected"):
        check_image_size(size)
