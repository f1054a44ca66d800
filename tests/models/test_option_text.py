"""Option texts scored by teacher forcing, compared with a loop of full forward passes and with enumeration."""

import inspect
import math
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from types import SimpleNamespace
from typing import Any

import oracle
import pytest
import torch
import transformers
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_letter_tokens import qwen
from torch import Tensor

from vlmrobust import Evaluator, HFModel, Prompt, Response, Responses, Sample, Style, expand, metrics
from vlmrobust.models import response_building
from vlmrobust.models.encoding import Rendered, ScoredText
from vlmrobust.models.option_texts import forced_frame, scored_texts
from vlmrobust.perturbations import AbstainOption, StopThink, WrongCaption

pytestmark = [
    # transformers' own, from handing tensors to numpy
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

Build = Callable[[str], zoo.Tiny]
# Plain, M-RoPE, deep-stacked and windowed caches, cross attention, and a prompt that is seen both ways.
FAMILIES = (
    *("qwen2_5_vl", "qwen3_vl", "internvl", "llava_onevision", "gemma3", "mllama"),
    pytest.param(
        "paligemma",
        marks=pytest.mark.skipif(
            transformers.__version__.startswith("4."), reason="refused there: see the test of a processor that adds"
        ),
    ),
)
WORDS = Style(answer_by="text")
ONE = {"max_new_tokens": 1}
OPTIONS = ("red", "red cube", "in front of the (blue) table.", "A", "not red")
WRITTEN = "<think>I look at it.</think>\n<answer>\nred cube\n</answer>"


@pytest.fixture(scope="module")
def pair() -> list[Sample]:
    """Return two samples whose options begin alike, hold one another, or end in a stop."""
    gradient = Image.linear_gradient("L").convert("RGB").resize((56, 56))
    return [
        Sample(id="q0", images=[gradient], question="Which colour?", options=OPTIONS, answer=1),
        Sample(
            id="q1", images=[gradient.rotate(90)], question="And which is that?", options=OPTIONS[:3][::-1], answer=0
        ),
    ]


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return how to make a model write a given text, whatever its tokens are."""
    return lambda text: monkeypatch.setattr(response_building, "decoded_text", lambda tokenizer, tokens: text)


def forced(samples: Sequence[Sample], style: Style = WORDS) -> list[Prompt]:
    return [prompt for prompt in expand(samples, [StopThink()], style=style) if prompt.condition == "stop_think"]


def cut(tokenizer: Any, context: str, options: Sequence[str], closing: str) -> tuple[list[list[int]], int, list[int]]:
    """Return each option's whole text in tokens, how many of them all share, and where each one's scored part ends."""
    encoded = [tokenizer(context + option + closing, add_special_tokens=False)["input_ids"] for option in options]
    every = [*encoded, tokenizer(context, add_special_tokens=False)["input_ids"]]
    shared = 0
    while all(shared < len(row) and row[shared] == every[0][shared] for row in every):
        shared += 1
    ends = []
    for option, row in zip(options, encoded, strict=True):
        open_ended = tokenizer(context + option, add_special_tokens=False)["input_ids"]
        same = 0
        while same < min(len(open_ended), len(row)) and open_ended[same] == row[same]:
            same += 1
        may_merge = row[-1] not in tokenizer.get_added_vocab().values()
        ends.append(len(row) - 1 if closing and may_merge and len(row) - same > 1 else len(row))
    return encoded, shared, ends


def looped(made: zoo.Tiny, prompt: Prompt, before: str, closing: str) -> Tensor:
    """Return the log-probability of each option: one full forward per option, the whole text tokenized anew."""
    tokenizer = made.processor.tokenizer
    context = oracle.rendered(made.processor, prompt) + before
    is_prefix_lm = made.family == "paligemma"  # its processor ends the prompt; what follows is seen one way
    encoded, shared, ends = cut(tokenizer, "" if is_prefix_lm else context, prompt.options, closing)
    values = []
    for option, row, end in zip(prompt.options, encoded, ends, strict=True):
        if is_prefix_lm:
            inputs = oracle.continued(oracle.inputs_of(made.processor, context, prompt.images), row)
            inputs["token_type_ids"][:, -len(row) :] = 1
        else:
            inputs = oracle.inputs_of(made.processor, context + option + closing, prompt.images)
        tokens = inputs["input_ids"][0].tolist()
        logprobs = oracle.logits_of(made.model, inputs)
        start, stop = len(tokens) - len(row) + shared, len(tokens) - len(row) + end
        total = sum(logprobs[place - 1, tokens[place]] for place in range(start, stop))
        values.append(total if closing else total + logprobs[-1, tokenizer.eos_token_id])
    return torch.stack(values)


def texts_of(response: Response) -> Tensor:
    assert response.error is None, response.error
    assert response.option_logprobs is not None
    return torch.tensor(response.option_logprobs, dtype=torch.float64)


@pytest.mark.parametrize("family", FAMILIES)
def test_forced_option_texts_equal_a_loop_of_full_forwards(family: str, tiny: Build, pair: list[Sample]) -> None:
    made = tiny(family)
    for batch_size in (None, 1):
        engine = HFModel(made.model, made.processor, batch_size=batch_size)
        for prompt, response in zip(prompts := forced(pair), engine.respond(prompts), strict=True):
            want = looped(made, prompt, "<answer>", "</answer>")
            torch.testing.assert_close(texts_of(response), want, atol=1e-4, rtol=0)
            assert response.answer == int(want.argmax())
            assert response.text == f"<answer>{prompt.options[int(want.argmax())]}</answer>"
            assert (response.status, response.finish_reason, response.n_tokens) == ("answered", "readout", 0)
            assert response.readout == "option_text_fixed_prefix"
            assert response.letter_mass == pytest.approx(float(want.exp().sum()), abs=1e-4)
            assert response.letter_mass <= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_after_the_models_own_thought_equal_a_loop_of_full_forwards(
    family: str, tiny: Build, pair: list[Sample], writes: Callable[[str], None]
) -> None:
    made = tiny(family)
    writes(WRITTEN)
    prompts = [Prompt.of(sample, style=WORDS) for sample in pair]
    for prompt, response in zip(prompts, HFModel(made.model, made.processor, ONE).respond(prompts), strict=True):
        want = looped(made, prompt, WRITTEN.partition("red cube")[0], "\n</answer>")
        torch.testing.assert_close(texts_of(response), want, atol=1e-4, rtol=0)
        assert (response.text, response.answer) == (WRITTEN, 1)  # its own, likeliest or not
        assert (response.readout, response.own_think, response.n_tokens) == ("option_text", "I look at it.", 1)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_onevision"])
def test_direct_answers_end_with_the_turn(family: str, tiny: Build, pair: list[Sample]) -> None:
    made = tiny(family)
    prompts = list(expand(pair, [], style=Style(answer_by="text", mode="direct")))
    for prompt, response in zip(prompts, HFModel(made.model, made.processor).respond(prompts), strict=True):
        want = looped(made, prompt, "", "")
        torch.testing.assert_close(texts_of(response), want, atol=1e-4, rtol=0)
        assert response.text == prompt.options[int(want.argmax())]
        assert (response.readout, response.well_formed) == ("option_text_direct", None)


def test_the_plain_path_gives_the_same_results(tiny: Build, pair: list[Sample]) -> None:
    for family in ("qwen2_5_vl", "gemma3"):
        made = tiny(family)
        shared, plain = (
            HFModel(made.model, made.processor, share_prefixes=share).respond(forced(pair)) for share in (True, False)
        )
        for one, other in zip(shared, plain, strict=True):
            torch.testing.assert_close(texts_of(one), texts_of(other), atol=1e-4, rtol=0)
            assert one.option_tokens == other.option_tokens


def test_all_options_of_a_prompt_use_its_cache(
    tiny: Build, pair: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny("qwen2_5_vl")
    engine = HFModel(made.model, made.processor)
    engine.respond(forced(pair))  # the first family is read both ways
    real, shapes = made.model.forward, []

    def forward(*arguments: Any, **inputs: Any) -> Any:
        shapes.append(tuple(inputs["input_ids"].shape))
        return real(*arguments, **inputs)

    forward.__signature__ = inspect.signature(real)  # type: ignore[attr-defined]
    monkeypatch.setattr(made.model, "forward", forward)
    engine.respond(forced(pair))
    (prompts, length), *passes = shapes
    assert (prompts, sum(rows for rows, _ in passes)) == (2, 8)
    assert all(2 * suffix < length for _, suffix in passes)
    # Options of very different lengths may go in two passes, where that is less work than padding.
    assert sum(rows * suffix for rows, suffix in passes) <= 8 * max(suffix for _, suffix in passes)


def test_added_options_are_scored_as_well(tiny: Build, pair: list[Sample]) -> None:
    made = tiny("internvl")
    prompts = expand(pair[:1], [StopThink() + AbstainOption()], style=WORDS)
    [prompt] = [prompt for prompt in prompts if prompt.condition != "base"]
    [response] = HFModel(made.model, made.processor).respond([prompt])
    want = looped(made, prompt, "<answer>", "</answer>")
    values = torch.tensor([*(response.option_logprobs or ()), *response.added_logprobs], dtype=torch.float64)
    torch.testing.assert_close(values, want, atol=1e-4, rtol=0)
    assert len(want) == 6


def test_a_truncated_thought_is_closed_and_scored(
    tiny: Build, pair: list[Sample], writes: Callable[[str], None]
) -> None:
    made = tiny("qwen2_5_vl")
    writes("<think>I look at")
    prompt = Prompt.of(pair[0], style=WORDS)
    [response] = HFModel(made.model, made.processor, ONE).respond([prompt])
    assert (response.status, response.option_logprobs) == ("truncated", None)
    [response] = HFModel(made.model, made.processor, ONE, force_answer=True).respond([prompt])
    want = looped(made, prompt, "<think>I look at</think><answer>", "</answer>")
    torch.testing.assert_close(texts_of(response), want, atol=1e-4, rtol=0)
    assert (response.answer, response.readout) == (int(want.argmax()), "option_text_fixed_prefix")
    assert (response.n_tokens, response.own_think) == (1, "I look at")


@pytest.mark.parametrize(
    "text",
    [
        "<think>I look.</think>It is red.",
        "<think>I look.</think><answer>?</answer>",
        "<think>I look at <|image_pad|>.</think><answer>red</answer>",  # which its processor would take for an image
        "",
    ],
)
def test_without_an_answer_in_tags_nothing_is_read(
    text: str, tiny: Build, pair: list[Sample], writes: Callable[[str], None]
) -> None:
    made = tiny("qwen2_5_vl")
    writes(text)
    [response] = HFModel(made.model, made.processor, ONE).respond([Prompt.of(pair[0], style=WORDS)])
    assert (response.error, response.option_logprobs, response.option_tokens, response.readout) == (None,) * 4


def test_the_likeliest_option_is_the_answer_whatever_its_text(tiny: Build, make_sample: Callable[..., Sample]) -> None:
    made = tiny("qwen2_5_vl")
    sample = make_sample(options=("A or B", "Red", "red", "</answer> blue"))
    for seed in range(4):
        turned = make_sample(options=sample.options[seed:] + sample.options[:seed])
        [prompt] = forced([turned])
        [response] = HFModel(made.model, made.processor).respond([prompt])
        assert (response.status, response.answer) == ("answered", int(texts_of(response).argmax()))


def test_a_model_that_attends_to_later_tokens_is_refused(
    tiny: Build, pair: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny("qwen2_5_vl")
    real = ScoredText.read
    monkeypatch.setattr(ScoredText, "read", lambda self, logits: [real(self, logits)[0], float(len(self.tokens))])
    for response in HFModel(made.model, made.processor).respond(forced(pair)):
        assert response.status == "error"
        assert f"sample {response.sample_id!r}, condition 'stop_think': expected logits before" in (
            response.error or ""
        )


def test_a_processor_that_adds_to_the_text_is_refused(tiny: Build, pair: list[Sample]) -> None:
    made = tiny("paligemma")
    engine = HFModel(made.model, made.processor)
    engine._encoder.takes_answers = False
    for response in engine.respond(forced(pair)):
        assert response.status == "error"
        assert "expected the text to end with the option's own tokens; the processor adds others" in response.error


# --------------------------------------------------------------------------------------------- by enumeration


def planted(rows: Sequence[list[int]], shares: Sequence[float], size: int) -> Callable[[Sequence[int]], Tensor]:
    """Return the next-token logits of a model that writes the i-th of some token sequences with the i-th share."""

    def logits(prefix: Sequence[int]) -> Tensor:
        weights = torch.zeros(size, dtype=torch.float64)
        for row, share in zip(rows, shares, strict=True):
            if len(row) > len(prefix) and row[: len(prefix)] == list(prefix):
                weights[row[len(prefix)]] += share
        return weights.log()

    return logits


@cache
def tokenizers() -> tuple[Any, Any]:
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    return zoo.byte_level_tokenizer(names, ()), zoo.sentence_piece_tokenizer(names)


def item_of(turns: str, options: Sequence[str]) -> Rendered:
    sample = Sample(id="q", images=["x.png"], question="Which?", options=options, answer=0)
    return Rendered(Prompt.of(sample, style=WORDS), turns, (), "<answer>")


def scored_of(tokenizer: Any, item: Rendered) -> list[ScoredText]:
    encoder = SimpleNamespace(
        takes_answers=False,
        added_tokens=frozenset(tokenizer.get_added_vocab().values()),
        tokens=lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"]),
    )
    return scored_texts(encoder, item, forced_frame(item), [tokenizer.eos_token_id or 0])


words = st.text(st.sampled_from("AaBre d>.)é</"), min_size=1, max_size=8).filter(lambda text: text == text.strip())


@settings(max_examples=60)
@given(st.lists(words, min_size=2, max_size=5, unique=True), st.randoms(use_true_random=False), st.integers(0, 1))
def test_a_known_distribution_of_answers_is_recovered(options: list[str], random: Random, which: int) -> None:
    # Whatever merges across the tag and the option ("<answer" + ">A"), and across the option and the closing tag.
    tokenizer = tokenizers()[which]
    shares = [random.random() + 0.01 for _ in options]
    shares = [share / sum(shares) for share in shares]
    turns = "<think>It is red.</think>"
    whole = [tokenizer(f"{turns}<answer>{text}</answer>", add_special_tokens=False)["input_ids"] for text in options]
    logits = planted(whole, shares, len(tokenizer))
    scored = scored_of(tokenizer, item_of(turns, options))
    for text, tokens, share in zip(scored, whole, shares, strict=True):
        assert text.stands_in(tokens)
        start = len(tokens) - text.places + 1
        steps = torch.stack([logits(tokens[: start + step]) for step in range(text.used)])
        assert text.read(steps)[0] == pytest.approx(math.log(share), abs=1e-6)
    # None begins with another: they are exclusive events.
    begun = [text.tokens for text in scored]
    assert not any(one != other and other[: len(one)] == one for one in begun for other in begun)


def test_qwens_merges_at_both_edges() -> None:
    tokenizer = qwen()[0]
    options = ["A red one", "behind (it).", "red"]
    scored = scored_of(tokenizer, item_of("", options))
    read = [tokenizer.convert_ids_to_tokens(list(text.tokens)) for text in scored]
    assert read == [
        [">A", "Ġred", "Ġone", "</", "answer"],
        [">", "beh", "ind", "Ġ(", "it", ").</", "answer"],
        [">", "red", "</", "answer"],
    ]


# ----------------------------------------------------------------------------------------- through the report


class SaysWords:
    """Answers in words, right unless a caption misleads it, with P(its answer) = 0.7 and 0.9 on all options."""

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        return [self.answer(prompt) for prompt in prompts]

    def answer(self, prompt: Prompt) -> Response:
        shown = prompt.shown(prompt.sample.answer if prompt.asserted is None else prompt.asserted)
        assert shown is not None
        others = 0.3 / (len(prompt.options) - 1)
        shares = [0.7 if place == shown else others for place in range(len(prompt.options))]
        logprobs = [math.log(0.9 * share) for share in shares]
        tokens = [1 + len(option.split()) for option in prompt.options]
        said = prompt.options[shown]
        is_forced = "</think>" in prompt.prefill
        return Response.parse(
            prompt,
            ("" if is_forced else f'<think>So the answer is "{said}".</think>') + f"<answer>{said}</answer>",
            finish_reason="readout" if is_forced else "stop",
            option_logprobs=logprobs,
            option_tokens=tokens,
            readout="option_text_fixed_prefix" if is_forced else "option_text",
        )


def test_a_model_with_text_answers_has_the_expected_values(make_sample: Callable[..., Sample]) -> None:
    options = ("red", "dark red cube", "blue", "green")
    samples = [make_sample(f"q{index}", options=options, answer=1, distractor=0) for index in range(8)]
    measured = [*metrics.default_metrics(), metrics.CorrectProbability(per_token=True)]
    report = Evaluator(SaysWords(), [WrongCaption(), StopThink()], measured, style=WORDS).run(samples)
    value = report.summary.set_index(["condition", "metric"])["value"]
    entropy = -0.7 * math.log(0.7) - 0.3 * math.log(0.1)
    means = torch.tensor([math.log(0.09) / 2, math.log(0.63) / 4, math.log(0.09) / 2, math.log(0.09) / 2])
    expected = {
        "base": (1, 0, 0.7, 0.1, entropy, entropy / math.log(4), 0.9, 1, 1),
        "wrong_caption": (0, 1, 0.1, 0.7, entropy, entropy / math.log(4), 0.9, 1, 1),
    }
    names = (
        *("accuracy", "follow_rate", "correct_probability", "distractor_probability", "letter_entropy"),
        *("relative_letter_entropy", "letter_mass", "format_rate", "consistency"),
    )
    for condition, values in expected.items():
        for name, want in zip(names, values, strict=True):
            assert value[condition, name] == pytest.approx(want, abs=1e-6), (condition, name)
    assert value["base", "correct_probability_per_token"] == pytest.approx(float(means.softmax(0)[1]), abs=1e-6)
    assert value["wrong_caption", "flip_rate"] == 1
    forced = report.summary.query("condition == 'stop_think' and metric == 'correct_probability'").iloc[0]
    assert forced["value"] == pytest.approx(0.7)
    assert math.isnan(forced["difference"])  # texts were scored at another place
    assert "read-outs differ (option_text under base, option_text_fixed_prefix here)" in forced["note"]


def test_a_per_token_mean_is_undefined_where_letters_were_read(make_sample: Callable[..., Sample]) -> None:
    letters = Response.parse(prompt := Prompt.of(make_sample()), "<answer>B</answer>", option_logprobs=[-1.0] * 4)
    texts = Response.parse(
        prompt, "<answer>B</answer>", option_logprobs=[-1.0, -2.0, -math.inf, -4.0], option_tokens=[1, 2, 3, 4]
    )
    both = Responses.of([prompt, prompt], [letters, texts])
    assert both.option_mean_logprobs()[0].isnan().all()
    assert both.option_mean_logprobs()[1].tolist() == [-1.0, -1.0, -math.inf, -1.0]
    values = metrics.CorrectProbability(per_token=True)(both)
    assert values[0].isnan()
    assert values[1] == pytest.approx(1 / 3)
    assert metrics.LetterEntropy(per_token=True).column == "letter_entropy_per_token"
