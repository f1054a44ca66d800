"""Letter probabilities compared with frequencies of thousands of samples, parsed as answers."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import oracle
import pytest
import torch
import zoo
from scipy.stats import beta
from transformers import GenerationConfig

from vlmrobust import Prompt, Response, Sample, Style, expand
from vlmrobust.models import HFModel
from vlmrobust.models.letter_tokens import LetterVocabulary, Members
from vlmrobust.models.look_ahead import LookAhead
from vlmrobust.perturbations import StopThink
from vlmrobust.types.response import parse_turn

pytestmark = [
    # transformers' own, from handing tensors to numpy
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

Build = Callable[[str], zoo.Tiny]
DRAWS = 2000
AT_THE_TAG = "<think>It is red.</think><answer>"
# Letters of both cases, alone and after a space; what makes words of them ("p", "an"), and what ends them.
SPEAKS = {"A": 17.0, " A": 16.0, "B": 17.0, "b": 17.0, " b": 15.0, "a": 16.5, " a": 16.0, "C": 15.0}
GOES_ON = {"p": 16.0, "an": 15.0, " red": 15.0, "</": 17.0, ">": 17.0}


def speaking(family: str, amounts: Mapping[str, float], *, stop: float = 16.0) -> zoo.Tiny:
    """Return a tiny model that likes to write some tokens, whatever stands before them."""
    made = zoo.build(family)
    tokenizer = made.processor.tokenizer
    texts = oracle.token_texts(tokenizer)
    liked = {texts.index(text): amount for text, amount in amounts.items() if text in texts}
    zoo.favour(made.model, liked | {tokenizer.eos_token_id: stop})
    return made


@torch.inference_mode()
def balanced(family: str, prompt: Prompt, opener: str = "") -> zoo.Tiny:
    """Return a tiny model that likes these tokens as much as they say where a letter is to be written."""
    made = speaking(family, SPEAKS | GOES_ON)
    texts = oracle.token_texts(made.processor.tokenizer)
    text = oracle.rendered(made.processor, prompt) + opener
    logprobs = oracle.logits_of(made.model, oracle.inputs_of(made.processor, text, prompt.images))
    at_the_end = {text: logprobs[-1, texts.index(text)] for text in SPEAKS | GOES_ON if text in texts}
    if opener:  # the tag's bracket has to be written first
        at_the_end[">"] = logprobs[-2, texts.index(">")]
    level = max(float(value) for value in at_the_end.values())
    return speaking(family, {text: (SPEAKS | GOES_ON)[text] + level - float(at_the_end[text]) for text in at_the_end})


@torch.inference_mode()
def drawn(made: zoo.Tiny, text: str, images: Sequence[Any], count: int = DRAWS, new: int = 8) -> list[str]:
    """Return continuations of a text at temperature 1, from `generate` alone."""
    model, tokenizer = made.model, made.processor.tokenizer
    inputs = oracle.inputs_of(made.processor, text, images)
    settings = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": new}
    stops = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    config = GenerationConfig(**settings, **stops, num_return_sequences=count)
    rows = model.generate(**inputs, generation_config=config)[:, inputs["input_ids"].shape[1] :].tolist()
    ends = [row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row) for row in rows]
    return [
        tokenizer.decode(row[:end], clean_up_tokenization_spaces=False) for row, end in zip(rows, ends, strict=True)
    ]


def interval(hits: int, draws: int) -> tuple[float, float]:
    """Return Clopper and Pearson's 99.9 % interval."""
    low = float(beta.ppf(0.0005, hits, draws - hits + 1)) if hits else 0.0
    return low, float(beta.ppf(0.9995, hits + 1, draws - hits)) if hits < draws else 1.0


def counted(prompt: Prompt, texts: Sequence[str], opener: str = "") -> Counter[int | None]:
    """Return how often each option is answered by a letter that is the first thing written after `opener`."""
    answers: Counter[int | None] = Counter()
    for text in texts:
        parsed = parse_turn(prompt, opener + text)
        begun = len(prompt.prefill + opener) + len(text) - len(text.lstrip())
        answers[parsed.answer if parsed.letter and parsed.letter[0] == begun else None] += 1
    return answers


def assert_drawn_as_often(response: Response, answers: Counter[int | None]) -> None:
    assert response.error is None, response.error
    assert response.option_logprobs is not None
    for option, logprob in enumerate(response.option_logprobs):
        low, high = interval(answers[option], DRAWS)
        assert low - 1e-3 <= float(torch.tensor(logprob).exp()) <= high + 1e-3, (option, low, high)


def forced_prompt(sample: Sample) -> Prompt:
    [prompt] = [prompt for prompt in expand([sample], [StopThink()]) if prompt.condition == "stop_think"]
    return prompt


def without_look_ahead(made: zoo.Tiny, prompts: Sequence[Prompt]) -> list[Response]:
    engine = HFModel(made.model, made.processor)
    engine._engine._ahead.works = False
    return engine.respond(prompts)


# ------------------------------------------------------------------------------------------------ against draws


@pytest.mark.parametrize("family", ["gemma3", "paligemma", "llava"])
def test_forced_letter_probabilities_equal_sampled_frequencies(family: str, samples: list[Sample]) -> None:
    prompt = forced_prompt(samples[1])
    made = balanced(family, prompt, "<answer>")
    [response] = HFModel(made.model, made.processor).respond([prompt])
    text = oracle.rendered(made.processor, prompt) + "<answer>"
    prefix = LetterVocabulary(made.processor.tokenizer).forced_prefix(text)
    texts = oracle.token_texts(made.processor.tokenizer)
    rest = "".join(texts[token] for token in prefix.tokens)  # may be written anew, with the letter
    continued = drawn(made, text.removesuffix(rest), prompt.images)
    answers = counted(prompt, [new[len(rest) :] for new in continued if new.startswith(rest)], "<answer>")
    assert sum(answers[option] for option in range(4)) > 120
    assert_drawn_as_often(response, answers)


# Gemma's sliding windows cannot be taken back to a letter.
@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava", "mllama", "gemma3"])
def test_own_letter_probabilities_equal_sampled_frequencies(family: str, samples: list[Sample]) -> None:
    # The state is after "<answer>", which stands in the turn, so that all draws have it.
    prompt = Prompt.of(samples[1]).replace(prefill=AT_THE_TAG)
    made = balanced(family, prompt)
    answers = counted(prompt, drawn(made, oracle.rendered(made.processor, prompt), prompt.images))
    assert sum(answers[option] for option in range(4)) > 200
    found = None
    for seed in range(20):  # until a draw begins with a letter
        options = {"max_new_tokens": 8, "do_sample": True, "seed": seed}
        [response] = HFModel(made.model, made.processor, options).respond([prompt])
        if response.option_logprobs is not None and counted(prompt, [response.text])[None] == 0:
            found = response
            break
    assert found is not None
    assert_drawn_as_often(found, answers)
    assert found.letter_mass <= 1.0


def test_letters_that_begin_words_are_counted_without_the_look_ahead(samples: list[Sample]) -> None:
    # Otherwise the tests above could not fail.
    made = speaking("gemma3", SPEAKS | GOES_ON)
    prompt = forced_prompt(samples[1])
    [response] = HFModel(made.model, made.processor).respond([prompt])
    [whole] = without_look_ahead(made, [prompt])
    assert response.letter_mass < whole.letter_mass - 0.05


# ------------------------------------------------------------------------------------------------ planted tokens


def test_a_letter_that_continues_as_a_word_does_not_count(samples: list[Sample]) -> None:
    prompt = Prompt.of(samples[1], style=Style(mode="direct"))
    words = speaking("internvl", {"A": 20.0, "B": 12.0, "p": 20.0}, stop=5.0)
    [word] = HFModel(words.model, words.processor).respond([prompt])
    [taken] = without_look_ahead(words, [prompt])
    assert taken.option_logprobs is not None
    assert word.option_logprobs is not None
    ended = speaking("internvl", {"A": 20.0, "B": 12.0}, stop=26.0)
    assert word.option_logprobs[0] < taken.option_logprobs[0] - 3
    [letter] = HFModel(ended.model, ended.processor).respond([prompt])
    [same] = without_look_ahead(ended, [prompt])
    assert letter.option_logprobs == pytest.approx(same.option_logprobs, abs=0.02)


def members_of(vocabulary: LetterVocabulary, likely: Sequence[int]) -> Members:
    size = len(vocabulary._texts)
    logits = torch.full((1, size), -20.0)
    logits[0, list(likely)] = 5.0
    return Members.of(logits, (vocabulary.either,))


def test_only_letters_that_may_continue_are_looked_past(tiny: Build) -> None:
    vocabulary = LetterVocabulary(tiny("qwen2_5_vl").processor.tokenizer)
    texts = vocabulary._texts
    letters = {text: texts.index(text) for text in ("A", " A", ">A", "B", "a", " a", "b") if text in texts}
    found = {texts[m.token]: m.ending for m in members_of(vocabulary, list(letters.values())).likely(range(36))}
    assert found["A"] == found[" A"] == found[">A"] == ("A", "")
    assert (found["B"], found["a"], found["b"]) == (("B", ""), ("a", ""), ("a", ""))
    assert not any("answer" in text or text == "an" for text in found)


@pytest.mark.parametrize(
    ("ending", "following", "ends"),
    [
        (("A", ""), "p", False),
        (("A", ""), "an", False),
        (("A", ""), " red", False),
        (("A", ""), "</", True),
        (("B", ""), " red", True),
        (("B", ""), "p", False),
        (("B", ""), "", True),
        (("a", ""), " red", False),
        (("a", ""), "</", True),
        (("a", ""), ".", True),
        (("a", " "), "red", False),
        (("1", ""), ".", True),
        (("1", ""), "5", False),
    ],
)
def test_the_parser_decides_what_ends_a_letter(
    ending: tuple[str, str], following: str, ends: bool, tiny: Build
) -> None:
    vocabulary = LetterVocabulary(tiny("qwen2_5_vl").processor.tokenizer)
    if following in vocabulary._texts:
        assert bool(vocabulary.ending(ending)[vocabulary._texts.index(following)]) is ends


# ---------------------------------------------------------------------------------------------------- small letters


def test_small_letters_are_read_where_they_are_answered(samples: list[Sample]) -> None:
    made = speaking("internvl", {"b": 18.0, "c": 15.0, "</": 16.0}, stop=4.0)
    own = Prompt.of(samples[1]).replace(prefill=AT_THE_TAG)
    [response] = HFModel(made.model, made.processor, {"max_new_tokens": 1}).respond([own])
    assert response.text.strip() == "b"
    assert response.answer == 1
    assert response.option_logprobs is not None
    assert max(range(4), key=response.option_logprobs.__getitem__) == 1
    assert response.readout == "own_thought"


def test_small_letters_are_read_after_a_forced_prefix(samples: list[Sample]) -> None:
    made = speaking("gemma3", {"b": 14.0, "</": 14.0, ">": 12.0})
    prompt = forced_prompt(samples[1])
    [response] = HFModel(made.model, made.processor).respond([prompt])
    [capitals] = without_look_ahead(made, [prompt])
    assert response.option_logprobs is not None
    assert capitals.option_logprobs is not None
    assert response.answer == 1
    assert response.option_logprobs[1] > capitals.option_logprobs[1] + 2


def test_an_article_does_not_count_as_a_letter(samples: list[Sample]) -> None:
    made = speaking("internvl", {"a": 20.0, " red": 40.0, "B": 14.0}, stop=4.0)
    prompt = Prompt.of(samples[1], style=Style(mode="direct"))
    [response] = HFModel(made.model, made.processor).respond([prompt])
    assert response.option_logprobs is not None
    assert response.option_logprobs[0] < -3


# ------------------------------------------------------------------------------------------------ how it is computed


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava", "gemma3", "mllama"])
def test_both_paths_look_past_the_same_letters(family: str, samples: list[Sample]) -> None:
    made = balanced(family, Prompt.of(samples[1]).replace(prefill=AT_THE_TAG))
    prompts = list(expand(samples[:3], [StopThink()]))  # written ones and forced ones in one batch
    prompts += [Prompt.of(sample).replace(prefill=AT_THE_TAG) for sample in samples[:3]]
    options = {"max_new_tokens": 3}
    shared = HFModel(made.model, made.processor, options)
    plain = HFModel(made.model, made.processor, options, share_prefixes=False)
    for one, other in zip(shared.respond(prompts), plain.respond(prompts), strict=True):
        assert one.text == other.text
        assert one.option_logprobs == pytest.approx(other.option_logprobs, abs=2e-4)
    assert shared._engine._ahead.works is plain._engine._ahead.works is True, "the test needs letters that may go on"


@pytest.mark.parametrize("option", [{"cache_implementation": "static"}, {"use_cache": False}])
@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3"])
def test_the_cache_of_the_options_does_not_change_the_letters(
    family: str, option: dict[str, Any], samples: list[Sample]
) -> None:
    made = balanced(family, Prompt.of(samples[1]).replace(prefill=AT_THE_TAG))
    prompts = [Prompt.of(samples[1], draw=draw).replace(prefill=AT_THE_TAG) for draw in range(16)]
    drawing = {"max_new_tokens": 8, "do_sample": True}
    usual = HFModel(made.model, made.processor, drawing)
    other = HFModel(made.model, made.processor, drawing | option)
    for one, expected in zip(other.respond(prompts), usual.respond(prompts), strict=True):
        assert one.text == expected.text
        assert one.option_logprobs == pytest.approx(expected.option_logprobs, abs=2e-4)
    assert usual._engine._ahead.works is other._engine._ahead.works is True, "the test needs letters that may go on"


def test_a_model_without_a_cache_is_looked_past_once_in_vain(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, asked = balanced("qwen2_5_vl", Prompt.of(samples[1]).replace(prefill=AT_THE_TAG)), []
    monkeypatch.setattr(LookAhead, "prefilled", lambda self, item: asked.append(item))
    prompts = [Prompt.of(samples[1], draw=draw).replace(prefill=AT_THE_TAG) for draw in range(60)]
    engine = HFModel(made.model, made.processor, {"max_new_tokens": 2, "do_sample": True, "use_cache": False})
    assert sum(response.option_logprobs is not None for response in engine.respond(prompts)) > 1
    assert len(asked) == 1
    assert caplog.text.count("letters are not looked past, `generate` returns no cache") == 1


def test_many_tokens_are_looked_past_a_few_at_a_time(samples: list[Sample]) -> None:
    made = speaking("gemma3", SPEAKS | GOES_ON)
    prompts = [forced_prompt(sample) for sample in samples[:4]]
    one_by_one = [HFModel(made.model, made.processor).respond([prompt])[0] for prompt in prompts]
    for one, other in zip(HFModel(made.model, made.processor).respond(prompts), one_by_one, strict=True):
        assert one.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-4)


def test_a_wrong_cache_is_not_used_for_looking_ahead(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = speaking("gemma3", SPEAKS | GOES_ON)
    prompt = forced_prompt(samples[1])
    expected = without_look_ahead(made, [prompt])[0]
    real = LookAhead._after

    def other(self: LookAhead, *arguments: Any, **options: Any) -> torch.Tensor:
        return real(self, *arguments, **options).flip(-1)

    monkeypatch.setattr(LookAhead, "_after", other)
    engine = HFModel(copy.copy(made.model), made.processor)
    [response] = engine.respond([prompt])
    assert response.option_logprobs == pytest.approx(expected.option_logprobs, abs=1e-4)
    assert "letters are not looked past" in caplog.text
    assert engine._engine._ahead.works is False
