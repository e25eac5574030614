"""try_files: a word on each file, in order."""

from __future__ import annotations

import numpy as np

from tests.deploy import cases
from tfgreen.deploy.tflite.trial import try_files


def test_a_file_runs_on_its_samples_or_on_zeros_and_says_why_it_is_refused():
    lite = cases.artifact("multi_io", "float32")
    zeros = {info.index: np.zeros(info.shape, info.dtype) for info in lite.inputs}
    index = next(iter(zeros))
    wrong = {**zeros, index: np.zeros((1, *np.add(zeros[index].shape[1:], 1)), zeros[index].dtype)}
    fine, also, refused = try_files([(lite.content, []), (lite.content, [zeros, zeros]), (lite.content, [wrong])])
    assert fine == also == "" and refused
