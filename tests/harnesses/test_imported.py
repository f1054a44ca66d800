"""Test what all readers share: splitting of questions, openers, joining, reports, refusals, disagreements."""

import json
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSpec, write_eval_log
from inspect_ai.model import ModelOutput

from vlmrobust import Prompt, Report, Response, Sample, Style
from vlmrobust.data import RowsError
from vlmrobust.harnesses import Disagreement, Imported, read_inspect, read_lmms_eval, read_vlmevalkit
from vlmrobust.harnesses.imported import Lettered, LoggedImage, LogRows, one_file, sample_of, split_options, value_of
from vlmrobust.metrics import Accuracy
from vlmrobust.types import image_digest, open_image

WORDS = st.text(string.ascii_lowercase + " ", min_size=1, max_size=20).map(str.strip).filter(bool)
QUESTIONS = WORDS.filter(lambda text: not text.endswith(("options", "choices")))  # that would be their label


@given(
    question=QUESTIONS,
    options=st.lists(WORDS, min_size=2, max_size=26),
    template=st.sampled_from(["{letter}. {text}", "({letter}) {text}", "{letter}) {text}", "{letter}: {text}"]),
    label=st.sampled_from(["", "Options:\n", "Choices:\n", "Answer choices: \n"]),
    instruction=st.sampled_from(["", "Answer with the letter."]),
)
def test_lettered_lines_come_back(
    question: str, options: list[str], template: str, label: str, instruction: str
) -> None:
    lines = Style(option_template=template).options_text(options)
    found = split_options(f"{question}\n{label}{lines}\n{instruction}")
    assert found == Lettered(question, tuple(options), instruction)


@given(options=st.lists(WORDS, min_size=2, max_size=6))
def test_options_in_one_line_come_back(options: list[str]) -> None:
    line = ", ".join(f"{letter}: {option}" for letter, option in zip("ABCDEF", options, strict=False))
    assert split_options(f"Which?\nOptions: {line}\nAnswer briefly.").options == tuple(options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Who is A. Smith?\nA. a poet\nB. a cook", ("Who is A. Smith?", ("a poet", "a cook"), "")),
        ("A. red\nB. blue\nWhich of the two?\nA. the first\nB. the second", ("the first", "the second")),
        ("Which?\n  A. red\n  B. blue\n\nThink first.", ("Which?", ("red", "blue"), "Think first.")),
        ("Which?\nA. red\nor so\nB. blue", ("Which?", ("red\nor so", "blue"), "")),
        ("Which? (A) red (B) blue", ("Which?", ("red", "blue"), "")),
        ("Hint: look.\nQuestion: Which?\nOptions:\nA. red\nB. blue\nPlease select.", ("red", "blue")),
        ("Which?\nA. Vitamin A. B. C.\nB. none", ("Vitamin A. B. C.", "none")),
    ],
)
def test_texts_of_tasks(text: str, expected: tuple[object, ...]) -> None:
    found = split_options(text)
    assert found == expected or found.options == expected


@pytest.mark.parametrize("text", ["What is this?", "Which?\nB. red\nC. blue", "Which?\nA. red", "", "A and B"])
def test_a_question_without_options_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a question with lettered options, got"):
        split_options(text)


def test_options_without_a_question_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a question before its options"):
        split_options("Options:\nA. red\nB. blue")


MakeSample = Callable[..., Sample]


def read_log(samples: list[Sample], texts: list[str], condition: str = "base") -> Imported:
    prompts = tuple(Prompt.of(sample).replace(condition=condition) for sample in samples)
    return Imported(prompts, tuple(map(Response.parse, prompts, texts)))


def test_two_logs_make_one_report_with_paired_differences(make_sample: MakeSample) -> None:
    samples = [make_sample(f"q{number}") for number in range(4)]
    right, wrong = "<answer>B</answer>", "<answer>A</answer>"
    base, changed = read_log(samples, [right] * 3 + [wrong]), read_log(samples, [right] + [wrong] * 3, "wrong_caption")
    summary = (base + changed).report([Accuracy()]).summary.set_index("condition")
    assert summary.loc["wrong_caption", ["value", "base_value", "difference", "n"]].tolist() == [0.25, 0.75, -0.5, 4]


def test_two_models_are_compared_on_the_same_questions(make_sample: MakeSample) -> None:
    samples = [make_sample(f"q{number}") for number in range(3)]
    better, worse = (read_log(samples, [text] * 3) for text in ("<answer>B</answer>", "<answer>A</answer>"))
    [row] = better.report([Accuracy()]).compare(worse.report([Accuracy()])).itertuples()
    assert (row.value, row.base_value, row.n) == (1, 0, 3)


def test_samples_are_listed_once_in_their_order(make_sample: MakeSample) -> None:
    samples = [make_sample(f"q{number}") for number in range(3)]
    joined = read_log(samples, ["A"] * 3) + read_log(samples[::-1], ["A"] * 3, "changed")
    assert joined.samples == samples
    assert len(joined) == 6


def test_problems_are_kept_and_saved(make_sample: MakeSample, tmp_path: Path) -> None:
    one = read_log([make_sample()], ["A"])
    both = Imported(one.prompts, one.responses, ("row 1: no",)) + Imported((), (), ("row 7: no",))
    assert both.problems == ("row 1: no", "row 7: no")
    assert Report.load(both.report().save(tmp_path)).manifest["problems"] == ["row 1: no", "row 7: no"]
    assert one.report().manifest == {}


@pytest.mark.parametrize(
    ("metadata", "text", "expected"),
    [
        ({}, "<answer>B</answer>", None),
        ({"harness_answer": "B"}, "<answer>B</answer>", None),
        ({"harness_answer": "(B)"}, "<answer>B</answer>", None),
        ({"harness_answer": "blue"}, "<answer>B</answer>", None),
        ({"harness_answer": "A"}, "<answer>B</answer>", (0, 1)),
        ({"harness_answer": "D"}, "Don't know.", (3, None)),
        ({"harness_answer": ""}, "<answer>B</answer>", (None, 1)),
        ({"harness_answer": ""}, "Don't know.", None),
        ({"harness_answer": "", "harness_correct": False}, "<answer>B</answer>", (None, 1)),
        ({"harness_correct": True}, "<answer>B</answer>", None),
        ({"harness_correct": False}, "<answer>B</answer>", (False, True)),
        ({"harness_correct": False}, "Don't know.", None),
    ],
)
def test_disagreements(
    make_sample: MakeSample, metadata: dict[str, object], text: str, expected: tuple[object, object] | None
) -> None:
    found = read_log([make_sample(metadata=metadata)], [text]).disagreements()
    assert found == ([] if expected is None else [Disagreement("q1", "base", 0, *expected, text)])


def test_failed_responses_are_no_disagreement(make_sample: MakeSample) -> None:
    prompt = Prompt.of(make_sample(metadata={"harness_answer": "A"}))
    assert Imported((prompt,), (Response.failed(prompt, "down"),)).disagreements() == []


# --- the parts that readers are made of -------------------------------------------------------------------------------


def test_rows_that_cannot_be_read_are_listed_with_their_place(make_sample: MakeSample) -> None:
    log_rows = LogRows()
    prompt = Prompt.of(make_sample())

    def refuse(place: str) -> list[tuple[Prompt, Response]]:
        return [(sample_of(place, {"id": "q2", "question": "Which?", "options": ["red"], "answer": "C"}), None)]  # type: ignore[list-item]

    log_rows.add("row 1", lambda _: [(prompt, Response.parse(prompt, "B"))])
    log_rows.add("row 2", refuse)
    log_rows.add("row 3", lambda _: [(prompt.replace(options=()), Response.parse(prompt, "B"))])
    log_rows.add("row 4", lambda _: [value_of({"a": 1}, "b")])
    read = log_rows.imported("log")
    assert len(read) == 1
    assert [problem.partition(":")[0] for problem in read.problems] == ["row 2", "row 3", "row 4"]
    assert read.problems[0].startswith("row 2: sample 'q2', field 'answer': expected")
    assert "field 'options': expected 2 to 26 options" in read.problems[1]
    assert read.problems[2] == "row 4: field 'b': expected a value, got a row with 'a'"


def test_other_errors_are_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        LogRows().add("row 1", lambda _: [1 / 0])  # type: ignore[list-item]


def test_nothing_readable_is_an_error_that_says_why() -> None:
    log_rows = LogRows()
    with pytest.raises(ValueError, match=r"log: expected answered multiple-choice questions, got none:\n  it is empty"):
        log_rows.imported("log")
    log_rows.add("row 1", lambda _: [value_of({}, "b")])
    with pytest.raises(ValueError, match="row 1: field 'b': expected a value, got a row with nothing"):
        log_rows.imported("log")


def test_a_key_twice_is_an_error(make_sample: MakeSample) -> None:
    log_rows = LogRows()
    prompt = Prompt.of(make_sample())
    for place in ("row 1", "row 2"):
        log_rows.add(place, lambda _: [(prompt, Response.parse(prompt, "B"))])
    with pytest.raises(ValueError, match=r"once, got \('q1', 'base', 0\) 2 times"):
        log_rows.imported("log")


def test_an_image_that_a_log_does_not_have_is_missed_when_it_is_opened() -> None:
    sample = sample_of("row 2", {"id": "q2", "question": "Which?", "options": ["red", "blue"], "answer": "B"})
    with pytest.raises(FileNotFoundError, match="expected an image file at \"row 2, sample 'q2'\", found none"):
        open_image(sample.images[0])


def test_an_image_that_a_log_names_is_opened_where_it_is(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (3, 2), "red").save(tmp_path / "red.png")
    image = LoggedImage(source=tmp_path / "red.png")
    assert open_image(image).getpixel((0, 0)) == (255, 0, 0)
    assert image_digest(image)


def test_errors_of_a_row_name_its_sample() -> None:
    with pytest.raises(RowsError, match="row 2: sample 'q2', field 'question': expected a value"):
        sample_of("row 2", {"id": "q2", "options": ["red", "blue"], "answer": "B"})


def test_a_folder_with_one_log_stands_for_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected a log '\*.eval' at"):
        one_file(tmp_path, "*.eval")
    (tmp_path / "runs").mkdir()
    first = tmp_path / "runs" / "a.eval"
    first.touch()
    assert one_file(tmp_path, "*.eval") == one_file(str(first), "*.eval") == first
    (tmp_path / "b.eval").touch()
    with pytest.raises(ValueError, match=r"found 2: b.eval, runs/a.eval; give one file"):
        one_file(tmp_path, "*.eval")


Reader = Callable[..., Imported]

TEXTS = [
    "The cube is blue.</think><answer>B</answer>",
    "<think>\nThe cube is blue.</think><answer>B</answer>",  # some servers repeat what the template has written
    "The answer could be B, or it is A. Let me look once more at the",  # cut off in the thought
]


def write_lmms_log(folder: Path) -> Path:
    lines = [
        {"doc_id": number, "target": "B", "filtered_resps": text, "input": "Which colour?\nA. red\nB. blue\n"}
        for number, text in enumerate(TEXTS)
    ]
    path = folder / "x_samples_colours.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_vlmevalkit_log(folder: Path) -> Path:
    rows = [
        {"index": number, "question": "Which colour?", "A": "red", "B": "blue", "answer": "B", "prediction": text}
        for number, text in enumerate(TEXTS)
    ]
    path = folder / "Model_Colours.json"
    path.write_text(json.dumps(rows))
    return path


def write_inspect_log(folder: Path) -> Path:
    samples = [
        EvalSample(
            id=number,
            epoch=1,
            input="Which colour?",
            choices=["red", "blue"],
            target="B",
            output=ModelOutput.from_content("model", text),
        )
        for number, text in enumerate(TEXTS)
    ]
    spec = EvalSpec(created="2026-11-25", task="t", dataset=EvalDataset(), model="m", config=EvalConfig())
    path = folder / "colours.json"
    write_eval_log(EvalLog(eval=spec, samples=samples, status="success"), str(path))
    return path


@pytest.mark.parametrize(
    ("write", "read"),
    [(write_lmms_log, read_lmms_eval), (write_vlmevalkit_log, read_vlmevalkit), (write_inspect_log, read_inspect)],
)
def test_the_thought_that_the_template_has_opened_is_read(
    tmp_path: Path, write: Callable[[Path], Path], read: Reader
) -> None:
    found = read(write(tmp_path), opener="<think>\n")
    assert found.problems == ()
    assert [response.think for response in found.responses[:2]] == ["The cube is blue."] * 2
    assert [response.answer for response in found.responses] == [1, 1, None]
    assert [response.status for response in found.responses] == ["answered", "answered", "truncated"]
    assert all(prompt.prefill == "" for prompt in found.prompts), "nobody has injected anything"


def test_tags_of_other_styles(tmp_path: Path) -> None:
    log = tmp_path / "x_samples_colours.jsonl"
    line = {"doc_id": 0, "target": "B", "filtered_resps": "Blue.[/THINK]B", "input": "Which?\nA. red\nB. blue\n"}
    log.write_text(json.dumps(line) + "\n")
    [response] = read_lmms_eval(log, style=Style(think_tags=("[THINK]", "[/THINK]")), opener="[THINK]").responses
    assert (response.think, response.answer) == ("Blue.", 1)


LOGS = Path(__file__).parent / "logs"
READERS: list[Reader] = [read_inspect, read_lmms_eval, read_vlmevalkit]
LOGS_BY_READER: dict[str, list[Path]] = {
    "read_inspect": sorted(LOGS.glob("inspect/*.eval")),
    "read_lmms_eval": sorted(LOGS.glob("lmms_eval/*/*.jsonl")),
    "read_vlmevalkit": sorted(LOGS.glob("vlmevalkit/*_Shapes.*")),
}


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_the_right_reader_is_named(reader: Reader) -> None:
    for name, logs in LOGS_BY_READER.items():
        assert logs
        for log in logs:
            if name == reader.__name__:
                assert len(reader(log))
            else:
                with pytest.raises(ValueError, match=f"{log.name}: expected a log for {reader.__name__}, .* {name}$"):
                    reader(log)
