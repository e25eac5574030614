"""Whether sparse kernels can run a sparse file: the rules of the policy that prunes for them, read off the file."""

from __future__ import annotations

import functools
import re

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests.techniques.test_policies import POLICY, mobile, named
from tfgreen.deploy.inspection import benchmark, check_target, sparse_inference


def sparse(share=0.9, **parts):
    keras.utils.set_random_seed(0)
    model = mobile(keras, middle=parts.pop("middle", wide), **parts)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(np.where(rng.random(weight.shape) < share, 0, weight))
    return model


@functools.cache
def plain(how):
    return tg.convert(sparse(), sparse_weights=how)


def wide(k, x):
    """1x1 convolutions that are large enough to be stored sparse."""
    return k.layers.Conv2D(8, 1, name="narrow")(k.layers.Conv2D(256, 1, name="broad")(x))


def with_probe(*args, **kwargs):
    return lambda k, x: named(*args, **kwargs)(k, wide(k, x))


def head_of_one_number(k, x):
    return k.layers.Dense(4, "softmax", name="fc")(k.layers.GlobalAveragePooling2D(name="pool")(x))


@pytest.mark.parametrize(
    "parts, reason",
    [
        ({}, ""),
        ({"head": head_of_one_number}, ""),
        ({"middle": with_probe("LeakyReLU", 0.1)}, ""),
        ({"middle": with_probe("DepthwiseConv2D", 3, strides=2, padding="same")}, "DEPTHWISE_CONV_2D of probe"),
        ({"middle": with_probe("Conv2D", 8, 3, padding="same")}, "CONV_2D of probe: expected kernel 1x1"),
        ({"middle": with_probe("Conv2D", 8, 1, groups=2)}, r"CONV_2D of \(.*, before pad: expected"),
        ({"middle": with_probe("MaxPooling2D", 2)}, "MAX_POOL_2D of probe: it cannot compute channels first"),
        ({"stem": lambda k, x: k.layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(x)}, "CONV_2D of stem"),
        ({"head": lambda k, x: k.layers.Flatten(name="flat")(x)}, "there is no MEAN"),
        ({"share": 0.6}, "60% of its 1x1|6.% of its 1x1"),
    ],
)
def test_the_first_blocker_is_named(parts, reason):
    share = parts.get("share", 0.9)
    model = sparse(**{**parts, "share": share})
    quantization = "float16" if {"head", "stem"} & set(parts) else "float32"  # whose kernels are unpacked twice
    lite = tg.convert(model, quantization=quantization, sparse_weights=True)
    assert sparse_inference.stores_sparse(lite)
    found = sparse_inference.dense_because(lite)
    assert re.match(reason, found) if reason else not found, found
    if share > 0.7:  # the policy looks at the layers only
        try:
            POLICY(model)
        except tg.InvalidValueError:
            assert found
        else:
            assert not found


def test_the_finding_speaks_of_x86_and_of_the_rest():
    lite = plain(True)
    (finding,) = check_target.check_target(lite, "xnnpack")
    assert "no sparse kernels on x86 with AVX" in str(finding) and "on ARM and WebAssembly it can" in str(finding)
    blocked = tg.convert(sparse(middle=with_probe("MaxPooling2D", 2)), sparse_weights=True)
    (finding,) = [f for f in check_target.check_target(blocked, "xnnpack") if "sparse" in f.subject]
    assert "runs it dense too: MAX_POOL_2D of probe" in str(finding) and finding.severity == "warning"
    (error,) = check_target.check_target(lite, "tflm").errors
    assert "DENSIFY" in error.subject and "sparse_weights=False" in error.fix
    assert not check_target.check_target(plain(False), "tflm")


def test_a_benchmark_says_that_no_sparse_kernel_runs_here(monkeypatch):
    lite, dense = (plain(how) for how in (True, False))
    monkeypatch.setattr(benchmark, "runs_on_x86", lambda: True)
    results = tg.benchmark({"sparse": lite, "dense": dense}, runs=2)
    assert [note for note in results.notes if "sparse" in note] == [f"'sparse': {sparse_inference.NO_KERNEL_ON_X86}"]
    assert results["sparse"].note in str(results["sparse"]) and not results["dense"].note
    monkeypatch.setattr(benchmark, "runs_on_x86", lambda: False)
    assert tg.benchmark(lite, runs=2).note == ""
