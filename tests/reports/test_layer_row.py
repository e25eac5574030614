"""LayerRow: comes back from plain values, refuses what is no number."""

from __future__ import annotations

import pytest

from tfgreen.reports.layer_row import LayerRow


def test_rows_come_back_and_bad_ones_are_refused():
    row = LayerRow(path="conv", macs=3, sparsity=0.5, reason="small")
    assert LayerRow(**row.to_dict()) == row
    with pytest.raises(TypeError, match="layer 'conv', macs"):
        LayerRow(path="conv", macs="3")
