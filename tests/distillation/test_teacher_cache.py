"""The file of teacher outputs: exact to its precision, whole or not at all, with the rights of other files."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest

import tfgreen as tg


@pytest.mark.parametrize("options", [{}, {"dtype": "int8"}, {"top_k": 4}, {"top_k": 4, "dtype": "float32"}])
def test_what_is_decoded_is_what_was_encoded_to_its_precision(options):
    rng = np.random.default_rng(0)
    z = (rng.normal(size=(50, 10)) * 5).astype("float32") + 300  # softmax logits: the 300 mean nothing
    cache = tg.TeacherCache("unused", **options)
    kept = cache.encode(z, softmax=True)
    for field, (dtype, shape) in cache.fields((10,), softmax=True).items():
        kept[field] = kept[field].astype(dtype)
        assert kept[field].shape == (50, *shape)
    got = np.asarray(cache.decode(kept, 10), "float64")
    p = np.exp(z.astype("float64") - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    q = np.exp(got - got.max(-1, keepdims=True))
    q /= q.sum(-1, keepdims=True)
    top = np.argsort(-p, -1)[:, : options.get("top_k", 10)]
    step = (z.max(-1) - z.min(-1)) / 254 if "int8" in options.values() else np.full(50, 2.0**-7)
    exact = np.take_along_axis(np.log(q / p), top, -1)
    assert (np.abs(exact) <= step[:, None] + 1e-3).all()
    if "top_k" in options:  # the others share what is left of the probability
        rest = 1 - np.take_along_axis(p, top, -1).sum(-1)
        np.testing.assert_allclose(1 - np.take_along_axis(q, top, -1).sum(-1), rest, rtol=2e-2)


def test_features_and_sigmoid_logits_are_not_shifted():
    z = np.array([[3.0, 5.0], [-1.0, 0.25]], "float32")
    for dtype in ("float16", "float32", "int8"):
        cache = tg.TeacherCache("unused", dtype=dtype)
        kept = cache.encode(z, softmax=False)
        np.testing.assert_allclose(cache.decode(kept, 2), z, atol=0.03)


def test_values_beyond_float16_are_an_error_that_says_what_to_do():
    cache = tg.TeacherCache("unused")
    with pytest.raises(ValueError, match="float16.*dtype='float32'"):
        cache.encode(np.full((1, 2), 1e5, "float32"), softmax=False)


KEY = {"teachers": ["a"], "data": "b"}
FIELDS = {"values": ("float16", (3,)), "scale": ("float32", ()), "indices": ("uint8", (2, 2))}


def batches(*sizes: int):
    rng = np.random.default_rng(0)
    return [
        {
            "values": rng.normal(size=(size, 3)).astype("float16"),
            "scale": rng.normal(size=size).astype("float32"),
            "indices": rng.integers(0, 256, (size, 2, 2)).astype("uint8"),
        }
        for size in sizes
    ]


def test_what_is_written_is_read_back_whatever_the_batches(tmp_path):
    parts = batches(4, 1, 6)
    written = tg.TeacherCache(tmp_path / "cache").write(KEY, 11, FIELDS, parts)
    read = tg.TeacherCache(str(tmp_path / "cache")).open(KEY)
    for name, (dtype, shape) in FIELDS.items():
        expected = np.concatenate([part[name] for part in parts])
        for found in (written, read):
            assert found[name].dtype == dtype and found[name].shape == (11, *shape)
            np.testing.assert_array_equal(found[name], expected)
    assert os.listdir(tmp_path) == ["cache"]


def test_only_a_file_of_the_same_key_is_opened(tmp_path):
    cache = tg.TeacherCache(tmp_path / "cache")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.open(KEY) is None  # there is none yet
    cache.write(KEY, 2, FIELDS, batches(2))
    with pytest.warns(UserWarning, match="is of other data; it is made anew"):
        assert cache.open({**KEY, "data": "c"}) is None


@pytest.mark.parametrize("count", [3, 5])
def test_more_or_fewer_samples_than_before_are_noticed_and_leave_the_earlier_file(tmp_path, count):
    cache = tg.TeacherCache(tmp_path / "cache")
    cache.write(KEY, 4, FIELDS, batches(4))
    before = cache.path.read_bytes()
    with pytest.raises(ValueError, match=f"{count} samples, as when it was read before, received 4"):
        cache.write(KEY, count, FIELDS, batches(2, 2))
    assert cache.path.read_bytes() == before and os.listdir(tmp_path) == ["cache"]


def test_the_file_has_the_rights_of_other_files(tmp_path):
    tg.TeacherCache(tmp_path / "cache").write(KEY, 2, FIELDS, batches(2))
    (tmp_path / "other").write_bytes(b"")
    assert (tmp_path / "cache").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_the_config_is_plain_and_gives_the_cache_again():
    cache = tg.TeacherCache("a/cache", dtype="float32", top_k=3)
    assert cache.get_config() == {"path": os.path.join("a", "cache"), "dtype": "float32", "top_k": 3}
    assert tg.TeacherCache.from_config(cache.get_config()).get_config() == cache.get_config()


@pytest.mark.parametrize(
    ("error", "match", "options"),
    [
        (TypeError, "path", {"path": 3}),
        (ValueError, "dtype.*'float16'", {"dtype": "float8"}),
        (ValueError, "top_k", {"top_k": 0}),
        (ValueError, "top_k", {"top_k": 1.5}),
        (ValueError, "top_k.*int8", {"top_k": 2, "dtype": "int8"}),
    ],
)
def test_bad_settings(error, match, options):
    with pytest.raises(error, match=match):
        tg.TeacherCache(**{"path": "unused", **options})
