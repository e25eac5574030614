"""What a run holds."""

from __future__ import annotations

import numpy as np

from tests.recipes.run.tasks import points, task_of
from tfgreen.recipes.run.state import CALIBRATION_SAMPLES


def test_data_for_verbs_is_of_the_training_split():
    data = points(count=1000)
    seen = task_of(data=data).calibration_data
    assert len(seen) == CALIBRATION_SAMPLES and {row.tobytes() for row in seen} <= {r.tobytes() for r in data.train.x}
    assert not {row.tobytes() for row in seen} & {row.tobytes() for row in np.concatenate([data.test.x])}
