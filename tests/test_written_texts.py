"""Captions and thoughts written by a model: checks, the file, and what is rejected."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from openai_server import ChatServer, ToyModel
from typer.testing import CliRunner

import vlmrobust as vr
from vlmrobust import Evaluator, Prompt, Response, Sample, WrittenTexts, cli, demo
from vlmrobust.catalogue import writer_named
from vlmrobust.judges import RuleJudge
from vlmrobust.models.base import RefusedError
from vlmrobust.perturbations import CorrectCaption, CorrectThink, WrongCaption, WrongThink
from vlmrobust.testing import FakeModel
from vlmrobust.written_texts import TextModel

SAMPLES = [
    Sample(id="sky", images=[b"x"], question="What colour is the kite?", options=["red", "blue", "green"], answer=1),
    Sample(id="yard", images=[b"x"], question="How many hens are there?", options=["2", "5"], answer=0),
    Sample(id="hall", images=[b"x"], question="Is the gate open?", options=["yes", "no"], answer=0),
]


def wanted(prompt: str) -> str:
    """Return the statement that the writer is asked to assert."""
    found = re.search(r"(?:says this: |concludes this: )(.+?[.!])(?: One| Two)", prompt)
    assert found is not None, prompt
    return found[1]


def compliant(request: str) -> str:
    """Return a text that asserts what is requested."""
    text = wanted(request)
    return text if "Write a caption" in request else f"I look at it closely. {text} So the answer is {ending(request)}"


def ending(request: str) -> str:
    found = re.search(r'So the answer is (".+?"\.)', request)
    assert found is not None
    return found[1]


class Writer:
    """A model that answers with `write(request)`."""

    def __init__(self, write: Callable[[str], str] = compliant, name: str = "a-writer") -> None:
        self.write, self.name, self.asked = write, name, list[Prompt]()

    def identity(self) -> dict[str, str]:
        return {"name": self.name}

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        self.asked += prompts
        return [Response.parse(prompt, self.write(prompt.text), finish_reason="stop") for prompt in prompts]


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_each_sample_gets_texts_for_its_distractor_and_its_answer(tmp_path: Path) -> None:
    writer = Writer()
    texts = WrittenTexts.write(SAMPLES, writer, tmp_path / "texts.jsonl", seed=3)
    assert texts.counts == {"texts": 12, "at once": 12, "asked again": 0, "by rules": 0}
    rows = rows_of(tmp_path / "texts.jsonl")
    assert {(row["id"], row["kind"], row["option"]) for row in rows if row["id"] != "sky"} == {
        (name, kind, option) for name in ("yard", "hall") for kind in ("caption", "thought") for option in (0, 1)
    }
    of_sky = {row["option"] for row in rows if row["id"] == "sky"}
    assert 1 in of_sky
    assert len(of_sky) == 2
    caption = next(row for row in rows if (row["id"], row["kind"], row["option"]) == ("hall", "caption", 1))
    assert caption["text"] == "Caption: The gate is not open."
    assert (caption["asserts"], caption["writer"], caption["judge"]) == ("no", "a-writer", "RuleJudge")
    thought = next(row for row in rows if (row["id"], row["kind"], row["option"]) == ("yard", "thought", 1))
    assert (thought["verdict"], thought["form"], thought["refused"]) == (1, "written", [])
    assert all(not prompt.images for prompt in writer.asked)


def test_conditions_show_the_texts_and_assert_their_options(tmp_path: Path) -> None:
    written = WrittenTexts.write(SAMPLES, Writer(), tmp_path / "texts.jsonl", seed=3)
    texts = {(row.id, row.kind, row.option): row.text for row in written.rows}
    conditions = [WrongCaption(), CorrectCaption(), WrongThink(), CorrectThink()]
    ready = WrittenTexts.load(tmp_path / "texts.jsonl").given(SAMPLES)
    for seed in (3, 4, 5):  # another run's seed draws no other distractor than the file has
        for prompt in vr.expand(ready, conditions, seed=seed):
            if prompt.condition == "base":
                continue
            kind = "caption" if "caption" in prompt.condition else "thought"
            shown = prompt.context or prompt.prefill.removeprefix("<think>")
            assert prompt.asserted is not None
            assert shown == texts[prompt.sample.id, kind, prompt.asserted]
            assert (prompt.asserted == prompt.sample.answer) == prompt.condition.startswith("correct")


def test_second_call_requests_only_missing_texts(tmp_path: Path) -> None:
    file, again = tmp_path / "texts.jsonl", Writer()
    first = WrittenTexts.write(SAMPLES[:2], Writer(), file)
    assert WrittenTexts.write(SAMPLES[:2], again, file).digest == first.digest
    assert again.asked == []
    more = WrittenTexts.write(SAMPLES, again, file)
    assert {prompt.sample.id for prompt in again.asked} == {"hall"}
    assert more.digest != first.digest
    assert more.rows[: len(first.rows)] == first.rows


def stubborn(request: str) -> str:
    """Always return a wrong text for the kite, and a wrong first text for the hens."""
    if "kite" in request or ("hens" in request and "last attempt" not in request):
        return 'So the answer is "green".' if "kite" in request else "Something is there."
    return compliant(request)


def test_failed_text_is_requested_again_and_then_written_by_rules(tmp_path: Path) -> None:
    sample = SAMPLES[0].replace(distractor=0)  # "green" is neither right nor what wrong texts assert
    samples = [sample, SAMPLES[1]]
    writer = Writer(stubborn)
    texts = WrittenTexts.write(samples, writer, tmp_path / "texts.jsonl")
    assert texts.counts == {"texts": 8, "at once": 0, "asked again": 4, "by rules": 4}
    assert len(writer.asked) == 16
    by_rules = [row for row in texts.rows if row.form == "rules"]
    assert {row.id for row in by_rules} == {"sky"}
    assert all(row.verdict is None and len(row.refused) == 2 and "green" in row.refused[0] for row in by_rules)
    for prompt in vr.expand(texts.given(samples), [WrongCaption(), CorrectThink()], seed=0):
        library = next(
            other for other in vr.expand(samples, [WrongCaption(), CorrectThink()], seed=0) if other.key == prompt.key
        )
        if prompt.sample.id == "sky":
            assert (prompt.context, prompt.prefill) == (library.context, library.prefill)


def test_one_failed_text_replaces_all_texts_of_its_kind(tmp_path: Path) -> None:
    def half(request: str) -> str:
        return "A kite." if "caption" in request and "red" in wanted(request) else compliant(request)

    sample = SAMPLES[0].replace(distractor=0)
    texts = WrittenTexts.write([sample], Writer(half), tmp_path / "texts.jsonl")
    assert {(row.kind, row.form) for row in texts.rows} == {("caption", "rules"), ("thought", "written")}
    right = next(row for row in texts.rows if row.kind == "caption" and row.option == 1)
    assert right.refused == ()  # it passed by itself


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("A red kite is in the sky.", True),
        ("<think>They want red.</think>\n\nCaption: “A red kite is in the sky.”", True),
        ("**Caption:** A red kite.", True),
        ("The kite is blue.", False),
        ("The kite is not red.", False),
        ("The kite may be red or blue.", False),
        ("The kite is red, as option A says.", False),
        ("The kite is red (A).", False),
        ("The kite is red.</answer>", False),
        ("<think>They want red", False),
        ("", False),
        ("I cannot see the image.", False),
        ("The kite is red. " * 200, False),
    ],
)
def test_check(text: str, passes: bool, tmp_path: Path) -> None:
    def write(request: str) -> str:
        return text if "caption" in request and "red" in wanted(request) else compliant(request)

    sample = SAMPLES[0].replace(distractor=0)
    texts = WrittenTexts.write([sample], Writer(write), tmp_path / "texts.jsonl", kinds=["caption"])
    [row] = [row for row in texts.rows if row.option == 0]
    assert row.form == ("written" if passes else "rules")
    if passes:
        assert re.fullmatch(r"Caption: A red kite[\w ]*\.", row.text)


def test_library_statement_passes_if_the_judge_is_unsure_unless_another_is_stated(tmp_path: Path) -> None:
    answers = {"yes": "Look here. The gate is open.", "no": "The gate is open. The gate is not open."}

    def write(request: str) -> str:
        return answers["no" if "not open" in wanted(request) else "yes"]

    texts = WrittenTexts.write([SAMPLES[2]], Writer(write), tmp_path / "texts.jsonl", kinds=["caption"])
    refused = {row.asserts: len(row.refused) for row in texts.rows}
    assert refused == {"yes": 0, "no": 2}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"question": "What colour is the dragon?"}, "question"),
        ({"options": ["red", "blue", "violet"]}, "options"),
        ({"options": ["blue", "red", "green"]}, "options"),
        ({"answer": 2}, "answer"),
        ({"id": "sea"}, "id"),
        ({"distractor": 2}, "distractor"),
    ],
)
def test_texts_for_other_data_are_rejected_by_id_and_field(change: dict[str, Any], field: str, tmp_path: Path) -> None:
    sample = SAMPLES[0].replace(distractor=0)
    texts = WrittenTexts.write([sample], Writer(), tmp_path / "texts.jsonl")
    other = sample.replace(**change)
    with pytest.raises(ValueError, match=f"sample '{other.id}', field '{field}'"):
        texts.given([other])
    if field in ("question", "options"):
        writer = Writer()
        with pytest.raises(ValueError, match=f"sample 'sky', field '{field}'"):
            WrittenTexts.write([other], writer, tmp_path / "texts.jsonl")
        assert writer.asked == []


def test_one_file_has_one_writer_and_one_judge(tmp_path: Path) -> None:
    WrittenTexts.write(SAMPLES, Writer(), tmp_path / "texts.jsonl")
    with pytest.raises(ValueError, match=r"field 'writer': expected 'a-writer'.* got 'another'"):
        WrittenTexts.write(SAMPLES, Writer(name="another"), tmp_path / "texts.jsonl")
    with pytest.raises(ValueError, match=r"field 'judge': expected 'RuleJudge'.* got 'strict'"):
        WrittenTexts.write(SAMPLES, Writer(), tmp_path / "texts.jsonl", judge=RuleJudge(name="strict"))


def test_error_names_an_invalid_line(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    WrittenTexts.write(SAMPLES, Writer(), file)
    file.write_text(file.read_text() + '{"id": "sky"}\n')
    with pytest.raises(ValueError, match=r"texts.jsonl, line 13: expected a written text"):
        WrittenTexts.load(file)


def test_every_option_writes_texts_for_all_wrong_options(tmp_path: Path) -> None:
    some = WrittenTexts.write(SAMPLES, Writer(), tmp_path / "some.jsonl")
    with pytest.raises(ValueError, match="sample 'sky', field 'options': expected texts for all wrong options"):
        some.given(SAMPLES, every_option=True)
    every = WrittenTexts.write(SAMPLES, Writer(), tmp_path / "every.jsonl", every_option=True)
    sky = every.given(SAMPLES, every_option=True)[0]
    assert sky.distractor is None
    assert set(sky.texts["wrong_caption"]) == {0, 2}


def test_own_texts_are_kept(tmp_path: Path) -> None:
    own = SAMPLES[0].replace(texts={"wrong_caption": {0: "Red!", 2: "Green!"}})
    texts = WrittenTexts.write([own], Writer(), tmp_path / "texts.jsonl")
    assert {row.kind for row in texts.rows} == {"thought"}
    [ready] = texts.given([own])
    assert ready.texts["wrong_caption"] == own.texts["wrong_caption"]
    assert "wrong_think" in ready.texts
    scene = demo.samples(1)
    assert WrittenTexts([]).given(scene) == scene


class Failing(Writer):
    """Fails on prompts about hens, or raises on them if `refuses`."""

    refuses = False

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        if self.refuses and any("hens" in prompt.question for prompt in prompts):
            raise RefusedError("no such key")
        responses = super().respond(prompts)
        return [
            Response.failed(prompt, "overloaded") if "hens" in prompt.question else response
            for prompt, response in zip(prompts, responses, strict=True)
        ]


def test_failed_request_is_not_counted_as_a_failed_text(tmp_path: Path) -> None:
    file, writer = tmp_path / "texts.jsonl", Failing()
    with pytest.raises(ValueError, match=r"4 texts could not be requested .* sample 'yard', with overloaded"):
        WrittenTexts.write(SAMPLES, writer, file)
    assert {row["id"] for row in rows_of(file)} == {"sky", "hall"}
    good = Writer()
    WrittenTexts.write(SAMPLES, good, file)
    assert {prompt.sample.id for prompt in good.asked} == {"yard"}


def test_texts_before_an_error_are_saved(tmp_path: Path) -> None:
    file, writer = tmp_path / "texts.jsonl", Failing()
    writer.refuses = True
    with pytest.raises(RefusedError):
        WrittenTexts.write(SAMPLES, writer, file, batch_size=1)
    assert {row["id"] for row in rows_of(file)} == {"sky"}


def test_run_cannot_be_resumed_with_other_texts(tmp_path: Path) -> None:
    texts = WrittenTexts.write(SAMPLES, Writer(), tmp_path / "a.jsonl")
    model = FakeModel(opens_images=False)
    Evaluator(model, [WrongCaption()]).run(texts.given(SAMPLES), tmp_path / "run")
    Evaluator(model, [WrongCaption()]).run(texts.given(SAMPLES), tmp_path / "run")
    other = WrittenTexts([row.replace(text=f"{row.text} Really.") for row in texts.rows])
    assert other.digest != texts.digest
    with pytest.raises(ValueError, match="sample 'sky'"):
        Evaluator(model, [WrongCaption()]).run(other.given(SAMPLES), tmp_path / "run")


# --- models -----------------------------------------------------------------------------------------------------------


def test_evaluated_model_as_writer_falls_back_to_rules(tmp_path: Path) -> None:
    tiny = demo.model()
    model = vr.HFModel(tiny.model, tiny.processor, {"max_new_tokens": 24})
    [scene] = (scene.replace(texts={}) for scene in demo.samples(1))
    texts = WrittenTexts.write([scene], model, tmp_path / "texts.jsonl")
    assert texts.counts == {"texts": 4, "at once": 0, "asked again": 0, "by rules": 4}  # it cannot write captions
    assert {row.attempts for row in texts.rows} == {2}
    assert texts.given([scene])[0].texts.keys() == {"wrong_caption", "correct_caption", "wrong_think", "correct_think"}


@pytest.mark.parametrize("templated", [True, False])
def test_batched_text_model_equals_plain_greedy_decoding(templated: bool) -> None:
    import torch
    from test_language_model import QWEN3, make_tiny_model

    model, tokenizer = make_tiny_model(template=QWEN3 if templated else None)
    model.generation_config.repetition_penalty = 5.0  # the checkpoint's own settings are ignored
    prompts = [Prompt.of(sample).replace(images=()) for sample in SAMPLES]
    responses = TextModel(model, tokenizer, max_new_tokens=6).respond(prompts)
    for prompt, response in zip(prompts, responses, strict=True):
        text = f"{prompt.text}\n\n"
        if templated:
            turns = [{"role": "user", "content": prompt.text}]
            text = tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=False, enable_thinking=False
            )
        tokens = list(tokenizer(text, add_special_tokens=not templated)["input_ids"])
        start = len(tokens)
        with torch.inference_mode():
            while len(tokens) < start + 6 and (len(tokens) == start or tokens[-1] != tokenizer.eos_token_id):
                tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
        ended = tokens[-1] == tokenizer.eos_token_id
        assert response.text == tokenizer.decode(tokens[start : len(tokens) - ended], skip_special_tokens=True)
        assert response.finish_reason == ("stop" if ended else "length")


class Server(ChatServer):
    """A server whose model is compliant, except for its first texts about hens."""

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        [message] = body["messages"]
        request = message["content"] if isinstance(message["content"], str) else message["content"][0]["text"]
        text = "Hens." if "hens" in request and "last attempt" not in request else compliant(request)
        return self.schema(body, text, [], "stop")


def test_from_the_command_line_with_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from vlmrobust.models import HFModel

    Image.new("RGB", (8, 8), "red").save(tmp_path / "x.png")
    rows, file = tmp_path / "rows.jsonl", tmp_path / "texts.jsonl"
    fields = ("id", "question", "options", "answer")
    lines = [{name: getattr(sample, name) for name in fields} | {"image": "x.png"} for sample in SAMPLES]
    rows.write_text("\n".join(map(json.dumps, lines)))
    server = Server(ToyModel())
    monkeypatch.setenv("KEY", "very-secret-key")
    command = ["texts", "--writer", "openai:some/model", "--base-url", server.url, "--api-key-env", "KEY"]
    try:
        result = CliRunner().invoke(cli.app, [*command, "--data", str(rows), "--out", str(file), "--json"])
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert {name: found[name] for name in ("texts", "at once", "asked again", "by rules")} == {
            "texts": 12,
            "at once": 8,
            "asked again": 4,
            "by rules": 0,
        }
        assert len(server.seen) == 16
        assert all("image_url" not in json.dumps(body) and not body.get("logprobs") for body in server.seen)
        result = CliRunner().invoke(cli.app, [*command, "--data", str(rows), "--out", str(file)])
        assert result.stdout.strip() == "12 texts, 8 at once, 4 asked again, 0 by rules"
        assert len(server.seen) == 16
    finally:
        server.stop()
    assert {row["writer"] for row in rows_of(file)} == {"some/model"}
    assert "very-secret-key" not in file.read_text()

    monkeypatch.setattr(HFModel, "from_pretrained", lambda *given, **settings: FakeModel(follow_caption=1.0))
    out = tmp_path / "run"
    running = ["run", "--model", "any", "--data", str(rows), "--out", str(out), "--conditions", "wrong_caption"]
    result = CliRunner().invoke(cli.app, [*running, "--texts", str(file)])
    assert result.exit_code == 0, result.output
    found = vr.Report.load(out).responses
    shown = {context for context, name in zip(found.context, found.condition, strict=True) if name == "wrong_caption"}
    assert shown == {row["text"] for row in rows_of(file) if row["kind"] == "caption" and not _is_right(row)}
    assert "texts.jsonl" in (out / "run.toml").read_text()

    result = CliRunner().invoke(cli.app, [*running[:-3], str(tmp_path / "b"), "--texts", str(file), "--runner-up"])
    assert result.exit_code == 2
    assert "sample 'sky', field 'options'" in result.stderr
    rows.write_text("\n".join(json.dumps(line | {"question": "What colour is the hat?"}) for line in lines))
    result = CliRunner().invoke(cli.app, [*running[:-3], str(tmp_path / "c"), "--texts", str(file)])
    assert result.exit_code == 2
    assert "sample 'sky', field 'question'" in result.stderr


def _is_right(row: dict[str, Any]) -> bool:
    return bool(row["option"] == next(sample.answer for sample in SAMPLES if sample.id == row["id"]))


@pytest.mark.parametrize("writer", ["rules", "hf:", "gpt-5", "self"])
def test_unknown_writer_is_rejected(writer: str) -> None:
    with pytest.raises(ValueError, match="--writer: expected hf:NAME, vllm:NAME or openai:NAME, got"):
        writer_named(writer, where="--writer")
