"""Test reading of logs of lmms-eval and lm-eval, and a model of lmms-eval under our conditions."""

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vlmrobust import Evaluator, Prompt, Sample, Style
from vlmrobust.demo import samples as demo_samples
from vlmrobust.harnesses import Disagreement, read_lmms_eval
from vlmrobust.harnesses.lmms_eval import LmmsModel
from vlmrobust.metrics import Accuracy, Consistency, FormatRate
from vlmrobust.models import Model
from vlmrobust.perturbations import WrongCaption, WrongThink, expand

LOGS = Path(__file__).parent / "logs" / "lmms_eval" / "canned"
ONCE, TWICE = (LOGS / f"20261125_000000_samples_{name}.jsonl" for name in ("shapes", "shapes_twice"))

LINE = {"doc_id": 0, "target": "B", "filtered_resps": "B", "input": "Which colour?\nA. red\nB. blue\n"}


def write_log(folder: Path, *lines: Mapping[str, Any] | str) -> Path:
    log = folder / "20261125_samples_colours.jsonl"
    log.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return log


def test_the_thought_that_the_harness_strips_is_read() -> None:
    read = read_lmms_eval(ONCE)
    assert read.problems == ()
    assert [response.answer for response in read.responses] == [0, 1, 3, None]
    assert [response.status for response in read.responses] == ["answered"] * 3 + ["unparsed"]
    assert all(response.think and not response.text.startswith("<answer>") for response in read.responses)
    frame = read.report([Accuracy(), Consistency(), FormatRate()]).frame
    assert frame["consistency"].tolist()[:3] == [1, 0, 1]
    assert frame["consistency"].isna().tolist() == [False] * 3 + [True]
    assert frame["format_rate"].tolist() == [1, 1, 1, 0]
    logged = [json.loads(line)["accuracy"] for line in ONCE.read_text().splitlines()]
    assert frame["accuracy"].tolist() == logged


def test_question_options_target_and_columns_are_those_of_the_dataset() -> None:
    for prompt, sample in zip(read_lmms_eval(ONCE).prompts, demo_samples(4, seed=0), strict=True):
        own = prompt.sample
        assert (own.question, own.options, own.answer) == (sample.question, sample.options, sample.answer)
        assert own.metadata["kind"] == sample.metadata["kind"]


def test_what_the_task_extracted_is_compared() -> None:
    [found] = read_lmms_eval(ONCE).disagreements()
    assert found == Disagreement("3", "base", 0, 3, None, "<think>One cannot tell.</think>Don't know.")


def test_repeats_are_draws_and_the_tasks_reading_is_of_the_first() -> None:
    read = read_lmms_eval(TWICE, condition="wrong_caption")
    assert [response.key for response in read.responses[:3]] == [
        ("0", "wrong_caption", 0),
        ("0", "wrong_caption", 1),
        ("1", "wrong_caption", 0),
    ]
    assert [found.draw for found in read.disagreements()] == [0]
    assert all(response.n_tokens is None for response in read.responses), "the log's counts include padding"


def test_samples_bring_images_and_metadata(tmp_path: Path) -> None:
    samples = demo_samples(4, seed=0)
    read = read_lmms_eval(ONCE, samples=samples)
    assert [prompt.sample.images for prompt in read.prompts] == [sample.images for sample in samples]
    assert read.prompts[2].sample.id == samples[2].id
    assert read.prompts[0].sample.metadata.keys() >= samples[0].metadata.keys() | {"accuracy", "harness_answer"}


def test_samples_in_another_order_are_noticed() -> None:
    first, *others = demo_samples(4, seed=0)
    read = read_lmms_eval(ONCE, samples=[*others, first])
    assert len(read.problems) == 3
    assert "the answer of sample 'demo-0-1', got" in read.problems[0]
    assert read.problems[0].endswith("are the samples in the dataset's order?")


def test_too_few_samples_are_noticed() -> None:
    read = read_lmms_eval(ONCE, samples=demo_samples(2, seed=0))
    assert len(read) == 2
    assert read.problems[0].endswith("line 3: field 'doc_id': expected a number below 2, one per sample, got 2")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"input": "What is this?"}, "expected a question with lettered options, got 'What is this?'"),
        ({"input": {"a": 1}}, "field 'input': expected the text of the prompt, got {'a': 1}; give 'samples'"),
        ({"target": "purple"}, "sample '1', field 'answer': expected an index from 0 to 1"),
        ({"filtered_resps": [["-0.5", "False"], ["-0.1", "True"]]}, "a likelihood task?"),
        ({"filtered_resps": []}, "field 'resps': expected generated text, got []"),
    ],
)
def test_lines_that_cannot_be_read_are_listed(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    read = read_lmms_eval(write_log(tmp_path, LINE, {**LINE, "doc_id": 1, **change}))
    assert len(read) == 1
    assert read.problems[0].startswith("20261125_samples_colours.jsonl, line 2: ")
    assert problem in read.problems[0]


@pytest.mark.parametrize(
    ("line", "problem"), [("{", "Expecting property name"), ("[1]", "expected one JSON object, got list")]
)
def test_torn_lines_are_listed(tmp_path: Path, line: str, problem: str) -> None:
    assert problem in read_lmms_eval(write_log(tmp_path, LINE, line)).problems[0]


@pytest.mark.parametrize("missing", ["doc_id", "target", "filtered_resps", "input"])
def test_missing_fields_are_named(tmp_path: Path, missing: str) -> None:
    line = {name: value for name, value in LINE.items() if name != missing}
    with pytest.raises(ValueError, match=f"field '{missing}': expected a value, got a row with"):
        read_lmms_eval(write_log(tmp_path, line))


def test_the_style_says_how_answers_are_read(tmp_path: Path) -> None:
    log = write_log(tmp_path, {**LINE, "filtered_resps": "blue"})
    read = read_lmms_eval(log, style=Style(mode="direct", answer_by="text"))
    assert read.responses[0].answer == 1
    assert read.responses[0].well_formed


@pytest.mark.parametrize(
    ("said", "filtered"),
    [
        ([["The answer is B"]], ["B"]),
        ([["The answer is B", "A"]], ["B"]),
        (["The answer is B"], "B"),
        ("The answer is B", "B"),
    ],
)
def test_answers_of_older_versions_are_nested(tmp_path: Path, said: Any, filtered: Any) -> None:
    read = read_lmms_eval(write_log(tmp_path, {**LINE, "resps": said, "filtered_resps": filtered}))
    assert [response.answer for response in read.responses] == [1, 0][: len(read)]
    assert len(read) == (2 if said == [["The answer is B", "A"]] else 1)
    assert read.responses[0].text == "The answer is B"


def test_several_filters_make_one_answer(tmp_path: Path) -> None:
    strict, loose = {**LINE, "resps": [["So B"]], "filtered_resps": ["[invalid]"]}, {**LINE, "filtered_resps": "So B"}
    assert len(read_lmms_eval(write_log(tmp_path, strict, loose))) == 1
    named = [{**LINE, "resps": [["So B"]], "filtered_resps": ["B"], "filter": name} for name in ("strict", "loose")]
    assert len(read_lmms_eval(write_log(tmp_path, *named))) == 1
    other = {**loose, "filtered_resps": "So A"}
    with pytest.raises(ValueError, match="expected each sample, condition and draw once"):
        read_lmms_eval(write_log(tmp_path, strict, other))


def lm_eval_line(number: int, said: str, shown: str, **doc: Any) -> dict[str, Any]:
    """A line as lm_eval 0.4.13 writes it."""
    return {
        "doc_id": number,
        "doc": {"question": "Which colour?", "answer": "B", **doc},
        "target": "B",
        "arguments": {"gen_args_0": {"arg_0": shown, "arg_1": {"until": ["\n\n"]}}},
        "resps": [[said]],
        "filtered_resps": [said],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": "e807",
        "prompt_hash": "ec81",
        "target_hash": "df7e",
        "exact_match": 1.0,
    }


def test_a_log_of_lm_eval_is_read(tmp_path: Path) -> None:
    shown = lm_eval_line(0, "<think>Blue.</think><answer>B</answer>", "<image>Which colour?\nA. red\nB. blue\nAnswer:")
    listed = lm_eval_line(1, "A", "Which colour?", choices=["red", "blue"])
    log = tmp_path / "samples_colours_2026-11-28T10-00-00.000000.jsonl"
    log.write_text(json.dumps(shown) + "\n" + json.dumps(listed) + "\n")
    read = read_lmms_eval(tmp_path)
    assert read.problems == ()
    assert [prompt.sample.options for prompt in read.prompts] == [("red", "blue")] * 2
    assert [response.answer for response in read.responses] == [1, 0]
    assert read.prompts[0].sample.metadata == {"exact_match": 1.0}


EXAMPLE = "<image>What is it?\nA. a cat\nB. a dog\nAnswer: A\n\n"
TEMPLATED = (
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Which colour?\nA. red\nB. blue<|im_end|>\n"
    "<|im_start|>assistant\n"
)


@pytest.mark.parametrize(
    ("shown", "doc", "options"),
    [
        (EXAMPLE + "<image>Which colour?\nA. red\nB. blue\nAnswer:", {"choices": ["red", "blue"]}, ("red", "blue")),
        (TEMPLATED, {"options": "['red', 'blue']"}, ("red", "blue")),
        (TEMPLATED, {}, ("red", "blue")),
        ("Look, and say which.", {"A": "red", "B": "blue", "C": None}, ("red", "blue")),
        ("Which colour?\nA. blue\nB. red", {"choices": ["red", "blue"]}, ("blue", "red")),  # as the task put them
        ("Which one is meant?\nA. red\nB. blue", {"choices": ["cyan", "pink"]}, ("red", "blue")),
    ],
)
def test_a_question_is_found_among_examples_and_in_templates(
    tmp_path: Path, shown: str, doc: dict[str, Any], options: tuple[str, ...]
) -> None:
    log = tmp_path / "samples_colours_2026-11-28T10-00-00.000000.jsonl"
    log.write_text(json.dumps(lm_eval_line(0, "B", shown, **doc)) + "\n")
    read = read_lmms_eval(log)
    [sample] = read.samples
    assert (sample.options, read.problems) == (options, ())
    assert sample.question == ("Which one is meant?" if "meant" in shown else "Which colour?")


def test_a_question_about_several_images_has_as_many(tmp_path: Path) -> None:
    shown = "<image>\n<image>\nWhich of the two?\nA. the first\nB. the second"
    marked = {"question": "Is <image 2> like <image 1>?", "choices": ["yes", "no"]}
    lines = [lm_eval_line(0, "B", shown), lm_eval_line(1, "B", "Is it?", **marked)]
    log = tmp_path / "samples_colours_2026-11-28T10-00-00.000000.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = read_lmms_eval(log)
    assert [len(sample.images) for sample in read.samples] == [2, 2]
    assert [len(set(map(str, sample.images))) for sample in read.samples] == [2, 2]
    assert read.samples[1].question == "Is <image> like <image>?"


def test_what_a_filter_has_made_of_an_answer_is_the_reading_of_the_harness(tmp_path: Path) -> None:
    lines = [
        {**LINE, "resps": [["So it is B."]], "filtered_resps": ["A"]},
        {**LINE, "doc_id": 1, "resps": [["B"]], "filtered_resps": ["B"]},  # nothing was made of it
        {**LINE, "doc_id": 2, "resps": [["A", "B"]], "filtered_resps": ["B"]},  # of which of them it is not said
    ]
    read = read_lmms_eval(write_log(tmp_path, *lines))
    assert [sample.metadata.get("harness_answer") for sample in read.samples] == ["A", None, None]
    assert [found.sample_id for found in read.disagreements()] == ["0"]


def test_a_document_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected each sample, condition and draw once"):
        read_lmms_eval(write_log(tmp_path, LINE, LINE))


def test_a_folder_of_several_tasks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"found 2: 20261125_000000_samples_shapes\.jsonl"):
        read_lmms_eval(LOGS)


INSTALLED = importlib.util.find_spec("lmms_eval") is not None


@dataclass
class Instance:
    """As in lmms_eval 0.7.3."""

    request_type: str
    arguments: tuple[Any, ...]
    idx: int
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.task_name, self.doc_id, self.repeats = (self.metadata[key] for key in ("task", "doc_id", "repeats"))

    @property
    def args(self) -> tuple[Any, ...]:
        return self.arguments


@dataclass
class TokenCounts:
    """As in lmms_eval 0.7.3."""

    output_tokens: int | None = None


@dataclass
class GenerationResult:
    """As in lmms_eval 0.7.3."""

    text: str
    token_counts: TokenCounts | None = None


def unwrap_generation_output(output: Any) -> tuple[Any, TokenCounts | None]:
    """As in lmms_eval 0.7.3, for the outputs of the models below."""
    return (output, None) if isinstance(output, str) else (output.text, output.token_counts)


@pytest.fixture(autouse=True)
def instance(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`lmms_eval.api.instance`, or what stands in for it."""
    if INSTALLED:
        from lmms_eval.api import instance

        return instance
    for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.api.instance"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    module = sys.modules["lmms_eval.api.instance"]
    for part in (Instance, TokenCounts, GenerationResult, unwrap_generation_output):
        setattr(module, part.__name__, part)
    return module


class Chat:
    """A chat-style model, which reads its requests as lmms-eval's own do."""

    is_simple = False

    def __init__(
        self, answer: Callable[[str], Any] = lambda text: "<think>It is red.</think><answer>A</answer>"
    ) -> None:
        self.task_dict: dict[str, Any] = {}
        self.answer = answer
        self.seen: list[tuple[str, list[Any], dict[str, Any]]] = []

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        return [self.answer(self._read(request)) for request in requests]

    def _read(self, request: Any) -> str:
        _, to_messages, settings, number, task, split = request.args
        messages = to_messages(self.task_dict[task][split][number])
        if INSTALLED:
            from lmms_eval.protocol import ChatMessages

            messages = [message.model_dump() for message in ChatMessages(messages=messages).messages]
        parts = [part for message in messages for part in message["content"]]
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        self.seen.append((text, [part["url"] for part in parts if part["type"] == "image"], settings))
        settings.clear()  # adapters pop what they know
        return text


class Simple(Chat):
    """A model of the simple kind, which gets text and images apart."""

    is_simple = True

    def _read(self, request: Any) -> str:
        text, settings, to_visual, number, task, split = request.args
        self.seen.append((text, to_visual(self.task_dict[task][split][number]), settings))
        return str(text)


@pytest.fixture
def prompts(make_sample: Callable[..., Sample]) -> list[Prompt]:
    return list(expand([make_sample()], [WrongCaption(), WrongThink()], seed=0))


@pytest.mark.parametrize("kind", [Chat, Simple])
def test_both_kinds_are_shown_text_and_images(kind: type[Chat], prompts: list[Prompt]) -> None:
    lmms = kind()
    responses = LmmsModel(lmms, {"max_new_tokens": 7}).respond(prompts)
    assert [response.key[1] for response in responses] == ["base", "wrong_caption", "wrong_think"]
    for (text, images, _), prompt in zip(lmms.seen, prompts, strict=True):
        assert text.startswith(prompt.text)
        assert [image.size for image in images] == [(56, 56)]
    assert [response.answer for response in responses] == [0, 0, 0]
    assert all(response.option_logprobs is None for response in responses)


def test_earlier_turns_are_shown_to_models_that_take_them_and_fail_with_others(prompts: list[Prompt]) -> None:
    history = ({"role": "assistant", "text": "<answer>A</answer>"}, {"role": "user", "text": "Are you sure?"})
    asked = [prompts[0], prompts[1].replace(history=history)]
    lmms = Chat()
    LmmsModel(lmms).respond(asked)
    again = f"Are you sure?\n{asked[1].style.instruction_text()}"
    assert lmms.seen[1][0] == f"{asked[1].text}<answer>A</answer>{again}"
    base, failed = LmmsModel(Simple()).respond(asked)
    assert base.status != "error"
    assert failed.error == (
        "sample 'q1', condition 'wrong_caption': expected a chat-style model for a prompt with earlier turns, "
        "got Simple, which takes one text"
    )


def test_a_prefilled_thought_is_carried_by_the_users_text(prompts: list[Prompt]) -> None:
    lmms = Chat()
    base, caption, think = LmmsModel(lmms).respond(prompts)
    assert (base.carrier, caption.carrier, think.carrier) == ("assistant_prefill", "assistant_prefill", "user_text")
    assert prompts[2].prefill.removeprefix("<think>") in lmms.seen[2][0]
    assert think.think == "It is red."


def test_settings_are_given_anew_to_every_request(prompts: list[Prompt]) -> None:
    model = LmmsModel(Simple(), {"max_new_tokens": 7})
    model.respond(prompts)
    assert {settings["max_new_tokens"] for _, _, settings in model.lmms.seen} == {7}
    assert len({id(settings) for _, _, settings in model.lmms.seen}) == 3
    assert model.identity()["generation"]["max_new_tokens"] == 7


def test_tokens_are_counted_where_the_model_counts_them(prompts: list[Prompt], instance: Any) -> None:
    lmms = Chat(lambda _: instance.GenerationResult("A", instance.TokenCounts(output_tokens=5)))
    assert [response.n_tokens for response in LmmsModel(lmms).respond(prompts)] == [5, 5, 5]


def test_an_image_that_cannot_be_opened_fails_its_own_prompt(make_sample: Callable[..., Sample]) -> None:
    prompts = [Prompt.of(make_sample("q1", images=["none.png"])), Prompt.of(make_sample("q2"))]
    first, second = LmmsModel(Chat()).respond(prompts)
    assert (first.status, second.status) == ("error", "answered")
    assert "expected an image file at 'none.png'" in (first.error or "")


def test_what_the_model_raises_is_raised(prompts: list[Prompt]) -> None:
    def fail(text: str) -> str:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        LmmsModel(Chat(fail)).respond(prompts)


def test_too_few_outputs_are_an_error(prompts: list[Prompt]) -> None:
    lmms = Chat()
    lmms.generate_until = lambda requests: ["A"]  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="expected 3 outputs of Chat, got 1"):
        LmmsModel(lmms).respond(prompts)


def test_it_runs_in_an_evaluator(make_sample: Callable[..., Sample]) -> None:
    model = LmmsModel(Chat())
    assert isinstance(model, Model)
    report = Evaluator(model, [WrongCaption()]).run([make_sample(f"q{number}") for number in range(3)])
    assert len(report.frame) == 6
    assert model.identity()["class"].endswith("Chat")
