from __future__ import annotations

import pytest

from tests.surgery.cases import PARTS, check_part


@pytest.mark.parametrize("name", PARTS["norms"])
def test_channels_go_where_they_can_and_nothing_else_changes(name, tmp_path):
    check_part("norms", name, tmp_path)
