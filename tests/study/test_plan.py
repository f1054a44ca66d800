"""Test the counts of a plan: tokens against processors, operations against torch, sums against hand-made ones."""

import inspect
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from zoo import build

from vlmrobust import HFModel, demo, expand
from vlmrobust.models.encoding import Encoder
from vlmrobust.models.response_building import forced_text
from vlmrobust.perturbations.catalogue import conditions_named
from vlmrobust.study import Study
from vlmrobust.study.construction import function_named, samples_of
from vlmrobust.study.cost import Cost, Counts, Passes, Rates, StandInEncoder, cost_of, count, size_of
from vlmrobust.types import Sample, Style, image_digest, open_image

NAMES = ("base", "stop_think", "wrong_think", "wrong_caption", "wrong_think+abstain_option")
ROOT = Path(__file__).parents[2]


@cache
def bundled() -> HFModel:
    return demo.model()


@cache
def eager() -> Any:
    """Return the bundled model with attention that torch counts: on a CPU it counts no fused one."""
    return demo.model(attn_implementation="eager").model


@cache
def encoder_of(name: str) -> Encoder:
    return Encoder(bundled().processor if name == "demo" else build("internvl").processor)


def encoded(encoder: Encoder, prompt: Any) -> Any:
    text = prompt.render(encoder.processor) + (forced_text(prompt) or "")
    images = [[open_image(image) for image in prompt.images]]
    return encoder.processor(text=[text], images=images, return_tensors="pt", add_special_tokens=False)


@pytest.mark.parametrize("name", ["demo", "internvl"])
def test_tokens_are_those_of_the_processor(name: str) -> None:
    encoder, samples = encoder_of(name), demo.samples(3)
    counts = count(encoder, samples, conditions_named(NAMES), style=Style(), seed=0, draws=1)
    prompts = list(expand(samples, conditions_named(NAMES)))
    lengths = [encoded(encoder, prompt)["input_ids"].shape[1] for prompt in prompts]
    texts = [length for prompt, length in zip(prompts, lengths, strict=True) if forced_text(prompt) is None]
    assert counts.prompts == len(prompts) == 15
    assert counts.texts == len(texts) == 12
    assert counts.text_context == sum(texts)
    assert counts.plain.tokens == sum(lengths)
    assert counts.plain.attended == sum(i + 1 for length in lengths for i in range(length))
    assert counts.shared.tokens < counts.plain.tokens
    assert counts.shared.image_tokens * 5 == counts.plain.image_tokens  # five conditions, one image


def test_shared_tokens_are_the_prefix_once_and_what_differs() -> None:
    encoder, [sample] = encoder_of("demo"), demo.samples(1)
    conditions = conditions_named(["base", "wrong_think", "stop_think"])
    counts = count(encoder, [sample], conditions, style=Style(), seed=0, draws=1)
    rows = [encoded(encoder, prompt)["input_ids"][0].tolist() for prompt in expand([sample], conditions)]
    prefix = next(
        place
        for place, tokens in enumerate(zip(*rows, strict=False))
        if len(set(tokens)) > 1 or place == min(map(len, rows)) - 1
    )
    assert counts.shared.tokens == prefix + sum(len(row) - prefix for row in rows)
    attended = sum(i + 1 for i in range(prefix)) + sum(i + 1 for row in rows for i in range(prefix, len(row)))
    assert counts.shared.attended == attended


def test_conditions_that_do_not_apply_are_not_counted_and_those_that_need_base_are() -> None:
    conditions = conditions_named(["base", "rotated_options_5", "early_answer_50"])
    counted = count(StandInEncoder(), demo.samples(2), conditions, style=Style(), seed=0, draws=2)
    assert counted.prompts == 2 * 2 * 2


@pytest.mark.parametrize(
    ("rule", "size", "tokens"),
    [
        ("qwen2_5_vl", (640, 480), 23 * 17),  # rounded to multiples of 28: 644 × 476
        ("qwen2_5_vl", (28, 28), 4),  # at least 56 × 56
        ("internvl", (448, 448), 256 + 2),
        ("internvl", (896, 448), 3 * 256 + 2),  # two tiles and a thumbnail
    ],
)
def test_images_of_a_stand_in(rule: Any, size: tuple[int, int], tokens: int) -> None:
    assert StandInEncoder(rule).image_length([Image.new("RGB", size)]) == tokens


def test_texts_of_a_stand_in_are_characters() -> None:
    sample = Sample(id="q", images=[Image.new("RGB", (56, 56))], question="x" * 400, options=("a", "b"), answer=0)
    longer = sample.replace(question="x" * 800)
    one, other = (
        count(StandInEncoder(), [each], conditions_named(["base"]), style=Style(), seed=0, draws=1).plain.tokens
        for each in (sample, longer)
    )
    assert other - one == 100


def test_operations_are_what_torch_counts() -> None:
    samples, conditions = demo.samples(2), conditions_named(NAMES)
    counts = count(encoder_of("demo"), samples, conditions, style=Style(), seed=0, draws=1)
    size, beyond = size_of(eager()), 0.0
    work = cost_of(size, counts, shared=False, new_tokens=0, rows=1)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        for prompt in expand(samples, conditions):
            inputs = encoded(encoder_of("demo"), prompt)
            length = inputs["input_ids"].shape[1]
            beyond += 4 * size.layers * size.width * length * (length - 1) / 2  # multiplied here, and then masked
            eager()(**inputs, logits_to_keep=1)
    assert work.decoding == work.weight_bytes == work.cache_bytes == 0
    assert work.operations == pytest.approx(counter.get_total_flops() - beyond, rel=0.01)


def test_a_decoded_token_is_what_torch_counts() -> None:
    model, [sample] = eager(), demo.samples(1)
    counts = count(encoder_of("demo"), [sample], conditions_named(["base"]), style=Style(), seed=0, draws=1)
    inputs = encoded(encoder_of("demo"), expand([sample], [])[0])
    with torch.inference_mode():
        name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
        cache = getattr(model(**inputs, use_cache=True), name)
        with FlopCounterMode(display=False) as counter:
            model(input_ids=torch.tensor([[7]]), **{name: cache})
    size = size_of(model)
    work = cost_of(size, counts, shared=False, new_tokens=2, rows=1)
    assert work.decoding == pytest.approx(counter.get_total_flops(), rel=0.01)
    weights = sum(weight.numel() for weight in model.model.language_model.parameters() if weight.ndim == 2)
    assert work.weight_bytes == 2 * weights
    context = inputs["input_ids"].shape[1] + 1
    assert work.cache_bytes == 2 * 2 * size.layers * size.kv_width * context


def test_rows_decoded_together_share_the_reading_of_weights() -> None:
    size = size_of(bundled().model)
    counts = Counts(prompts=8, texts=8, text_context=800, plain=Passes(800), shared=Passes(800))
    alone, together = (cost_of(size, counts, shared=True, new_tokens=11, rows=rows) for rows in (1, 8))
    assert alone.weight_bytes == 8 * together.weight_bytes
    assert (alone.decoding, alone.cache_bytes) == (together.decoding, together.cache_bytes)


def test_the_duration_is_that_of_the_slower_part() -> None:
    cost = Cost(prefill=100.0, decoding=10.0, weight_bytes=30.0, cache_bytes=20.0)
    assert cost.seconds(Rates(operations=10.0, bytes=1.0)) == 10 + 50
    assert cost.seconds(Rates(operations=1.0, bytes=1000.0)) == 100 + 10
    with pytest.raises(ValueError, match="expected rates above 0, got 0 operations and 1 bytes per second"):
        Rates(operations=0, bytes=1)


def make_study(**changes: Any) -> Study:
    rows = ROOT / "examples" / "small" / "cv-bench" / "test.jsonl"
    fields: dict[str, Any] = {
        "models": [{"name": "demo", "factory": "vlmrobust.demo:model", "checkpoints": [{"step": 1}, {"step": 2}]}],
        "benchmarks": [{"name": "cv-bench", "source": str(rows)}],
        "conditions": NAMES,
    }
    return Study(**fields | changes)


def test_a_plan_is_the_sum_over_prompts() -> None:
    study = make_study()
    [row] = study.plan(Rates(operations=1e9, bytes=1e9)).rows
    samples = samples_of(study.benchmarks[0], seed=0)
    prompts = list(expand(samples, conditions_named(NAMES)))
    lengths = [encoded(encoder_of("demo"), prompt)["input_ids"].shape[1] for prompt in prompts]
    texts = sum(forced_text(prompt) is None for prompt in prompts)
    assert (row.samples, row.checkpoints, row.prompts, row.texts) == (16, 2, 2 * 16 * 5, 2 * texts)
    assert row.prompt_tokens == 2 * sum(lengths)
    assert row.new_tokens == 2 * texts * 512
    assert row.operations < row.plain_operations
    assert row.seconds > row.operations / 1e9 * 0.99
    assert row.stand_ins == ""
    assert "≈" not in str(study.plan())


def test_few_samples_are_scaled_to_all() -> None:
    whole, some = (make_study().plan(at_most=at_most).rows[0] for at_most in (100, 4))
    assert some.prompts == whole.prompts
    assert some.prompt_tokens == pytest.approx(whole.prompt_tokens, rel=0.1)
    assert some.prompt_tokens != whole.prompt_tokens


def test_stand_ins_are_named() -> None:
    sizes = {"small": {"language": 1e6, "layers": 2, "width": 8, "kv_width": 4, "image": "internvl"}}
    models = [
        {"name": "hub", "checkpoint": "org/name", "size": "small", "new_tokens": 9},
        {"name": "no-size", "checkpoint": "org/name"},
        {"name": "served", "checkpoint": "x", "base_url": "http://localhost:1", "generation": {"max_tokens": 7}},
    ]
    benchmarks = [{"name": "cv-bench"}, {"name": "whatsup", "source": "nowhere"}]
    study = make_study(models=models, sizes=sizes, benchmarks=benchmarks, judges=["rules", "hf:org/judge"])
    plan = study.plan()
    rows = {(row.model, row.benchmark): row for row in plan.rows}
    hub, unknown = rows["hub", "cv-bench"], rows["hub", "whatsup"]
    assert (hub.samples, hub.prompts, hub.new_tokens) == (2638, 2638 * 5, 2638 * 4 * 9)
    assert [part.split(":")[0] for part in hub.stand_ins.split("; ")] == ["tokenizer", "size", "samples"]
    assert "InternVL's tiles" in hub.stand_ins
    assert "a dry run downloads nothing" in hub.stand_ins
    assert hub.operations > 0
    assert unknown.prompts != unknown.prompts
    assert "number not known, give 'rows'" in unknown.stand_ins
    assert rows["no-size", "cv-bench"].operations != rows["no-size", "cv-bench"].operations
    assert rows["served", "cv-bench"].new_tokens == 2638 * 4 * 7
    assert "a server's own" in rows["served", "cv-bench"].stand_ins
    judge = plan.rows[-1]
    assert judge.model == "judge hf:org/judge"
    assert judge.prompts == sum(row.texts for row in plan.rows[:-1] if row.texts == row.texts)
    text = str(plan)
    assert "≈2.64 k" in text
    assert "≈ is made with a stand-in, for what the last column names:" in text
    assert "stand-in for tokenizer: 4 characters a token, images by InternVL's tiles" in text
    assert "Nothing was measured." in text


def test_a_failure_does_not_end_a_plan(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def broken():\n    raise RuntimeError('no; engine')\n")
    rows = [
        {"image": name, "question": "Which?", "options": ["a", "b"], "answer": "a"} for name in ("red.png", "no.png")
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "no.png").write_bytes(b"no picture")
    Image.new("RGB", (56, 56)).save(tmp_path / "red.png")
    plan = make_study(
        models=[{"name": "broken", "factory": f"{tmp_path}/own.py:broken"}],
        benchmarks=[{"name": "mine", "data": str(tmp_path / "rows.jsonl")}, {"name": "hub", "data": "org/rows"}],
    ).plan()
    mine, hub = plan.rows
    assert (mine.samples, mine.prompts) == (2, 5)
    assert mine.stand_ins.startswith("model: none, its factory failed (RuntimeError: no, engine); tokenizer: ")
    assert hub.stand_ins.endswith("one made-up question about 640 × 480 pixels (nothing at org/rows)")


def test_a_made_up_question_has_another_image_to_swap_with() -> None:
    plans = [
        make_study(benchmarks=[{"name": "cv-bench"}], conditions=["base", other]).plan()
        for other in ("blank_image", "swapped_image")
    ]
    assert plans[0].rows[0].prompts == plans[1].rows[0].prompts == 2 * 2 * 2638


def test_the_papers_study_can_be_make_study() -> None:
    study = Study.from_toml(ROOT / "examples" / "paper.toml")
    assert len(study.models) == 11
    assert len(study.benchmarks) == 8
    assert [judge.name for judge in study.judges] == [
        "hf:Qwen/Qwen3-32B", "hf:openai/gpt-oss-120b", "hf:meta-llama/Llama-3.1-70B-Instruct"
    ]  # fmt: skip
    part = study.only(models=["SpaceR", "o3"], benchmarks=["cv-bench"])
    assert [row.samples for row in part.plan().rows[:2]] == [2638, 2638]


def test_the_small_study_runs_its_random_models(tmp_path: Path) -> None:
    study = Study.from_toml(ROOT / "examples" / "small.toml")
    benchmarks = tuple(entry.replace(limit=2) for entry in study.benchmarks)
    part = study.only(models=["random-qwen2_5_vl", "random-internvl"]).replace(benchmarks=benchmarks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vlmrobust.plots.panels.svgs", lambda report: [])
        result = part.run(tmp_path)
    assert not result.failed, result.runs["error"].tolist()
    assert result.runs["responses"].tolist() == [10] * 4
    read = result.summary.query("metric == 'letter_entropy' and condition == 'stop_think'")
    assert read["value"].between(0, math.log(4)).all()


def test_the_small_studys_rows_are_those_of_its_script(tmp_path: Path) -> None:
    study = Study.from_toml(ROOT / "examples" / "small.toml")
    write_rows = function_named(str(study.models[0].factory).replace(":demo", ":write_rows"))
    write_rows(tmp_path)
    for entry in study.benchmarks:
        written = entry.replace(source=str(tmp_path / Path(str(entry.source)).relative_to(ROOT / "examples" / "small")))
        drawn, kept = samples_of(written, 0), samples_of(entry, 0)
        assert len(kept) == 16
        fields = {"images", "metadata"}
        assert [each.model_dump(exclude=fields) for each in drawn] == [each.model_dump(exclude=fields) for each in kept]
        for one, other in zip(drawn, kept, strict=True):
            assert image_digest(open_image(one.images[0])) == image_digest(open_image(other.images[0]))
