"""Test that invalid calls are refused before weights are loaded, and that a finished run loads none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from vlmrobust import demo
from vlmrobust.judges import LMJudge
from vlmrobust.models import HFModel
from vlmrobust.models.generation import greedy_at_zero
from vlmrobust.study.construction import model_of
from vlmrobust.study.entries import ModelEntry, Stage
from vlmrobust.types import open_image

Command = Callable[..., Result]

WEIGHTS = Path(demo.__file__).parent / "weights"


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    lines = []
    for number, sample in enumerate(demo.samples(3, seed=5)):
        open_image(sample.images[0]).save(tmp_path / f"{number}.png")
        lines.append(
            {
                "id": sample.id,
                "image": f"{number}.png",
                "question": sample.question,
                "options": list(sample.options),
                "answer": sample.answer,
            }
        )
    path = tmp_path / "shapes.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def weights_loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the checkpoints whose weights are loaded."""
    import transformers

    names: list[str] = []
    load = transformers.AutoModelForImageTextToText.from_pretrained

    def record(name: str, **settings: Any) -> Any:
        names.append(name)
        return load(name, **settings)

    monkeypatch.setattr(transformers.AutoModelForImageTextToText, "from_pretrained", record)
    return names


def run_arguments(shapes: Path, *more: object, model: object = WEIGHTS, out: object = None) -> tuple[object, ...]:
    folder = shapes.parent / "run" if out is None else out
    settings = ("--conditions", "stop_think", "--max-new-tokens", 30)
    return ("run", "--model", model, "--data", shapes, "--out", folder, *settings, *more)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("bf16", "bfloat16"),
        ("BF16", "bfloat16"),
        ("fp16", "float16"),
        ("FP32", "float32"),
        ("torch.float16", "float16"),
    ],
)
def test_short_names_of_dtypes_suggest_the_long_ones(
    command: Command, shapes: Path, weights_loaded: list[str], written: str, meant: str
) -> None:
    result = command(*run_arguments(shapes, "--dtype", written), env={"COLUMNS": "400"})
    assert result.exit_code == 2
    assert f"got {written!r}; did you mean {meant!r}?" in result.stderr
    for load in (HFModel.from_pretrained, LMJudge.from_pretrained):
        with pytest.raises(ValueError, match=f"did you mean {meant!r}"):
            load(str(WEIGHTS), dtype=written)
    with pytest.raises(ValueError, match=f"did you mean {meant!r}"):
        ModelEntry(name="m", checkpoint="org/name", dtype=written)
    assert not weights_loaded


@pytest.mark.parametrize("dtype", ["int8", "bool", "Linear", "float33"])
def test_other_dtypes_are_refused(weights_loaded: list[str], dtype: str) -> None:
    with pytest.raises(ValueError, match=f"floating-point dtypes, got '{dtype}'$"):
        HFModel.from_pretrained(str(WEIGHTS), dtype=dtype)
    assert not weights_loaded


@pytest.mark.parametrize("device", ["cuda:63", "mps:7", "gpu", "xpu:5"])
def test_an_unavailable_device(command: Command, shapes: Path, weights_loaded: list[str], device: str) -> None:
    result = command(*run_arguments(shapes, "--device", device))
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: --device: expected ")
    assert repr(device) in result.stderr
    assert not (shapes.parent / "run").exists()
    for load in (HFModel.from_pretrained, LMJudge.from_pretrained):
        with pytest.raises(ValueError, match=f"field 'device': expected .* got '{device}'"):
            load(str(WEIGHTS), device=device)
    assert not weights_loaded


def test_a_file_in_place_of_the_run_directory(command: Command, shapes: Path, weights_loaded: list[str]) -> None:
    for out in (shapes, shapes / "below"):
        result = command(*run_arguments(shapes, out=out))
        assert result.exit_code == 2
        assert f"Error: --out: expected a folder to write to, got {str(out)!r}: {shapes} is a file" in result.stderr
    result = command(*run_arguments(shapes, "--html", shapes.parent / "new" / ".." / shapes.name / "page.html"))
    assert "Error: --html: expected a folder to write to" in result.stderr
    result = command(*run_arguments(shapes, "--html", shapes / "page.html"))
    assert f"Error: --html: expected a folder to write to, got {str(shapes)!r}" in result.stderr
    assert not weights_loaded


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
def test_a_folder_that_cannot_be_created(command: Command, shapes: Path, weights_loaded: list[str]) -> None:
    result = command(*run_arguments(shapes, out="/proc/x"))
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: --out: expected a folder to write to, got '/proc/x': ")
    assert "Errno" not in result.stderr
    assert not weights_loaded


@pytest.mark.parametrize("name", ["nobody-has-this", "nobody/has-this", "./nobody-has-this"])
def test_a_model_that_is_not_found_is_named(command: Command, shapes: Path, name: str) -> None:
    for more in ((), ("--dry-run",)):
        result = command(*run_arguments(shapes, *more, model=name))
        assert result.exit_code == 2
        assert not (shapes.parent / "run").exists()
        assert result.stderr.startswith("Error: expected a checkpoint's folder or a name on the hub")
        assert repr(name) in result.stderr
    with pytest.raises(OSError, match=name):
        LMJudge.from_pretrained(name)


def test_a_finished_run_loads_nothing_and_changes_are_refused(
    command: Command, shapes: Path, weights_loaded: list[str]
) -> None:
    first = command(*run_arguments(shapes, "--temperature", "0"))
    assert first.exit_code == 0, first.output
    assert weights_loaded == [str(WEIGHTS)]
    again = command(*run_arguments(shapes))
    assert again.exit_code == 0, again.output
    assert again.stdout == first.stdout
    for change, field in (
        (("--max-new-tokens", 31), "model.generation.max_new_tokens"),
        (("--temperature", 0.5), "model.generation.do_sample"),
        (("--force-answer",), "model.force_answer"),
        (("--seed", 9), "seed"),
        (("--style", "direct"), "style"),
        (("--runner-up",), "distractor"),
    ):
        changed = command(*run_arguments(shapes, *change))
        assert changed.exit_code == 2, change
        assert f"field '{field}" in changed.stderr
    assert weights_loaded == [str(WEIGHTS)], "once, for the first call"
    more = command(*run_arguments(shapes, "--conditions", "blank_image+stop_think"))
    assert more.exit_code == 0, more.output
    assert weights_loaded == [str(WEIGHTS)] * 2, "a new condition needs the model"


def test_changed_weights_in_the_folder_are_refused(
    command: Command, shapes: Path, tmp_path: Path, weights_loaded: list[str]
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for file in WEIGHTS.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert command(*run_arguments(shapes, model=folder)).exit_code == 0
    held = load_file(folder / "model.safetensors")
    last = sorted(held)[-1]
    save_file({**held, last: held[last] + 1}, folder / "model.safetensors", metadata={"format": "pt"})
    result = command(*run_arguments(shapes, model=folder))
    assert result.exit_code == 2
    assert "weights" in result.stderr
    assert len(weights_loaded) == 2


def test_a_temperature_of_zero_is_greedy(command: Command, shapes: Path, tmp_path: Path, loaded: list[Any]) -> None:
    written = tmp_path / "run.toml"
    written.write_text("temperature = 0.0\n")
    for more in (("--temperature", "0"), ("--temperature", "0.0"), ("--config", written)):
        result = command(*run_arguments(shapes, *more, out=tmp_path / f"run{len(loaded)}"))
        assert result.exit_code == 0, result.output
        assert loaded[-1][1]["generation"] == {"max_new_tokens": 30}
    for generation in ({"do_sample": True, "temperature": 0.0}, {"temperature": 0}):
        model_of(ModelEntry(name="m", checkpoint="org/name", generation=generation), Stage(), seed=3)
        assert loaded[-1][1]["generation"] == {}
    assert greedy_at_zero({"do_sample": True, "temperature": 0.2}) == {"do_sample": True, "temperature": 0.2}


@pytest.mark.parametrize("place", [0, 1, 3])
def test_debug_may_stand_anywhere(command: Command, place: int) -> None:
    words = ["run", "--data", "nothing.jsonl", "--model", "m", "--out", "r"]
    words.insert(place, "--debug")
    result = command(*words)
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "found none at 'nothing.jsonl'" in result.stderr
