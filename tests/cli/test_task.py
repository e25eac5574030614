"""What optimize, run, search and init share: the recipe that is chosen is said, a foreign loss too."""

from __future__ import annotations

import keras


def test_the_recipe_that_is_chosen_is_said_with_its_reason(run, tmp_path):
    command = f"init @model.keras --data @good.npz --output {tmp_path}"
    assert "recipe balanced: the data has targets" in run(f"{command}/a.yaml")[2]
    assert "recipe size: --max-size is the bound to keep" in run(f"{command}/b.yaml --max-size 90kB")[2]
    code, out, err = run(f"{command}/c.yaml --recipe balanced --quiet")
    assert (code, out, err) == (0, "", "")
    code, _, err = run(f"init @model.keras --data @good.csv --output {tmp_path}/d.yaml")
    assert code == 2 and "good.csv has 5 columns, and the model takes 4" in err


def test_a_loss_that_cannot_be_loaded_is_said(run, tmp_path):
    @keras.saving.register_keras_serializable(package="tests_of_task")
    def odd(y_true, y_pred):
        return keras.ops.mean(y_pred - y_true, axis=-1)

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    model.compile("adam", odd)
    model.save(tmp_path / "odd.keras")
    del keras.saving.get_custom_objects()[keras.saving.get_registered_name(odd)]
    code, _, err = run(f"init {tmp_path}/odd.keras --data @good.npz --output {tmp_path}/odd.yaml")
    assert code == 0 and "odd.keras: the loss and the metrics of the file cannot be loaded" in err
