"""Every result shows itself: as a line, as a table in a notebook, and as plain values."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil

import keras
import numpy as np
import pytest

import tfgreen as tg
from tfgreen.tables import Result

# What is no result: tools, and what Keras shows in its own way.
TOOLS = {"EnergyMeter", "Metric", "PowerLog", "TeacherCache"}
KERAS = (keras.Layer, keras.callbacks.Callback)


def subclasses(cls):
    return {cls}.union(*(subclasses(sub) for sub in cls.__subclasses__()))


def classes():
    """The public ones, and those that a field of one of them may hold."""
    for module in pkgutil.walk_packages(tg.__path__, "tfgreen."):
        if not any(part in module.name for part in (".cli", "__main__", "compat.python")):  # programs, and an error
            importlib.import_module(module.name)
    public = {getattr(tg, name) for name in tg.__all__}
    found = {cls for cls in public | subclasses(Result) if inspect.isclass(cls)}
    others = {cls for cls in found if issubclass(cls, (Exception, *KERAS)) or cls.__name__ in TOOLS}
    bases = {cls for cls in subclasses(Result) if cls.__module__ == "tfgreen.tables"}
    return sorted((cls for cls in found - others - bases if cls.__module__.startswith("tfgreen.")), key=str)


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_it_shows_itself(cls):
    for method in ("__repr__", "_repr_html_", "to_dict"):
        own = getattr(cls, method, None)
        assert callable(own) and own is not getattr(object, method, None), f"{cls.__name__} has no {method}"


def examples():
    model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(3, "relu"), keras.layers.Dense(2)])
    x = np.ones((8, 4), "float32")
    lite = tg.convert(model)
    data = tg.Data.from_arrays(x, np.arange(8) % 2, validation_share=0.25, source="<b>")
    metric = tg.Metric("accuracy").evaluate(lite, data.train)
    shown = [lite, data, data.train, metric, tg.profile(model), tg.summary(model), tg.channel_groups(model)[0]]
    shown += [tg.verify(model, lite, x), tg.benchmark(lite, runs=3), tg.check_target(lite, "tflm"), lite.audit]
    shown += [tg.Recipe(["convert"]), tg.PruneConfig(), tg.EmbodiedCarbon(300, 100), tg.break_even(2, 1, cost=3)]
    return [*shown, shown[-1].cost, tg.Budget(max_size="1kB")]


def test_they_are_html_without_markup_of_others_and_plain_values():
    for result in examples():
        html = result._repr_html_()
        assert html.startswith("<") and "<b>" not in html and "object at 0x" not in html + repr(result), type(result)
        json.dumps(result.to_dict(), allow_nan=False)
