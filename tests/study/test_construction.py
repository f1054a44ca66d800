"""Test loading of entries: constructors and their arguments, keys from the environment, rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlmrobust.models import HFModel, OpenAIModel
from vlmrobust.study import Study, construction
from vlmrobust.study.construction import model_of, samples_of
from vlmrobust.study.entries import BenchmarkEntry, ModelEntry
from vlmrobust.testing import FakeModel

PAPER = Path(__file__).parents[2] / "examples" / "paper.toml"


@pytest.fixture
def loaded_models(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    calls: list[tuple[str, dict[str, Any]]] = []

    def load(name: str, **settings: Any) -> FakeModel:
        calls.append((name, settings))
        return FakeModel()

    monkeypatch.setattr(HFModel, "from_pretrained", load)
    return calls


def test_a_checkpoint_of_each_stage(loaded_models: list[Any]) -> None:
    entry = ModelEntry(
        name="m",
        checkpoint="org/first",
        checkpoints=[{"step": 1}, {"step": 2, "checkpoint": "org/later"}],
        dtype="bfloat16",
        generation={"max_new_tokens": 9, "do_sample": True},
        options={"attn_implementation": "sdpa", "batch_size": "none"},
    )
    for stage in entry.stages:
        model_of(entry, stage, seed=7)
    settings = {
        "dtype": "bfloat16",
        "device": None,
        "generation": {"seed": 7, "max_new_tokens": 9, "do_sample": True},
        "attn_implementation": "sdpa",
        "batch_size": None,
    }
    assert loaded_models == [("org/first", settings), ("org/later", settings)]


def test_greedy_decoding_has_no_seed(loaded_models: list[Any]) -> None:
    entry = ModelEntry(name="m", checkpoint="org/m")
    model_of(entry, entry.stages[0], seed=7)
    assert loaded_models[0][1]["generation"] == {}


def test_a_checkpoint_on_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def made(*arguments: Any, **settings: Any) -> FakeModel:
        asked.append((arguments, settings))
        return FakeModel()

    monkeypatch.setattr(construction, "VLLMModel", made)
    options = {"max_model_len": 8192, "force_answer": True}
    entry = ModelEntry(name="m", checkpoint="org/m", engine="vllm", dtype="bfloat16", options=options)
    model_of(entry, entry.stages[0], seed=7)
    assert asked == [(("org/m", {}), {"dtype": "bfloat16", **options})]


def test_arguments_of_a_stage_extend_those_of_the_model(folder: Path, lines: Callable[[str], list[Any]]) -> None:
    entry = ModelEntry(
        name="m",
        factory=f"{folder / 'models.py'}:planted",
        arguments={"accuracy": 0.5},
        checkpoints=[{"label": "late", "arguments": {"seed": 4}}],
    )
    model = model_of(entry, entry.stages[0], seed=0)
    assert (model.accuracy, model.seed) == (0.5, 4)  # type: ignore[attr-defined]
    assert lines("made.log") == [{"accuracy": 0.5, "seed": 4}]


def test_the_papers_closed_models(monkeypatch: pytest.MonkeyPatch) -> None:
    served = [entry for entry in Study.from_toml(PAPER).models if entry.is_served]
    assert len(served) == 4
    for variable in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(
        ValueError, match="model 'o3', field 'api_key_env': expected an environment variable that holds"
    ):
        model_of(served[0], served[0].stages[0], seed=0)
    for variable in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(variable, "hunter2")
    for entry in served:
        model = model_of(entry, entry.stages[0], seed=3)
        assert isinstance(model, OpenAIModel)
        identity = model.identity()
        assert (identity["name"], identity["prefill"], identity["top_logprobs"]) == (
            entry.checkpoint,
            "user_text",
            None,
        )
        assert identity["generation"]["seed"] is None
        assert "hunter2" not in str(identity) + str(entry)


def test_rows_of_ones_own_and_of_a_benchmark(folder: Path) -> None:
    own = BenchmarkEntry(name="mine", data=str(folder / "rows.jsonl"), limit=3)
    assert [sample.id for sample in samples_of(own, seed=0)] == ["q0", "q1", "q2"]
    rows = Path(__file__).parents[2] / "examples" / "small" / "cv-bench" / "test.jsonl"
    published = BenchmarkEntry(name="mine", benchmark="cv-bench", source=str(rows), drawn=5)
    one, other = ([sample.id for sample in samples_of(published, seed=seed)] for seed in (0, 1))
    assert len(one) == len(other) == 5
    assert one != other
