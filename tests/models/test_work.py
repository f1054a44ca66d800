"""Reported work compared with the forward passes that were observed."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import transformers
import zoo

from vlmrobust import Evaluator, Prompt, Response, Sample, expand, paper_conditions
from vlmrobust.models import HFModel
from vlmrobust.models.base import work_of
from vlmrobust.perturbations import StopThink, WrongCaption, WrongThink
from vlmrobust.testing import FakeModel

pytestmark = [
    # transformers' own, from handing tensors to numpy
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

Build = Callable[[str], zoo.Tiny]
UNEVEN = {"do_sample": True, "temperature": 2.0, "seed": 1}


@contextmanager
def passes(model: Any) -> Iterator[list[tuple[int, int]]]:
    """Note rows and columns of every pass through the language model."""
    seen: list[tuple[int, int]] = []

    def note(module: Any, arguments: Any, keywords: Any, output: Any) -> None:
        seen.append(tuple(output.last_hidden_state.shape[:2]))

    handle = model.get_decoder().register_forward_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def asked(engine: HFModel, prompts: Sequence[Prompt]) -> tuple[list[Response], list[tuple[int, int]], dict[str, float]]:
    """Answer prompts twice: what is checked once must not be counted; return the second time's passes and work."""
    engine.respond(prompts)
    engine.expect(len(prompts), prompts[0].style)
    with passes(engine.model) as seen:
        responses = engine.respond(prompts)
    return responses, seen, engine.work()


@pytest.mark.parametrize("family", ["qwen3_5", "lfm2_vl", "mistral_large4", "inkling2"])
def test_a_prefix_goes_through_a_hybrid_cache_once_and_every_suffix_behind_it(
    family: str, tiny: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    if family == "lfm2_vl" and transformers.__version__.startswith("4."):
        pytest.skip("transformers 4 gets LFM2-VL's padded batches wrong, so that it goes one by one")
    made = tiny(family)
    prompts = list(expand(samples[2:3], [WrongCaption(), WrongThink(), StopThink()]))
    tokens = [len(made.processor.tokenizer.encode(prompt.render(made.processor))) for prompt in prompts]
    assert len(set(tokens)) == 4, "the test needs prompts of four lengths"
    monkeypatch.setattr("vlmrobust.models.prefix.pass_cost", lambda kind: 10**6)  # no stem is worth so much
    engine = HFModel(made.model, made.processor, {"max_new_tokens": 1})
    _, seen, work = asked(engine, prompts)
    prefix, *suffixes = seen
    assert prefix[0] == 1
    lengths = [columns for rows, columns in suffixes for _ in range(rows) if columns > 1]
    assert len(lengths) == 4
    assert len(set(lengths)) == sum(columns > 1 for _, columns in suffixes), "those of one length go together"
    assert work["shared_tokens"] == 3 * prefix[1]
    assert prefix[1] + sum(lengths) == (work["prompt_tokens"] - work["shared_tokens"])
    monkeypatch.setattr("vlmrobust.models.prefix.pass_cost", lambda kind: 0)
    _, seen, stemmed = asked(engine, prompts)
    # The question, of 26 options, is the same for all but the one with a caption.
    assert stemmed["shared_tokens"] > work["shared_tokens"] + 2 * 200
    through = sum(rows * columns for rows, columns in seen if columns > 1)
    assert 0 <= stemmed["prompt_tokens"] - stemmed["shared_tokens"] - through <= 4  # a suffix may be one token


@pytest.mark.parametrize("share_prefixes", [True, False])
def test_steps_are_those_that_were_taken_and_those_that_ended_texts_did_not_take(
    share_prefixes: bool, tiny: Build, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny("llava")
    size = made.model.get_output_embeddings().weight.shape[0]
    monkeypatch.setattr(made.model.generation_config, "eos_token_id", list(range(7, size, 8)))
    single = [sample for sample in samples if len(sample.images) == 1]
    prompts = list(expand(single[:4], [WrongCaption(), WrongThink()]))
    engine = HFModel(made.model, made.processor, {"max_new_tokens": 30, **UNEVEN}, share_prefixes=share_prefixes)
    responses, seen, work = asked(engine, prompts)
    lengths = [response.n_tokens for response in responses]
    assert len(set(lengths)) > 3
    assert work["row_steps"] == sum(rows for rows, columns in seen if columns == 1)
    assert work["dropped_row_steps"] == len(lengths) * max(lengths) - sum(lengths)  # all came in together
    assert (work["texts"], work["refilled_texts"]) == (12, 0)
    assert (work["shared_share"] > 0.05) is share_prefixes
    few = HFModel(
        made.model, made.processor, {"max_new_tokens": 30, **UNEVEN}, batch_size=5, share_prefixes=share_prefixes
    )
    _, seen, work = asked(few, prompts)
    assert work["row_steps"] == sum(rows for rows, columns in seen if columns == 1)
    assert work["texts"] == 12
    assert work["refilled_texts"] > 0
    assert work["refilled_share"] == pytest.approx(work["refilled_texts"] / 12, abs=1e-4)


def test_what_generate_decodes_runs_until_the_longest_text_ends(tiny: Build, samples: list[Sample]) -> None:
    made = tiny("llava")
    engine = HFModel(made.model, made.processor, {"max_new_tokens": 5, "min_new_tokens": 5}, share_prefixes=False)
    _, seen, work = asked(engine, [Prompt.of(sample) for sample in samples[:2]])
    assert work["row_steps"] == sum(rows for rows, columns in seen if columns == 1) == 8
    assert (work["texts"], work["dropped_row_steps"]) == (2, 0)


def test_a_run_says_once_what_it_took_and_its_report_holds_it(
    tiny: Build, samples: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    made = tiny("llava")
    engine = HFModel(made.model, made.processor, {"max_new_tokens": 3})
    evaluator = Evaluator(engine, paper_conditions(), batch_size=1)
    with caplog.at_level(logging.INFO, logger="vlmrobust"):
        report = evaluator.run([sample for sample in samples[:3] if len(sample.images) == 1])
    lines = [record.getMessage() for record in caplog.records if "shared_share" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith("HFModel: prompt_tokens ")
    assert report.manifest["work"] == engine.work()
    assert 0.05 < report.manifest["work"]["shared_share"] < 1
    again = evaluator.run(samples[:1])
    assert again.manifest["work"]["texts"] < report.manifest["work"]["texts"], "a run counts what it took itself"


def test_a_model_that_says_nothing_is_not_asked_for_its_work(make_sample: Callable[..., Sample]) -> None:
    assert work_of(FakeModel()) == {}
    assert "work" not in Evaluator(FakeModel(), []).run([make_sample()]).manifest
