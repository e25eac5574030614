from __future__ import annotations

from typing import get_args

import pytest
from ai_edge_litert import schema_py_generated as schema

from tfgreen.deploy.inspection.target_tables import TARGETS, TargetName

CUSTOM = {"CIRCULAR_BUFFER", "TFLite_Detection_PostProcess"}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_tables_name_operators_and_dtypes_that_exist(target):
    assert all(hasattr(schema.BuiltinOperator, name) for name in {*target.kernels, *target.hybrid} - CUSTOM)
    assert all(hasattr(schema.TensorType, dtype.upper()) for dtype in target.dtypes.union(*target.kernels.values()))
    assert target.hybrid <= set(target.kernels)
    for name, dtypes in target.kernels.items():
        assert dtypes and (dtypes <= target.dtypes or name == "QUANTIZE")


def test_every_target_has_its_name():
    assert tuple(TARGETS) == get_args(TargetName)
