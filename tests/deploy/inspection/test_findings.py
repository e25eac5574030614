from __future__ import annotations

import json

import pytest

from tfgreen.deploy.inspection.findings import Finding, Findings
from tfgreen.errors import InvalidTypeError

WARNING = Finding("layer <a>", "it is slow.", "Replace it.")
ERROR = Finding("layer 'b'", "it fails.", severity="error")


def test_a_finding_is_a_sentence_with_a_remedy_where_there_is_one():
    assert (str(WARNING), str(ERROR)) == ("layer <a>: it is slow. Replace it.", "layer 'b': it fails.")


def test_errors_come_first_and_the_order_stays_otherwise():
    third = Finding("layer 'c'", "it is large.")
    found = Findings([WARNING, third, ERROR])
    assert list(found) == [ERROR, WARNING, third] and found.errors == (ERROR,) and found[1] is WARNING
    assert json.loads(json.dumps(found.to_dict())) == {"findings": [f.to_dict() for f in (ERROR, WARNING, third)]}
    assert found.to_dict()["findings"][0]["severity"] == "error"


@pytest.mark.parametrize(
    "findings, line", [((), "nothing found"), ((ERROR,), "1 error"), ((WARNING, WARNING, ERROR), "1 error, 2 warnings")]
)
def test_repr_counts_and_print_lists(findings, line):
    found = Findings(findings)
    assert repr(found) == f"<Findings: {line}>" and bool(found) == bool(findings) and len(found) == len(findings)
    lines = str(found).splitlines()
    assert lines == ([f"{finding.severity}: {finding}" for finding in found] or ["nothing found"])


def test_html_escapes_what_it_shows():
    assert "layer &lt;a&gt;" in Findings([WARNING])._repr_html_() and "<a>" not in Findings([WARNING])._repr_html_()


def test_only_findings_are_taken():
    with pytest.raises(InvalidTypeError, match=r"findings\[0\]: expected a tg.Finding, received int"):
        Findings([1])
