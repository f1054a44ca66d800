"""Which known name is meant by one that is not known."""

import pytest

from vlmrobust.catalogue import STYLES, named_style
from vlmrobust.naming import did_you_mean, unknown_name
from vlmrobust.perturbations.catalogue import CONDITIONS, parts_of


@pytest.mark.parametrize("name", ["Wrong_Think", "wrong_thnik", "WRONGTHINK"])
def test_the_nearest_name_is_suggested_whatever_its_case(name: str) -> None:
    assert did_you_mean(name, CONDITIONS) == "did you mean 'wrong_think'?"
    assert did_you_mean(name, [each.upper() for each in CONDITIONS]) == "did you mean 'WRONG_THINK'?"


def test_dissimilar_names_give_no_suggestion() -> None:
    assert did_you_mean("zzz", CONDITIONS) is None
    assert did_you_mean("base", []) is None
    assert unknown_name("zzz", ["base", "casing"]) == "got 'zzz'; known are base, casing"


def test_the_suggestion_stands_before_all_that_are_known() -> None:
    message = r"^expected a style, got 'Think'; did you mean 'think'\? Known are think, "
    with pytest.raises(ValueError, match=message) as refused:
        named_style("Think")
    assert str(refused.value).endswith(", ".join(STYLES))
    message = r"^expected a condition, .* joined with \+, got 'casings'; did you mean 'casing'\? Known are base, "
    with pytest.raises(ValueError, match=message):
        parts_of(["base+casings"])
