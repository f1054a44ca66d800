"""Conditions by name, and by where one's own class is."""

from pathlib import Path

import pytest

from vlmrobust.catalogue import conditions_named, parts_of

OWN = """\
import vlmrobust as vr


class Shouted(vr.Perturbation):
    def perturb(self, prompt, rng):
        return prompt.replace(question=prompt.question.upper())


class Louder(Shouted):
    times: int


TWICE = Louder(times=2, name="twice")
NOTHING = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


def test_one_of_ones_own_is_a_condition_alone_and_joined(own: Path) -> None:
    names = ["base", f"{own}:Shouted", f"wrong_caption+{own}:TWICE", "vlmrobust.perturbations:StopThink"]
    conditions = conditions_named(names)
    assert [condition.condition for condition in conditions] == [
        "base", "shouted", "wrong_caption+twice", "stop_think",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NOTHING", r"condition '.*own.py:NOTHING': expected a Perturbation there, got 3"),
        (
            "Louder",
            r"condition '.*own.py:Louder': expected a class that needs no settings, or a condition that is made",
        ),
        ("Absent", r"condition '.*own.py:Absent': expected a class 'Absent' in .*own.py, found none"),
    ],
)
def test_what_is_none_is_refused_before_anything_is_read(own: Path, name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parts_of([f"{own}:{name}"])


def test_the_message_says_how_to_name_ones_own() -> None:
    with pytest.raises(
        ValueError, match=r"did you mean 'wrong_think'.* one of your own is module:Class or file.py:Class"
    ):
        parts_of(["wrong_thnk"])
