"""Test the file of a study: fields, paths, and error messages."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import vlmrobust as vr
from vlmrobust.catalogue import named_style
from vlmrobust.study import Study
from vlmrobust.study.construction import function_named, style_of
from vlmrobust.study.entries import BenchmarkEntry, JudgeEntry, ModelEntry, Stage

MODEL = {"name": "m", "checkpoint": "org/m"}
DATA = {"name": "d", "data": "rows.jsonl"}


def test_public_name() -> None:
    assert vr.Study is Study


def test_defaults_are_the_papers_conditions_and_rules() -> None:
    study = Study(models=[MODEL], benchmarks=[{"name": "cv-bench"}])
    assert study.conditions == tuple(condition.condition for condition in vr.paper_conditions())
    assert [judge.name for judge in study.judges] == ["rules"]
    assert Study(models=[MODEL], benchmarks=[DATA], conditions=["wrong_think"]).conditions == ("base", "wrong_think")


def test_paths_start_at_the_file_and_names_on_the_hub_stay(study: Callable[..., Study], folder: Path) -> None:
    (folder / "weights").mkdir()
    models = [
        {"name": "here", "checkpoint": "weights"},
        {"name": "hub", "checkpoint": "org/name"},
        {"name": "steps", "checkpoints": [{"step": 1, "checkpoint": "./later"}, {"step": 2, "checkpoint": "org/x"}]},
        {"name": "file", "factory": "models.py:planted"},
        {"name": "module", "factory": "vlmrobust.demo:model"},
    ]
    benchmarks = [DATA, {"name": "cv-bench", "source": "copy"}, {"name": "hub", "data": "org/rows"}]
    read = study(models=models, benchmarks=benchmarks, out="runs")
    here, hub, steps, file, module = read.models
    assert here.checkpoint == str(folder / "weights")
    assert hub.checkpoint == "org/name"
    assert [stage.checkpoint for stage in steps.stages] == [str(folder / "./later"), "org/x"]
    assert file.factory == f"{folder / 'models.py'}:planted"
    assert module.factory == "vlmrobust.demo:model"
    assert [entry.data or entry.source for entry in read.benchmarks] == [
        str(folder / "rows.jsonl"),
        str(folder / "copy"),
        "org/rows",
    ]
    assert read.out == folder / "runs"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": []}, "study.toml: 'model' is not a key here; did you mean 'models'?"),
        (
            {"models": [MODEL | {"chekpoint": "x"}]},
            "models m: 'chekpoint' is not a key here; did you mean 'checkpoint'?",
        ),
        (
            {"models": [MODEL | {"checkpoints": [{"stp": 1}]}]},
            "models m, checkpoints: 'stp' is not a key here; did you",
        ),
        ({"models": [MODEL | {"style": {"sistem": "x"}}]}, "models m, style: 'sistem' is not a key here; did you mean"),
        ({"benchmarks": [DATA | {"limits": 1}]}, "benchmarks d: 'limits' is not a key here; did you mean 'limit'?"),
        ({"judges": [{"name": "rules", "zzz": 1}]}, "judges rules: 'zzz' is not a key here; known are name, base_url"),
        ({"sizes": {"s": {"layer": 1}}}, "sizes s: 'layer' is not a key here; did you mean 'layers'?"),
        ({"models": {"name": "m"}}, "expected 'models' to be a list, such as [[models]], got {'name': 'm'}"),
        ({"models": [{"name": "m"}]}, "model 'm': expected 'checkpoint' or 'factory', got neither"),
        ({"models": [{"name": "a/b", "checkpoint": "x"}]}, "expected a valid folder name"),
        ({"models": [MODEL, MODEL]}, "field 'models': expected distinct names, got ['m', 'm']"),
        ({"models": [MODEL | {"factory": "a:b"}]}, "field 'factory': expected no checkpoint or server with it"),
        ({"models": [MODEL | {"arguments": {"a": 1}}]}, "field 'arguments': expected a 'factory' to pass them to"),
        (
            {"models": [MODEL | {"checkpoints": [{"step": 1}, {"step": 1}]}]},
            "expected a distinct 'step' or 'label'",
        ),
        ({"models": [MODEL | {"engine": "vlm"}]}, "engine': Input should be 'transformers' or 'vllm', got 'vlm'"),
        (
            {"models": [MODEL | {"engine": "vllm", "device": "cpu"}]},
            "'m', field 'engine': expected vllm only for a checkpoint",
        ),
        ({"models": [MODEL | {"style": "video_r2"}]}, "got 'video_r2'"),
        ({"models": [MODEL | {"size": "big"}]}, "'m', field 'size': expected one of 'sizes' (none), got 'big'"),
        ({"models": [MODEL], "draws": 3}, "field 'draws': expected models that sample, got m with greedy decoding"),
        (
            {"benchmarks": [{"name": "cvbench"}]},
            "benchmark 'cvbench': expected a benchmark, or rows of your own in 'data', got 'cvbench'; "
            "did you mean 'cv-bench'? Known are 3dsrbench, ",
        ),
        ({"benchmarks": [DATA | {"source": "x"}]}, "field 'data': cannot be combined with source"),
        ({"judges": ["lm:x"]}, "expected rules, hf:NAME, vllm:NAME or openai:NAME, got 'lm:x'"),
        ({"conditions": ["wrong_thnik"]}, "got 'wrong_thnik'; did you mean 'wrong_think'? Known are base, "),
        ({"metrics": ["brier"]}, "expected the name of a metric, got 'brier'; did you mean 'brier_score'?"),
    ],
)
def test_invalid_studies_are_refused(study: Callable[..., Study], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        study(**changes)


def test_no_toml_is_refused(folder: Path) -> None:
    (folder / "study.toml").write_text("models = [")
    with pytest.raises(ValueError, match=r"study\.toml: expected TOML: "):
        Study.from_toml(folder / "study.toml")


def test_draws_are_for_models_that_sample(study: Callable[..., Study]) -> None:
    models = [
        MODEL | {"generation": {"do_sample": True}},
        {"name": "s", "checkpoint": "s", "base_url": "http://localhost", "generation": {"temperature": 0.7}},
        {"name": "own", "factory": "models.py:planted"},
    ]
    assert study(models=models, draws=3).draws == 3


def test_a_part_of_a_study(study: Callable[..., Study]) -> None:
    part = study().only(models=["other"], benchmarks=["few"])
    assert [entry.name for entry in (*part.models, *part.benchmarks)] == ["other", "few"]
    assert study().only() == study()
    with pytest.raises(ValueError, match=r"expected models of the study, got 'third'; .* Known are trained, other"):
        study().only(models=["third"])


def test_styles_by_name_or_by_their_fields(study: Callable[..., Study]) -> None:
    models = [MODEL | {"style": "vigorl_spatial"}, MODEL | {"name": "n", "style": {"mode": "direct"}}]
    named, given = study(models=models).models
    assert style_of(named) is vr.styles.vigorl_spatial is named_style("vigorl_spatial")
    assert style_of(given) == vr.Style(mode="direct")


def test_factories_are_imported_once_and_told_apart(folder: Path) -> None:
    name = f"{folder / 'models.py'}:planted"
    assert function_named(name) is function_named(name)
    for wrong, message in (
        ("model", "expected module:function or file.py:function, got 'model'"),
        ("vlmrobust.demo:modell", "expected a function 'modell' in vlmrobust.demo, found none"),
        (f"{folder / 'none.py'}:f", "expected a Python file, found none at "),
    ):
        with pytest.raises(ValueError, match=f"field 'factory': {message}"):
            function_named(wrong)


def test_the_files_in_the_documentation_are_studies(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "pages" / "study.md").read_text(encoding="utf-8")
    whole, own, sizes = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    benchmark = '\n[[benchmarks]]\nname = "cv-bench"\n'
    for text in (whole, own + benchmark, sizes + benchmark):
        (tmp_path / "study.toml").write_text(text, encoding="utf-8")
        assert Study.from_toml(tmp_path / "study.toml").models
    for kind in (Study, ModelEntry, Stage, BenchmarkEntry, JudgeEntry):
        missing = [
            field for field in kind.model_fields if not re.search(rf"`{field}`|\b{field} = |\[{field}[\].]", page)
        ]
        assert not missing


def test_metrics_of_ones_own_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from vlmrobust.metrics import Repetition\nLONG = Repetition(n=5, name='long')\n")
    (tmp_path / "study.toml").write_text(
        'metrics = ["brier_score", "own.py:LONG", "vlmrobust.metrics:Accuracy"]\n'
        '[[models]]\nname = "m"\nfactory = "own.py:LONG"\n[[benchmarks]]\nname = "cv-bench"\n'
    )
    study = Study.from_toml(tmp_path / "study.toml")
    assert study.metrics == ("brier_score", f"{tmp_path / 'own.py'}:LONG", "vlmrobust.metrics:Accuracy")
    assert study.models[0].factory == study.metrics[1]


def test_conditions_of_ones_own_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from vlmrobust.perturbations import Casing\nLOUD = Casing(name='loud')\n")
    (tmp_path / "study.toml").write_text(
        'conditions = ["base", "wrong_think+own.py:LOUD"]\n'
        '[[models]]\nname = "m"\nfactory = "own.py:LOUD"\n[[benchmarks]]\nname = "cv-bench"\n'
    )
    study = Study.from_toml(tmp_path / "study.toml")
    assert study.conditions == ("base", f"wrong_think+{tmp_path / 'own.py'}:LOUD")


def test_a_study_is_read_from_a_pipe(tmp_path: Path) -> None:
    """Shells hand over the output of a command as one: `vlmrobust study <(envsubst < study.toml)`."""
    pipe = tmp_path / "study.toml"
    os.mkfifo(pipe)
    text = '[[models]]\nname = "m"\ncheckpoint = "org/m"\n[[benchmarks]]\nname = "cv-bench"\n'
    writer = Thread(target=pipe.write_text, args=(text,), daemon=True)
    writer.start()
    assert Study.from_toml(pipe).models[0].name == "m"
    writer.join(timeout=10)
