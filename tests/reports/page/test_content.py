"""What the document of a run says, and in which order."""

from __future__ import annotations

from tests.reports.examples import full, partial, whole_report
from tfgreen.energy.carbon.break_even import break_even
from tfgreen.reports.layer_row import LayerRow
from tfgreen.reports.page.content import FEW, document
from tfgreen.reports.page.document import Items, Plots, Table
from tfgreen.reports.report import RunReport
from tfgreen.reports.variant import FIGURES, EnergyPerInference, Variant


def sections(report):
    return {section.title: section for section in document(report).sections}


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_sections_stand_in_the_order_of_reading():
    report = whole_report(variants=[full(), full("int8", energy=EnergyPerInference(0.002, "measured"))])
    assert list(sections(report)) == [
        "Budget", "Before and after", "Accuracy against cost", "Layers", "Training", "What was done",
        "What was skipped, and why", "Break-even", "How to reproduce it", "Environment", "Sources of the figures",
    ]  # fmt: skip
    bare = RunReport(variants=[Variant(name="float32", reasons=dict.fromkeys(FIGURES, "the run was stopped"))])
    assert list(sections(bare)) == ["Before and after", "Sources of the figures"]


def test_few_variants_are_columns_and_many_are_rows():
    (few, *_) = sections(whole_report())["Before and after"].blocks
    assert [cell.text for cell in few.headings] == ["", "float32", "pruned-int8"]
    assert texts(few)[1] == ["size", "318 kB", "98 kB"] and few.rows[1][2].best
    assert [round(cell.bar, 3) for cell in few.rows[1][1:]] == [1.0, 0.308]  # from zero
    assert few.rows[0][1].bar is None and few.rows[1][0].note == 2
    assert not few.headings[2].small  # of two, the second is meant
    names = [f"trial-{i}" for i in range(FEW + 1)]
    variants = [full(name) for name in names]
    (many, *_) = sections(whole_report(variants=variants, chosen="trial-2"))["Before and after"].blocks
    assert [row[0].small for row in many.rows] == [[], [], ["chosen"], [], []]
    assert [row[0].text for row in many.rows] == names and many.headings[2].text == "size"


def test_budget_layers_break_even_and_reproduction():
    found = sections(whole_report())
    (budget,) = found["Budget"].blocks
    assert texts(budget)[0] == ["size", "at most 100 kB", "98 kB", "holds"]
    assert texts(budget)[2] == ["latency", "at most 5 ms", "no benchmark was asked for", "unknown"]
    assert [row[3].good for row in budget.rows] == [True, False, None]
    assert [row[2].bar for row in budget.rows] == [0.98, 1.0, None] and budget.rows[1][2].good is False
    (layers,) = found["Layers"].blocks
    heads = ["layer", "MACs", "channels", "sparsity", "bits", "signal over error", "left as it was"]
    assert [cell.text for cell in layers.headings] == heads  # no column of dashes
    (large,) = sections(whole_report(layers=[LayerRow(path="a", macs=368_640, macs_before=1_179_648)]))["Layers"].blocks
    assert texts(large)[0] == ["a", "1.18\u00a0M \u2192 369\u00a0k"]
    assert texts(layers)[0] == ["conv", "1,000 \u2192 500", "16 \u2192 8", "80.0 %", "8", "\u2013", "\u2013"]
    paid = dict(item[:2] for block in found["Break-even"].blocks if isinstance(block, Items) for item in block.items)
    assert paid["inferences until then"] == "900,000" and paid["days until then"] == "900"
    assert paid["making it"] == "3.6 kJ, given by the caller"
    assert found["How to reproduce it"].blocks[0].text == "tfgreen demo --seed 3"
    assert "Python" in dict(item[:2] for item in found["Environment"].blocks[0].items)["python"]


def test_a_break_even_that_may_never_come_says_so():
    before, after = (EnergyPerInference(x, "measured", (0.8 * x, 1.2 * x)) for x in (1.0, 0.9))
    found = sections(whole_report(break_even=break_even(before, after, cost=10)))["Break-even"].blocks
    paid = dict(item[:2] for block in found if isinstance(block, Items) for item in block.items)
    assert paid["inferences until then"] == "100 (20.8 to never)" and "Not shown" in found[0].text
    never = sections(whole_report(break_even=break_even(1.0, 1.0, cost=10)))["Break-even"].blocks
    assert "Never" in never[0].text and isinstance(never[-1], Plots)


def test_many_layers_are_folded_and_nothing_internal_is_said():
    rows = [LayerRow(path=f"conv{i}", bits=8) for i in range(40)]
    found = sections(whole_report(layers=rows))
    assert found["Layers"].folded and isinstance(found["Layers"].blocks[0], Table)
    (steps,) = found["What was done"].blocks
    assert steps.items == [("prune", "config final sparsity 0.8; 12.5 s", [])]


def test_a_variant_without_a_metric_is_not_drawn():
    assert "Accuracy against cost" in sections(whole_report())  # sizes are known of both
    one = [full(), partial("b")]
    drawn = sections(whole_report(variants=one))["Accuracy against cost"].blocks[0]
    assert len(drawn.figures) == 2  # the size, and the legend
