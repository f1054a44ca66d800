"""`VLLMModel` compared with `HFModel`, on a fake vLLM; the real engine is tested in tests/engines."""

import gc
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import peft
import pytest
import vllm_stand_in

import vlmrobust as vr
from vlmrobust import Evaluator, Prompt, Response, Style, VLLMModel, demo
from vlmrobust.models.base import RefusedError, UnfitError, is_concurrent
from vlmrobust.models.generation import sampling_seed
from vlmrobust.models.vllm import answering
from vlmrobust.models.vllm.answering import Sampling
from vlmrobust.models.vllm.starting import ErrorLog
from vlmrobust.prompting import letter_columns
from vlmrobust.testing import check_model

WEIGHTS = str(Path(demo.__file__).parent / "weights")
TOKENS = {"max_new_tokens": 64}


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> type[vllm_stand_in.LLM]:
    return vllm_stand_in.installed(monkeypatch)


@pytest.fixture
def make_model(engines: Any) -> Callable[..., VLLMModel]:
    return lambda **options: VLLMModel(WEIGHTS, options.pop("generation", TOKENS), dtype="float32", **options)


def make_prompts(count: int, style: Style | None = None) -> list[Prompt]:
    return list(vr.expand(demo.samples(count), vr.paper_conditions(), seed=0, style=style))


def assert_same(found: list[Response], expected: list[Response], nats: float = 2e-4) -> None:
    assert [(one.text, one.status, one.answer, one.readout) for one in found] == [
        (one.text, one.status, one.answer, one.readout) for one in expected
    ]
    assert [one.n_tokens for one in found] == [one.n_tokens for one in expected]
    assert [one.finish_reason for one in found] == [one.finish_reason for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.option_logprobs is None) == (other.option_logprobs is None)
        np.testing.assert_allclose(one.option_logprobs or (), other.option_logprobs or (), rtol=0, atol=nats)


# --- the same results as HFModel --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 16], ids=["letters requested separately", "letters requested inline"])
def test_texts_and_letters_equal_those_of_hf_model(
    make_model: Callable[..., VLLMModel], engines: Any, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(answering, "_MAX_INLINE", limit)
    prompts = make_prompts(2)
    model = make_model()
    assert_same(model.respond(prompts), demo.model(generation=TOKENS).respond(prompts))
    texts = sum(params.max_tokens > 1 for _, params in engines.made[0].asked)
    assert 0 < texts < len(prompts)  # the others are readouts of one token each
    assert len(engines.made[0].asked) == len(prompts) + (texts if not limit else 0)


def test_earlier_turns_are_rendered_as_in_hf_model(make_model: Callable[..., VLLMModel], engines: Any) -> None:
    history = (
        {"role": "assistant", "text": "<think>I see it.</think><answer>A</answer>"},
        {"role": "user", "text": "Are you sure?"},
    )
    prompts = [prompt.replace(history=history) for prompt in make_prompts(1)[:3]]
    model = make_model()
    assert_same(model.respond(prompts), demo.model(generation=TOKENS).respond(prompts))
    decoded = model._encoder.tokenizer.decode(engines.made[0].asked[0][0]["prompt_token_ids"])
    assert decoded.count("<|im_start|>") == 4
    assert "<|im_end|>\n<|im_start|>user\nAre you sure?\nThink" in decoded


@pytest.mark.parametrize("mode", ["think", "direct"])
def test_option_texts_are_scored_as_in_hf_model(make_model: Callable[..., VLLMModel], mode: Any) -> None:
    prompts = make_prompts(1, Style(answer_by="text", mode=mode))
    expected = demo.model(generation={"max_new_tokens": 24}).respond(prompts)
    found = make_model(generation={"max_new_tokens": 24}).respond(prompts)
    assert_same(found, expected)
    assert [one.option_tokens for one in found] == [one.option_tokens for one in expected]
    assert {one.readout for one in found} & {"option_text_fixed_prefix", "option_text_direct"}


def test_a_truncated_thought_is_closed_as_in_hf_model(make_model: Callable[..., VLLMModel]) -> None:
    prompts, cut = make_prompts(1), {"max_new_tokens": 5}
    expected = demo.model(generation=cut, force_answer=True).respond(prompts)
    assert "length" in {one.finish_reason for one in expected if one.option_logprobs is not None}
    # HFModel reduces a letter that continues as a word, which is likely after so short a thought.
    assert_same(make_model(generation=cut, force_answer=True).respond(prompts), expected, nats=10.0)


def test_a_letter_that_merges_with_the_end_of_the_prompt_is_summed_over_its_positions(
    make_model: Callable[..., VLLMModel], engines: Any
) -> None:
    # The letter may be the token "I", or " I" including the space.
    style = Style(letters="GHIJKL", answer_tags=("<answer> ", "</answer>"))
    [prompt] = [prompt for prompt in make_prompts(1, style) if prompt.condition == "stop_think"]
    [found] = make_model().respond([prompt])
    local = demo.model()
    text = oracle.rendered(local.processor, prompt) + style.answer_opener
    tokens = oracle.token_texts(local.processor.tokenizer)
    expected = oracle.forced_letters(local.processor, local.model, text, prompt.images, tokens)
    shown = letter_columns(style.letters[: len(prompt.options)])
    np.testing.assert_allclose(found.option_logprobs, expected[shown], rtol=0, atol=2e-4)
    assert len(shown) > 2
    lengths = [len(asked["prompt_token_ids"]) for asked, _ in engines.made[0].asked]
    assert max(lengths) - min(lengths) == 1
    assert len(lengths) == 2


def test_it_passes_the_model_check(make_model: Callable[..., VLLMModel]) -> None:
    model = make_model()
    assert is_concurrent(model)
    check_model(model, demo.samples(1))


# --- the engine -------------------------------------------------------------------------------------------------------


def test_images_are_passed_with_one_hash_each(make_model: Callable[..., VLLMModel], engines: Any) -> None:
    samples = demo.samples(3)
    make_model().respond(list(vr.expand(samples, vr.paper_conditions(), seed=0)))
    hashes: dict[int, set[str]] = {}
    for prompt, _ in engines.made[0].asked:
        [picture], [name] = prompt["multi_modal_data"]["image"], prompt["multi_modal_uuids"]["image"]
        hashes.setdefault(hash(picture.tobytes()), set()).add(name)
    assert len(hashes) == 3
    assert all(len(names) == 1 for names in hashes.values())
    assert len(set.union(*hashes.values())) == 3


def test_queued_requests_are_limited_to_the_engines_room(make_model: Callable[..., VLLMModel], engines: Any) -> None:
    model = make_model(max_num_seqs=2)
    assert model.concurrency == 2
    model.respond([prompt for prompt in make_prompts(6) if prompt.condition == "stop_think"] * 4)
    assert 2 < engines.made[0].most <= 2 + 8


def test_a_refused_prompt_is_an_error_row(make_model: Callable[..., VLLMModel], tmp_path: Path) -> None:
    long = demo.samples(1)[0].replace(id="long", question="Which? " * 300)
    report = Evaluator(make_model(max_model_len=400), []).run([long, *demo.samples(3)], out=tmp_path)
    assert report.responses.status.count("error") == 1
    [error] = [text for text in report.responses.error if text]
    assert "'long'" in error
    assert "more than the context" in error


def test_completed_responses_are_kept_when_the_engine_dies(
    make_model: Callable[..., VLLMModel], engines: Any, tmp_path: Path
) -> None:
    engines.dies_after = 5
    samples = demo.samples(4)
    with pytest.raises(RefusedError, match=r"engine died: EngineDeadError.*resume with a new engine"):
        Evaluator(make_model(), vr.paper_conditions()).run(samples, out=tmp_path)
    kept = sum(len(file.read_text().splitlines()) for file in tmp_path.glob("responses-*"))
    assert kept == 5
    engines.dies_after = None
    report = Evaluator(make_model(), vr.paper_conditions()).run(samples, out=tmp_path)
    assert set(report.responses.error) == {None}
    assert len(engines.made[1].asked) == len(report) - kept


def test_a_dead_engine_refuses_all_prompts(make_model: Callable[..., VLLMModel], engines: Any) -> None:
    model = make_model()
    engines.dies_after = 0
    for _ in range(2):
        with pytest.raises(RefusedError, match="engine died"):
            model.respond(make_prompts(1)[:2])


def test_an_engine_whose_process_was_killed_does_not_hang(make_model: Callable[..., VLLMModel], engines: Any) -> None:
    model = make_model()
    engines.made[0].is_killed = True
    with pytest.raises(RefusedError, match="engine died"):
        model.ask(make_prompts(1)[0]).result(20)
    model.close()


def test_the_engine_is_shut_down_when_garbage_collected(make_model: Callable[..., VLLMModel], engines: Any) -> None:
    future = make_model().ask(make_prompts(1)[0])  # keeps the model alive until it is done
    assert future.result().status != "error"
    gc.collect()
    assert engines.made[0].shut.wait(20)


def test_a_closed_engine_refuses_prompts(make_model: Callable[..., VLLMModel], engines: Any) -> None:
    model = make_model()
    model.close()
    assert engines.made[0].shut.is_set()
    with pytest.raises(RefusedError, match="closed"):
        model.respond(make_prompts(1)[:1])


def test_a_cancelled_prompt_is_not_sent_to_the_engine(make_model: Callable[..., VLLMModel], engines: Any) -> None:
    model = make_model(max_num_seqs=1)
    futures = [model.ask(prompt) for prompt in make_prompts(8)]
    cancelled = sum(future.cancel() for future in futures[::-1])
    assert cancelled > 0
    done = [future.result() for future in futures if not future.cancelled()]
    model.close()
    texts = [prompt for prompt, _ in engines.made[0].asked]
    assert len(texts) == len(done)


# --- options ----------------------------------------------------------------------------------------------------------


def test_options_are_passed_to_the_engine(make_model: Callable[..., VLLMModel], engines: Any) -> None:
    make_model(tensor_parallel_size=2, processor={"do_normalize": True})
    assert engines.made[0].options == {
        "generation_config": "vllm",
        "logprobs_mode": "raw_logprobs",
        "enable_prefix_caching": True,
        "dtype": "float32",
        "tensor_parallel_size": 2,
        "mm_processor_kwargs": {"do_normalize": True},
        "max_model_len": 4096,
        "max_num_seqs": 16,
    }


def test_auto_is_the_checkpoints_own_dtype(engines: Any) -> None:
    VLLMModel(WEIGHTS)
    stored = json.loads((Path(WEIGHTS) / "config.json").read_text())
    assert engines.made[0].options["dtype"] == (stored.get("dtype") or stored["torch_dtype"])


def make_sampling(options: dict[str, Any]) -> Sampling:
    model = demo.model()
    return Sampling(options, model.model.generation_config, model.processor.tokenizer)


def test_generation_options_mean_the_same_as_in_transformers() -> None:
    key = ("q1", "base", 2)
    greedy = make_sampling({"max_new_tokens": 7, "repetition_penalty": 1.1, "stop_strings": ["</answer>"]}).params(key)
    assert (greedy["temperature"], greedy["max_tokens"], greedy["repetition_penalty"]) == (0.0, 7, 1.1)
    assert (greedy["stop"], greedy["detokenize"], greedy["skip_special_tokens"]) == (["</answer>"], True, False)
    assert "seed" not in greedy
    drawn = make_sampling({"do_sample": True, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "seed": 3}).params(key)
    assert drawn["seed"] == sampling_seed(3, key)
    assert drawn["seed"] != make_sampling({"do_sample": True, "seed": 3}).params(("q1", "base", 1))["seed"]
    assert {name: drawn[name] for name in ("temperature", "top_p", "top_k", "min_p")} == {
        "temperature": 1.0,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
    }
    assert drawn["ignore_eos"]
    assert drawn["stop_token_ids"] == [demo.model().processor.tokenizer.eos_token_id]


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"max_tokens": 5}, "got 'max_tokens'; did you mean"),
        ({"num_beams": 4}, "expected 1"),
        ({"no_repeat_ngram_size": 2}, "options that vLLM knows .*, got 'no_repeat_ngram_size'"),
    ],
)
def test_unsupported_generation_options_are_refused(engines: Any, generation: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VLLMModel(WEIGHTS, generation)
    assert not engines.made


@pytest.mark.parametrize("name", ["generation_config", "logprobs_mode", "mm_processor_kwargs", "tokenizer"])
def test_engine_options_that_are_set_elsewhere_are_refused(engines: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"engine option '{name}'"):
        VLLMModel(WEIGHTS, **{name: "x"})


def test_the_identity_has_what_determines_responses(make_model: Callable[..., VLLMModel], tmp_path: Path) -> None:
    one = make_model().identity(tmp_path)
    assert one == json.loads(json.dumps(one))
    assert one == make_model(max_num_seqs=3, enforce_eager=True, gpu_memory_utilization=0.5).identity()
    others = [
        make_model(quantization="fp8"),
        make_model(generation={"max_new_tokens": 63}),
        make_model(force_answer=True),
        make_model(processor={"do_normalize": False}),
    ]
    assert all(other.identity() != one for other in others)
    kept = json.loads((tmp_path / "weights.json").read_text())
    assert kept["digest"] == one["all_weights"]
    (tmp_path / "weights.json").write_text(json.dumps(kept | {"digest": "kept"}))
    assert make_model().identity(tmp_path)["all_weights"] == "kept"


# --- failures ---------------------------------------------------------------------------------------------------------


def test_without_vllm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match=r"pip install vlmrobust\[vllm\]"):
        VLLMModel(WEIGHTS)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("Model architectures ['X'] are not supported for now."), r"\['X'\].*HFModel supports any"),
        (ValueError("max_model_len (99999) is greater than the derived"), "max_model_len .*99999.*shorter context"),
        (RuntimeError("1.2 GiB KV cache is needed"), "1.2 GiB KV cache.*gpu_memory_utilization"),
        (
            RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}"),
            "Failed core proc.*under if __name__ == '__main__':",
        ),
    ],
)
def test_the_error_of_an_engine_that_does_not_start_has_the_cause(engines: Any, error: Exception, message: str) -> None:
    engines.fails = error
    with pytest.raises(UnfitError, match=message):
        VLLMModel(WEIGHTS)


def test_the_cause_comes_from_the_log_of_the_engines_processes() -> None:
    failures = ErrorLog({})
    failures._log.write_text(
        "WorkerProc failed to start.\nTraceback (most recent call last):\n  File ...\n"
        "ValueError: No available memory for the cache blocks.\n"
        "EngineCore failed to start.\nTraceback (most recent call last):\n"
        "Exception: WorkerProc initialization failed due to an exception in a background process.\n"
    )
    cause = failures.cause(RuntimeError("Engine core initialization failed. See root cause above."))
    assert cause == "ValueError: No available memory for the cache blocks."
    failures.skip_logged()
    assert failures.cause(RuntimeError("later")) == "RuntimeError: later"
    failures.close()


def test_a_missing_folder_is_named(engines: Any) -> None:
    with pytest.raises(FileNotFoundError, match="/no/such/folder"):
        VLLMModel("/no/such/folder")


# --- adapters ---------------------------------------------------------------------------------------------------------


def save_adapter(folder: Path, modules: str = r".*language_model.*\.(q_proj|v_proj)") -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised in transformers by a call of peft
        wrapped = peft.get_peft_model(demo.model().model, peft.LoraConfig(r=4, target_modules=modules))
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return save_adapter(tmp_path / "adapter")


def test_an_adapter_is_loaded_with_its_base(engines: Any, adapter: Path) -> None:
    model = VLLMModel(str(adapter), TOKENS, dtype="float32")
    [llm] = engines.made
    assert llm.name == WEIGHTS
    assert {"enable_lora": True, "max_loras": 1, "max_lora_rank": 8}.items() <= llm.options.items()
    assert [lora.path for lora in llm.loras] == [str(adapter)]
    assert model.identity()["adapter"]["r"] == 4
    same_base = VLLMModel(WEIGHTS, TOKENS, dtype="float32")
    assert same_base.identity()["all_weights"] != model.identity()["all_weights"]


def test_an_adapter_for_another_base_is_refused(engines: Any, adapter: Path, tmp_path: Path) -> None:
    wider = tmp_path / "wider"
    wider.mkdir()
    for file in Path(WEIGHTS).glob("*.json*"):
        (wider / file.name).write_bytes(file.read_bytes())
    (wider / "chat_template.jinja").write_bytes((Path(WEIGHTS) / "chat_template.jinja").read_bytes())
    config = json.loads((wider / "config.json").read_text())
    config["text_config"]["hidden_size"] *= 2
    (wider / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnfitError, match=r"made for .*weights.*: expected 256 inputs of '.*q_proj' .*, got 128"):
        VLLMModel(str(wider), adapter=str(adapter))
    assert not engines.made


def test_adapters_that_vllm_does_not_support_are_refused(engines: Any, adapter: Path) -> None:
    with pytest.raises(UnfitError, match="expected the folder of a LoRA adapter"):
        VLLMModel(WEIGHTS, adapter=WEIGHTS)
    towers = save_adapter(adapter.parent / "towers", r".*visual.*\.qkv")
    with pytest.raises(UnfitError, match=r"got '.*visual.*qkv'; vLLM leaves out .* enable_tower_connector_lora=True"):
        VLLMModel(WEIGHTS, adapter=str(towers))
    VLLMModel(WEIGHTS, adapter=str(towers), enable_tower_connector_lora=True)
    other = adapter.parent / "other"
    other.mkdir()
    settings = {"peft_type": "LOHA", "r": 4, "target_modules": ["q_proj"], "base_model_name_or_path": WEIGHTS}
    (other / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(UnfitError, match="got LOHA"):
        VLLMModel(WEIGHTS, adapter=str(other))
