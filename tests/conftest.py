"""Shared fixtures: every test starts from the same seed and with fresh layer names, and collecting garbage is cheap."""

from __future__ import annotations

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# By default an example that takes 0.2 s fails, as the first on a busy machine does: TensorFlow starts within it.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

gc.set_threshold(20_000, 20, 20)  # tracing makes many objects that stay: by default 7 % of the time goes there


@pytest.fixture(autouse=True, scope="module")
def _few_objects_to_collect():
    """TensorFlow's converter asks for a full garbage collection, which walks over all that the process holds: half the
    time of a small conversion. What a module of tests finds there is left out of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _clean_session():
    """Before as well as after: what is parametrized over models has made them when the first test of a process runs."""
    import keras

    keras.backend.clear_session(free_memory=False)  # a full garbage collection per test would take minutes in all
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session(free_memory=False)
