from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from convert import recipes
from convert.recipes import RECIPES, Request, make_request
from edge_runtime.errors import UsageError


def test_every_recipe_is_decoded_in_the_readme() -> None:
    readme = Path(recipes.__file__).with_name("README.md").read_text(encoding="utf-8")
    assert len(RECIPES) == 6
    for name, recipe in RECIPES.items():
        assert f"\n| `{name}` | {recipe.weights}, {recipe.activations} |" in readme
        assert f"\n- `{name}`: " in readme


def test_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(UsageError) as caught:
        make_request("int4")
    assert caught.value.found == "int4" and caught.value.expected.split(", ") == list(RECIPES)


def test_quantized_recipes_take_pixels() -> None:
    for recipe in RECIPES.values():
        assert (recipe.tensor_dtype == "uint8") == recipe.quantized == recipe.name.startswith("int8")
        assert recipe.needs_calibration == (recipe.activations != "float32")
        assert recipe.needs_qat == recipe.name.endswith("qat")
        assert recipe.dynamic == recipe.name.startswith("dynamic")


class _Recorder:
    """Steps that only write down their names."""

    float_model = None

    def __init__(self, request: Request) -> None:
        self.request, self.max_loss = request, request.max_loss
        self.done: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def step(*_: object) -> bytes:
            self.done.append(name)
            return name.encode()

        return step


@pytest.mark.tf
@pytest.mark.parametrize(
    ("name", "max_loss", "steps"),
    [
        ("float32", None, ["export"]),
        ("float16", None, ["export"]),
        ("dynamic_int8", None, ["export"]),
        ("int8_ptq", None, ["calibration_pixels", "absorbed", "export", "fold_temperature"]),
        ("int8_ptq", 0.02, ["calibration_pixels", "mixed_precision", "fold_temperature"]),
        ("int8_qat", None, ["calibration_pixels", "fine_tuned", "export", "fold_temperature"]),
        ("int16x8", None, ["calibration_pixels", "absorbed", "export"]),
    ],
)
def test_each_recipe_applies_its_steps_in_order(name: str, max_loss: float | None, steps: list[str]) -> None:
    from convert.export.steps import Steps

    recorder: Any = _Recorder(Request(RECIPES[name], max_loss=max_loss))
    assert Steps.apply_recipe(recorder) == steps[-1].encode()
    assert recorder.done == steps


def test_options_that_differ_from_their_defaults_are_written_down() -> None:
    assert make_request("float32").options() == ["--recipe", "float32"]
    request = make_request("int8_qat", seed=3, epochs=2, learning_rate=1e-4, patience=None)
    assert request.options() == [
        "--recipe",
        "int8_qat",
        "--seed",
        "3",
        "--epochs",
        "2",
        "--learning-rate",
        "0.0001",
    ]
    assert request.qat.seed == request.seed == 3 and request.qat.patience == 2
    mixed = make_request("int8_ptq", keep_float="auto")
    assert mixed.options() == ["--recipe", "int8_ptq", "--keep-float", "auto", "--max-loss", "0.02"]


@pytest.mark.parametrize(
    ("recipe", "options", "named"),
    [
        ("float32", {"epochs": 3}, "--epochs"),
        ("int8_qat", {"distillation_weight": 0.0}, "--hard-label-weight 0"),
        *(("int8_qat", {"learning_rate": rate}, f"{rate:g}") for rate in (math.nan, math.inf, -1.0, 0.0)),
        *(
            ("int8_qat", {f"{name}_weight": value}, f"--{name.replace('_', '-')}-weight {value:g}")
            for name in ("distillation", "hard_label", "soft_label")
            for value in (math.nan, math.inf, -1.0)
        ),
        ("float32", {"keep_float": "auto"}, "float32"),
        ("int8_ptq", {"max_loss": 0.1}, "no --keep-float"),
        ("int8_ptq", {"keep_float": "auto", "max_loss": 2.0}, "2.0"),
    ],
)
def test_options_that_do_not_fit_are_refused(recipe: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_request(recipe, **options)
    assert named in caught.value.found
