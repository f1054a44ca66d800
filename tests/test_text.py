"""Half of a surrogate pair and control characters, wherever text comes from: refused by field, or made writable."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from vlmrobust import Evaluator, Prompt, Report, Response, Sample, Style, demo
from vlmrobust.data import RowsError, read_rows
from vlmrobust.metrics import Accuracy
from vlmrobust.perturbations import WrongCaption
from vlmrobust.testing import FakeModel
from vlmrobust.text import find_unwritable, printable, writable
from vlmrobust.types.frozen import Frozen

HALF = "cut \ud83d"
ROW = {"id": "q1", "image": "a.png", "question": "Which?", "options": ["red", "blue"], "answer": 0, "distractor": 1}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"question": HALF}, "question"),
        ({"options": ["red", HALF]}, "options.1"),
        ({"group": HALF}, "group"),
        ({"wrong_caption": HALF}, "texts.wrong_caption"),
        ({"correct_think": {"A": HALF}}, "texts.correct_think.0"),
        ({"source": HALF}, "metadata.source"),
        ({"source": [{"deep": HALF}]}, "metadata.source.0.deep"),
        ({HALF: 1}, "metadata.cut \ufffd"),
    ],
)
def test_a_row_is_refused_by_line_and_field(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    demo.samples(1)[0].images[0].save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW | {"id": "q0"}) + "\n" + json.dumps(ROW | changes) + "\n")
    with pytest.raises(RowsError) as refused:
        read_rows(tmp_path / "rows.jsonl")
    [problem] = refused.value.problems
    assert problem.startswith("rows.jsonl, line 2: sample ")
    assert problem.isprintable()
    expected = f"field {field!r}: expected text that UTF-8 can hold, got half of a surrogate pair at character 4"
    assert problem.endswith(expected if field != "metadata.cut \ufffd" else "character 4")
    assert len(read_rows(tmp_path / "rows.jsonl", on_error="record")) == 1


def test_an_id_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW | {"id": HALF}))
    with pytest.raises(RowsError, match=r"line 1: sample 'cut \\ud83d', field 'id': .* unicode string"):
        read_rows(tmp_path / "rows.jsonl")


def test_unwritable_values_are_refused() -> None:
    for make in (
        lambda: Style(system=HALF),
        lambda: Prompt.of(demo.samples(1)[0]).replace(context=HALF),
    ):
        with pytest.raises(ValueError, match="expected text that UTF-8 can hold"):
            make()


class Halved(FakeModel):
    """Replies, refuses and finishes with half of a pair."""

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        _, _, *others = super().respond([*prompts, *prompts])[: max(2, len(prompts))]
        if len(prompts) == 1:
            raise ConnectionError(HALF)
        told = Response.parse(prompts[0], f"<think>{HALF} \ud83d\ude00</think><answer>A</answer>", finish_reason=HALF)
        return [told, Response.failed(prompts[1], HALF), *others]


def captioned(prompt: Prompt, option: int, rng: np.random.Generator) -> str:
    return HALF


def test_what_models_servers_and_errors_say_is_made_writable(tmp_path: Path) -> None:
    report = Evaluator(Halved(), [WrongCaption(source=captioned)], [Accuracy()]).run(demo.samples(3), tmp_path / "run")
    first, second, *_ = report.frame[report.frame["condition"] == "base"].to_dict("records")
    assert first["text"] == "<think>cut \ufffd \U0001f600</think><answer>A</answer>"
    assert first["think"] == "cut \ufffd \U0001f600"
    assert (first["status"], second["status"], second["error"]) == ("answered", "error", "cut \ufffd")
    captions = report.frame[report.frame["condition"] == "wrong_caption"]
    assert set(captions["status"]) == {"error"}  # of every caption, and the run goes on
    assert "expected text that UTF-8 can hold" in captions["error"].iloc[0]
    report.to_html(tmp_path / "page.html")
    again = Evaluator(FakeModel(), [], [Accuracy()]).run(demo.samples(3), tmp_path / "other")
    assert Report.load(tmp_path / "run").frame["text"].tolist() == report.frame["text"].tolist()
    assert again is not None


def test_an_error_that_cannot_be_shown_is_a_row_too(tmp_path: Path) -> None:
    class Silent(Exception):  # noqa: N818 - a name is no matter here
        def __str__(self) -> str:
            raise RuntimeError("no")

    class Failing(FakeModel):
        def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
            raise Silent

    report = Evaluator(Failing(), [], [Accuracy()]).run(demo.samples(2), tmp_path / "run")
    assert set(report.frame["error"]) == {"Silent: (its text cannot be shown: RuntimeError)"}


def test_writable_and_printable() -> None:
    whole = "naïve 你好 \U0001f600\n"
    assert writable(whole) == printable(whole) == whole
    assert find_unwritable({"a": [whole, {"b": (1, None, b"x")}]}) is None
    assert writable("\udc00\ud83d\ude00\ud83d") == "\ufffd\U0001f600\ufffd"
    assert (
        printable("a\x1b]0;x\x07b\rc\x9bd\u202ee\ud83d\t\n")
        == "a\\u001b]0;x\\u0007b\\u000dc\\u009bd\\u202ee\\ud83d\t\n"
    )
    assert json.loads(printable(json.dumps("\x9b\u202e", ensure_ascii=False))) == "\x9b\u202e"


def test_no_control_character_of_a_name_reaches_a_terminal(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from vlmrobust import cli

    evil = "q\x1b[2J\u202e"
    samples = [sample.replace(id=f"{evil}{sample.id}", metadata={"kind": evil}) for sample in demo.samples(4)]
    report = Evaluator(FakeModel(), [WrongCaption(name=evil)], [Accuracy(name=evil)]).run(samples, tmp_path)
    shown = [str(report), CliRunner().invoke(cli.app, ["report", str(tmp_path)]).output]
    shown += [CliRunner().invoke(cli.app, ["report", str(tmp_path), flag]).output for flag in ("--json", "--csv")]
    for text in shown:
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert isinstance(samples[0], Sample)


def test_numbers_are_not_looked_into_and_every_other_field_is() -> None:
    class Held(Frozen):
        number: float | None = None
        numbers: tuple[int | None, ...] = ()
        kind: Literal["a", "b"] = "a"
        name: str | None = None
        either: int | str = 0
        nested: tuple[str | int, ...] = ()
        anything: Any = None
        parts: Mapping[str, int] = {}

    assert Held(number=1.0, numbers=(1, None), kind="b", name="\U0001f600").name == "\U0001f600"
    changes: dict[str, Any] = {
        "name": HALF,
        "either": HALF,
        "nested": (1, HALF),
        "anything": [HALF],
        "parts": {HALF: 1},
    }
    for field, value in changes.items():
        with pytest.raises(ValueError, match=f"field '{field}[^']*': expected text that UTF-8 can hold"):
            Held(**{field: value})
