"""environment: plain values, and no package imported for them."""

from __future__ import annotations

import json
import subprocess
import sys


def test_environment_is_plain_and_imports_no_package():
    code = (
        "import sys, json\nfrom tfgreen.reports.environment import environment\nprint(json.dumps(environment()))\n"
        "if {'tensorflow', 'keras', 'codecarbon'} & set(sys.modules): raise SystemExit('heavy import')"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    data = json.loads(done.stdout)
    assert data["packages"]["tensorflow"] and data["packages"]["keras"] and data["cores"] >= 1
