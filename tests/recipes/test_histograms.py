"""weight_histograms: the spread of each weight before and after a verb."""

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests import zoo
from tfgreen.recipes.plots import lines
from tfgreen.recipes.report import RunReport
from tfgreen.recipes.variant import FIGURES, Variant


def test_clusters_and_zeros_show_as_peaks_and_untouched_weights_do_not_show():
    model = zoo.functional()
    half = tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0), layers={"probabilities": None})
    pruned = tg.prune(model, half)
    pruned.compile("sgd", zoo.loss("functional"))
    pruned.fit(zoo.sample("functional"), zoo.targets("functional"), verbose=0, callbacks=[tg.UpdateCompression()])
    pruned.get_layer("probabilities").set_weights(model.get_layer("probabilities").get_weights())
    curves = tg.weight_histograms(model, pruned, bins=21)
    assert [curve.title for curve in curves] == ["hidden/kernel"]
    for when in ("before", "after"):
        assert sum(y for _, y in curves[0].series[when]) == pytest.approx(1.0)
    kernel = model.get_layer("hidden").kernel.numpy()
    shares = dict(curves[0].series["after"])
    assert max(shares.values()) >= 0.5 and abs(max(shares, key=shares.get)) < np.abs(kernel).max() / 10
    assert max(y for _, y in curves[0].series["before"]) < 0.3


def test_they_are_curves_of_a_report(tmp_path):
    model = zoo.functional()
    curves = tg.weight_histograms(model, tg.cluster(model, tg.ClusterConfig(number_of_clusters=4)))
    assert sum(y > 0 for _, y in curves[0].series["after"]) == 4 < sum(y > 0 for _, y in curves[0].series["before"])
    variant = Variant(name="one", reasons=dict.fromkeys(FIGURES, "not asked for"))
    pages = [RunReport(variants=[variant], curves=shown).save(tmp_path)[1].read_text() for shown in ((), curves)]
    assert pages[1].count("<svg") - pages[0].count("<svg") == len(curves)
    assert lines(curves[0].title, "value", "share", curves[0].series).startswith("<svg")


@pytest.mark.parametrize("bins", [1, 2.5, True])
def test_too_few_bins_are_named(bins):
    with pytest.raises(ValueError, match="bins.*>= 2"):
        tg.weight_histograms(zoo.functional(), zoo.functional(), bins)


def test_models_without_a_common_weight_are_named():
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="elsewhere")], name="other")
    with pytest.raises(ValueError, match="weights of 'functional.*'.*hidden/kernel.*received 'other' with elsewhere"):
        tg.weight_histograms(zoo.functional(), other)
