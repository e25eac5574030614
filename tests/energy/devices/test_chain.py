"""The files that measure this machine compute what they count."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tfgreen.energy.devices.chain import Chain


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_files_compute_what_they_count(dtype):
    chain = Chain(dtype, (1, 6, 6, 8)).convolutions(16, 3, 1).convolutions(16, 1, 1)
    assert chain.macs == 36 * 8 * 16 * 9 + 36 * 16 * 16
    for built in (chain, Chain(dtype, (1, 4, 4, 8)).depthwise(2), Chain(dtype, (1, 8)).dense(4, 1),
                  Chain(dtype, (1, 8)).functions("LOGISTIC", 2), Chain(dtype, (1, 8)).functions("SOFTMAX", 1),
                  Chain(dtype, (1, 4, 4, 8)).transposed(2, 1), Chain(dtype, (1, 2, 8, 8)).products(1)):
        interpreter = Interpreter(model_content=built.content())
        interpreter.allocate_tensors()
        interpreter.invoke()
        output = interpreter.get_output_details()[0]
        assert interpreter.get_tensor(output["index"]).size == np.prod(output["shape"])
