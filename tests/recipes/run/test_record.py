"""What is told of a step."""

from __future__ import annotations

import json

from tfgreen.recipes.run.account import Spent
from tfgreen.recipes.run.record import Record
from tfgreen.reports.curves import training_curves
from tfgreen.reports.limits import Limit


def test_it_goes_through_json():
    record = Record(
        name="train", key="k", settings={"epochs": 2}, spent=Spent(1.0, 2.0, None, "estimate"), notes=("a",),
        curves=training_curves({"loss": [1.0, float("nan")]}), limits=(Limit(name="x", limit=1, value=2),), cut="spent",
        exports=("float32",), values={"variants": [1]},
    )  # fmt: skip
    again = Record.from_dict(json.loads(json.dumps(record.to_dict())))
    assert again.to_dict() == record.to_dict() and again.spent == record.spent and again.limits == record.limits
    assert record.told() == {
        "name": "train", "settings": {"epochs": 2}, "seconds": 1.0, "joules": 2.0, "notes": ["a"],
    }  # fmt: skip
