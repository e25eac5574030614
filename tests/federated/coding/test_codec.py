"""UpdateCodec: what comes out is what went in, within the bound; what is no update of this model is refused, named."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tfgreen as tg
from tests.federated.updates import FLOATS, trainings
from tfgreen.federated.coding.codec import _HEADER

CODECS = st.builds(
    tg.UpdateCodec,
    top_k=st.sampled_from((None, 0.1, 1)),
    bits=st.sampled_from((8, 4)),
    error_feedback=st.booleans(),
    entropy=st.sampled_from(("deflate", None)),
)


def dense(seed: int = 0, shape: tuple[int, ...] = (40, 50)) -> tuple[list, list]:
    rng = np.random.default_rng(seed)
    before = [rng.normal(size=shape).astype("float32"), rng.normal(size=50).astype("float32")]
    return before, [w + rng.normal(size=w.shape).astype("float32") * 0.1 for w in before]


def equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def framed(body: bytes, update: bytes) -> bytes:
    """Another body, deflated, behind the header of an update, with the checksum that belongs to it."""
    header = bytearray(update[: _HEADER.size - 4])
    header[5] = 1
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = deflate.compress(body) + deflate.flush()
    return bytes(header) + struct.pack("<I", zlib.crc32(body, zlib.crc32(bytes(header)))) + body


@settings(max_examples=60)
@given(trainings(), CODECS)
def test_weights_of_any_dtype_and_shape_come_back_within_the_bound(training, codec):
    before, after = training
    originals = [w.copy() for w in before + after]
    update, state = codec.encode(before, after)
    found = codec.decode(update, before)
    assert all(map(equal, before + after, originals)) and len(found) == len(after)
    assert (state is None) == (not codec.error_feedback)
    for old, new, got in zip(before, after, found):
        assert got.dtype == new.dtype and got.shape == new.shape
        if new.dtype not in FLOATS:
            assert equal(got, new)
            continue
        assert not got[new == 0][old[new == 0] == 0].any() and not np.isnan(got.astype("float64")).any()
        change = np.abs(new.astype("float64") - old.astype("float64"))
        scale = change.max(initial=0) / (127 if codec.bits == 8 else 7)
        epsilon = float(np.spacing(np.abs(new).max(initial=0).astype("float32" if new.itemsize < 4 else new.dtype)))
        epsilon = max(epsilon, {2: 0.02 * float(np.abs(new).max(initial=0).astype("float32"))}.get(new.itemsize, 0))
        error = np.abs(got.astype("float64") - new.astype("float64"))
        sent = got != old if codec.top_k == 0.1 else np.ones(new.shape, bool)
        assert (error[sent] <= scale / 2 * 1.001 + 4 * epsilon).all()
        assert (error <= change.max(initial=0) + 4 * epsilon).all()


@settings(max_examples=30)
@given(trainings(), CODECS)
def test_every_zero_of_a_trained_weight_is_one_of_the_decoded_where_all_is_sent(training, codec):
    before, after = training
    found = codec.decode(codec.encode(before, after)[0], before)
    for old, new, got in zip(before, after, found):
        assert not got[new == 0].any()
        if (new[old == 0] == 0).all():
            assert not got[old == 0].any()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("options", [{"top_k": 0.05}, {"bits": 4}, {"top_k": 0.2, "bits": 4}], ids=str)
def test_with_error_feedback_the_updates_add_up_to_what_was_learned(dtype, options):
    """What was sent and what is left make what changed: nothing is lost, however little each update carries."""
    codec, rng, state = tg.UpdateCodec(**options), np.random.default_rng(0), None
    at_server = [np.zeros((30, 40), dtype)]
    learned, sent = 0.0, 0.0
    for _ in range(20):
        before = [w.copy() for w in at_server]
        after = [(w.astype("float64") + rng.normal(size=w.shape)).astype(dtype) for w in before]
        update, state = codec.encode(before, after, state)
        at_server = codec.decode(update, before)
        learned = learned + after[0].astype("float64") - before[0].astype("float64")
        sent = sent + at_server[0].astype("float64") - before[0].astype("float64")
    assert state[0].shape == (30, 40) and np.abs(state[0]).max() > 0.1
    rounding = {"float16": 0.1, "bfloat16": 1.0, "float32": 1e-4, "float64": 1e-12}[np.dtype(dtype).name]
    np.testing.assert_allclose(sent + state[0], learned, atol=rounding)
    without = tg.UpdateCodec(**options, error_feedback=False).encode(before, after, state)
    assert without[1] is None


def test_a_weight_that_hardly_changes_gets_through_in_the_end():
    codec, state = tg.UpdateCodec(top_k=0.01), None
    weights = [np.ones(20_000, "float32")]
    change = np.linspace(0.5, 1, 20_000, dtype="float32")
    seen = np.zeros(20_000, bool)
    for _ in range(60):
        update, state = codec.encode(weights, [weights[0] + change], state)
        new = codec.decode(update, weights)
        seen |= new[0] != weights[0]
        weights = new
    assert seen.all()


@pytest.mark.parametrize(
    "options, least", [({}, 4.3), ({"entropy": None}, 3.9), ({"top_k": 0.1}, 20), ({"bits": 4}, 9)], ids=str
)
def test_an_update_is_small(options, least):
    before, after = dense(shape=(200, 200))
    update, _ = tg.UpdateCodec(**options).encode(before, after)
    assert sum(w.nbytes for w in after) / len(update) >= least


def test_pruned_weights_are_not_sent_and_stay_zero():
    before, after = dense(shape=(200, 200))
    keep = np.random.default_rng(1).random((200, 200)) < 0.2
    pruned_before, pruned_after = [before[0] * keep, before[1]], [after[0] * keep, after[1]]
    codec = tg.UpdateCodec()
    update, state = codec.encode(pruned_before, pruned_after)
    assert len(update) < 0.25 * len(codec.encode(before, after)[0])
    found = codec.decode(update, pruned_before)
    assert not found[0][~keep].any() and not state[0][~keep].any()
    further = keep & (np.random.default_rng(2).random((200, 200)) < 0.5)  # pruned while training
    update, state = codec.encode(pruned_before, [after[0] * further, after[1]], state)
    assert np.array_equal(codec.decode(update, pruned_before)[0] != 0, further & (found[0] != 0) | further)
    assert not state[0][~further].any()


def test_a_codebook_is_sent_once_then_the_numbers_that_changed():
    rng = np.random.default_rng(0)
    values = rng.normal(size=16).astype("float32")
    numbers = rng.integers(0, 16, (100, 100))
    clustered = [values[numbers]]
    codec = tg.UpdateCodec(entropy=None)
    first, _ = codec.encode([rng.normal(size=(100, 100)).astype("float32")], clustered)
    assert 5000 <= len(first) < 5000 + 16 * 4 + 100  # four bits each, and the values
    numbers[0, :10] = (numbers[0, :10] + 1) % 16
    moved = [values[numbers]]
    second, _ = codec.encode(clustered, moved)
    assert len(second) < 10 + 100 + 20
    assert equal(codec.decode(second, clustered)[0], moved[0])
    trained = [(values + np.float32(0.01))[numbers]]  # all values move, no number does
    third, _ = codec.encode(moved, trained)
    assert len(third) < 16 * 4 + 130 and equal(codec.decode(third, moved)[0], trained[0])
    mask = [rng.random((100, 100)) < 0.5]
    update, _ = codec.encode([np.ones((100, 100), bool)], mask)
    assert len(update) < 10000 / 8 + 100 and equal(codec.decode(update, mask)[0], mask[0])


def test_a_snapshot_is_exact_and_needs_nothing_but_shapes():
    before, after = dense()
    update, _ = tg.UpdateCodec(top_k=0.1).encode(None, after)
    assert all(map(equal, tg.UpdateCodec().decode(update, before), after))


def test_weights_by_name_are_decoded_by_name():
    before, after = ({"kernel": w[0], "bias": w[1]} for w in dense())
    codec = tg.UpdateCodec()
    update, _ = codec.encode(before, after)
    assert list(codec.decode(update, before)) == ["kernel", "bias"]
    with pytest.raises(ValueError, match="expected 2 weights, as before, received weights of other names"):
        codec.decode(update, {"kernel": before["kernel"], "offset": before["bias"]})
    with pytest.raises(ValueError, match="weight 'kernel': expected finite weights, received NaN or infinity"):
        codec.encode(before, {**after, "kernel": after["kernel"] * np.nan})


def test_a_flipped_bit_anywhere_is_refused():
    before, after = dense(shape=(10, 10))
    codec = tg.UpdateCodec(top_k=0.2)
    update, _ = codec.encode(before, after)
    for place in range(len(update)):
        for bit in range(8):
            damaged = bytearray(update)
            damaged[place] ^= 1 << bit
            with pytest.raises(ValueError, match="update: expected"):
                codec.decode(bytes(damaged), before)
    for end in range(len(update)):
        with pytest.raises(ValueError, match="update: expected"):
            codec.decode(update[:end], before)
    with pytest.raises(ValueError, match="update: expected"):
        codec.decode(update + b"\0", before)


@settings(max_examples=300)
@given(trainings(), CODECS, st.data())
def test_an_update_that_is_forged_is_refused_or_decodes_to_weights_of_the_model(training, codec, data):
    """The checksum is right, the contents are not."""
    before, after = training
    update, _ = codec.encode(before, after)
    body = update[_HEADER.size :] if codec.entropy is None else zlib.decompress(update[_HEADER.size :], -15)
    forged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        forged[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = codec.decode(framed(bytes(forged), update), before)
    except tg.InvalidValueError:
        return
    for old, got in zip(before, found):
        assert got.shape == old.shape and got.dtype == old.dtype
        assert old.dtype not in FLOATS or np.isfinite(got.astype("float64")).all()


def test_no_header_makes_the_decoder_take_much_memory():
    before, after = dense(shape=(10, 10))
    update, _ = tg.UpdateCodec().encode(before, after)
    bomb = framed(bytes(200_000_000), update)
    assert len(bomb) < 300_000
    huge = bytearray(zlib.decompress(update[_HEADER.size :], -15))
    huge[:8] = struct.pack("<Q", 1 << 62)
    tracemalloc.start()
    for forged in (bomb, framed(bytes(huge), update), update[: _HEADER.size] + bytes(50_000_000)):
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]
        with pytest.raises(ValueError, match="update: expected"):
            tg.UpdateCodec().decode(forged, before)
        assert tracemalloc.get_traced_memory()[1] - held < 60_000_000
    tracemalloc.stop()


def test_what_is_no_update_of_this_model_says_what_it_is():
    before, after = dense()
    codec = tg.UpdateCodec()
    update, _ = codec.encode(before, after)
    other = [np.zeros((50, 40), "float32"), before[1]]
    with pytest.raises(ValueError, match=r"weight 0, of shape \(50, 40\): expected float32 of shape \(50, 40\), "):
        codec.decode(update, other)
    with pytest.raises(ValueError, match="weight 1.*expected float16 .*received float32"):
        codec.decode(update, [before[0], before[1].astype("float16")])
    with pytest.raises(ValueError, match="expected 3 weights, as before, received 2 weights"):
        codec.decode(update, [*before, before[0]])
    older = bytearray(update)
    older[4] = 0
    with pytest.raises(ValueError, match="expected version 2 of the format, received 0. Update the sender's tfgreen"):
        codec.decode(bytes(older), before)
    with pytest.raises(ValueError, match="bytes of something else"):
        codec.decode(b"\x80\x04\x95" + bytes(100), before)  # a pickle
    big = [np.random.default_rng(0).normal(size=(w.size * 10,)).astype("float32") for w in before]
    ten, _ = codec.encode(None, big)
    with pytest.raises(ValueError, match=r"expected at most .* bytes for these 2 weights, received .*weight 0"):
        codec.decode(ten, before)
    with pytest.raises(TypeError, match="update: expected bytes, received str"):
        codec.decode("update", before)


def test_weights_that_cannot_be_sent_are_refused_by_name():
    before, after = dense()
    codec = tg.UpdateCodec()
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="weight 1.* finite"):
            codec.encode(before, [after[0], after[1] * np.float32(bad)])
        with pytest.raises(ValueError, match="weight 1.* before training: expected finite"):
            codec.encode([before[0], before[1] * np.float32(bad)], after)
    with pytest.raises(ValueError, match=r"weight 0.*expected weight 0.*\(40, 50\), as before, received float32"):
        codec.encode(before, [after[0].T, after[1]])
    with pytest.raises(ValueError, match="after: expected 2 weights, as before, received 1"):
        codec.encode(before, after[:1])
    with pytest.raises(ValueError, match="a dtype of bool.*received str"):
        codec.encode(None, [np.array(["a"])])
    with pytest.raises(TypeError, match="after: expected a list of arrays, or a dict"):
        codec.encode(None, 3)
    with pytest.raises(TypeError, match="after: weight 0.*expected a NumPy array, received list"):
        codec.encode(None, [[1.0]])
    with pytest.raises(ValueError, match="state: expected what encode returned for these 2 weights"):
        codec.encode(before, after, (None,))
    with pytest.raises(ValueError, match=r"state of weight 0.*received shape \(3,\)"):
        codec.encode(before, after, (np.zeros(3, "float32"), None))


@pytest.mark.parametrize("dtype", FLOATS)
def test_changes_beyond_what_a_dtype_holds_are_sent_exactly(dtype):
    import ml_dtypes

    info = ml_dtypes.finfo(dtype)
    for old, new in ((-info.max, info.max), (0, info.smallest_subnormal), (info.tiny, info.tiny * 1.5)):
        before, after = [np.full(20, old, dtype)], [np.linspace(0, 1, 20).astype(dtype) * np.asarray(new, dtype)]
        found = tg.UpdateCodec().decode(tg.UpdateCodec().encode(before, after)[0], before)[0]
        assert np.isfinite(found.astype("float64")).all()
        np.testing.assert_allclose(found.astype("float64"), after[0].astype("float64"), atol=float(info.max) / 100)


@pytest.mark.parametrize("top_k", [0, -0.1, 1.5, float("nan")])
def test_a_share_outside_of_0_to_1_is_refused(top_k):
    with pytest.raises(ValueError, match="top_k: expected a number"):
        tg.UpdateCodec(top_k=top_k)


def test_settings_are_checked():
    wrong = (({"bits": 5}, ValueError), ({"error_feedback": 1}, TypeError), ({"entropy": "x"}, ValueError))
    for options, error in wrong:
        with pytest.raises(error, match=next(iter(options))):
            tg.UpdateCodec(**options)
    assert tg.Config.from_dict(tg.UpdateCodec(top_k=0.2).to_dict()) == tg.UpdateCodec(top_k=0.2)


def test_the_codec_needs_neither_tensorflow_nor_keras_nor_flower():
    code = (
        "import sys, numpy as np, tfgreen as tg; w = [np.ones((9, 9), 'float32')]\n"
        "tg.UpdateCodec().decode(tg.UpdateCodec().encode(w, w)[0], w)\n"
        "heavy = {'tensorflow', 'keras', 'flwr', 'pickle5'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
