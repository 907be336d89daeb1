from __future__ import annotations

import pytest

from convert import recipes
from edge_runtime.errors import UsageError


def test_every_recipe_is_decoded_in_the_docstring() -> None:
    assert len(recipes.RECIPES) == 6
    for name in recipes.RECIPES:
        assert f"    {name}  " in (recipes.__doc__ or "")


def test_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(UsageError) as caught:
        recipes.find_recipe("int4")
    for name in ("int4", *recipes.RECIPES):
        assert name in caught.value.message


def test_quantized_recipes_take_pixels() -> None:
    for recipe in recipes.RECIPES.values():
        assert (recipe.tensor_dtype == "uint8") == recipe.quantized == recipe.name.startswith("int8")
        assert recipe.needs_calibration == (recipe.activations != "float32")
        assert recipe.needs_qat == recipe.name.endswith("qat")
