"""Check the paper's training data: proportions, keyed draws, images stored as files, and a training step."""

import io
import json
import logging
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import vlmrobust as vr
from vlmrobust.data import load_benchmark
from vlmrobust.perturbations import BlankImage, WrongCaption
from vlmrobust.rl import Augment, paper_mixture, to_grpo_rows
from vlmrobust.rl.completions import COLUMNS
from vlmrobust.types import Sample, Style, open_image

datasets = pytest.importorskip("datasets")

PAPER = {"sat2": 32_000, "pixmo-count": 15_000, "geometry3k": 2_101}


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (28, 28), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return folders with forty rows each, in the layout of the three data sets."""
    folder = tmp_path_factory.mktemp("sources")
    paths = {name: folder / name for name in PAPER}
    for path in paths.values():
        (path / "data").mkdir(parents=True)
    (paths["sat2"] / "turn.png").write_bytes(picture("lime"))
    problem = "<image>\nQuestion: Turn {}?\nAnswer Choices:\nA. left\nB. right\nAnswer with the text of the option."
    rows = [{"images": ["turn.png"], "problem": problem.format(row), "answer": "left"} for row in range(40)]
    (paths["sat2"] / "vigorl_sat2_train_RL.jsonl").write_text("\n".join(map(json.dumps, rows)))
    image = {"bytes": picture("red"), "path": None}
    for name, row, types in (
        ("pixmo-count", {"image": image, "label": "cups", "count": 5, "image_sha256": "ab"}, {"count": "int32"}),
        (
            "geometry3k",
            {"images": [image], "problem": "<image>Find $x$.", "choices": ["1", "\\pi"], "ground_truth": "B", "id": 0},
            {"id": "int64"},
        ),
    ):
        known = {"image": datasets.Image(), "images": datasets.List(datasets.Image())}
        known["choices"] = datasets.List(datasets.Value("string"))
        features = datasets.Features(
            {column: known.get(column) or datasets.Value(types.get(column, "string")) for column in row}
        )
        numbered = [row | ({"id": number} if "id" in row else {}) for number in range(40)]
        table = datasets.Dataset.from_list(numbered, features=features)
        table.to_parquet(paths[name] / "data" / "train-00000-of-00001.parquet")
    return paths


def make_samples(count: int, image: Any = b"x") -> list[Sample]:
    return [
        Sample(id=str(row), images=[image], question=f"Cube {row}?", options=["red", "blue", "lime"], answer=row % 3)
        for row in range(count)
    ]


def mixture(*arguments: Any, **settings: Any) -> Any:
    """The mixture without the warning of sources that are too small, which has a test of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return paper_mixture(*arguments, **settings)


def keys_of(rows: Any) -> list[tuple[str, str, str]]:
    return list(zip(rows["source"], rows["question"], rows["condition"], strict=True))


# --- how much of each -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("limit", [1, 7, 100, 491])
def test_rows_have_the_papers_proportions(stage: Any, limit: int) -> None:
    samples = make_samples(limit)
    rows = mixture(stage, dict.fromkeys(PAPER, samples), limit=limit)
    counts = Counter(rows["source"])
    there = {name: count for name, count in PAPER.items() if stage == 2 or name != "geometry3k"}
    assert counts.total() == len(rows) == limit
    for name, count in there.items():
        assert abs(counts[name] - limit * count / sum(there.values())) < 1
    assert set(counts) <= set(there)


def test_without_a_limit_the_size_is_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: dict[str, Any] = {}

    def load(name: str, **settings: Any) -> list[Sample]:
        loaded[name] = settings
        return make_samples(3)

    monkeypatch.setattr("vlmrobust.rl.rows.load_benchmark", load)
    mixture(1, {"sat2": "folder"}, seed=5, download_urls=True)
    shared = {"seed": 5, "download_urls": True}
    assert loaded == {
        "sat2": {"source": "folder", "drawn": 32_000, **shared},
        "pixmo-count": {"source": None, "drawn": 15_000, **shared},
    }
    mixture(2)
    assert {name: settings["drawn"] for name, settings in loaded.items()} == PAPER


def test_a_source_that_is_too_small_raises_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    samples = make_samples(20)
    with (
        caplog.at_level(logging.INFO, logger="vlmrobust.rl.rows"),
        pytest.warns(UserWarning, match="pixmo-count: got 20 of 32 requested samples") as caught,
    ):
        rows = paper_mixture(1, {"sat2": make_samples(90), "pixmo-count": samples}, limit=100)
    assert caught[0].filename == __file__
    assert Counter(rows["source"]) == {"sat2": 68, "pixmo-count": 20}
    assert "88 training rows of stage 1: {'pixmo-count': 0.227" in caplog.text
    assert Augment.shares(rows, "source") == {"pixmo-count": 20 / 88, "sat2": 68 / 88}


def test_samples_with_missing_image_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "there.png").write_bytes(picture("red"))
    found, lost = make_samples(5, tmp_path / "there.png"), make_samples(9, tmp_path / "lost.png")[5:]
    rows = mixture(1, {"sat2": found, "pixmo-count": [*found, *lost]}, limit=14)
    assert Counter(rows["source"])["pixmo-count"] < 5
    assert [image.size for image in rows[0]["images"]] == [(28, 28)]


# --- draws ------------------------------------------------------------------------------------------------------------


def test_rows_of_the_original_data_sets(sources: dict[str, Path]) -> None:
    rows = paper_mixture(2, sources, limit=60)
    assert set(rows.column_names) == {*COLUMNS, "source"}
    assert Counter(rows["source"]) == {"sat2": 39, "pixmo-count": 18, "geometry3k": 3}
    solutions = {"sat2": "left", "pixmo-count": "5", "geometry3k": "\\pi"}
    colours = {"sat2": (0, 255, 0), "pixmo-count": (255, 0, 0), "geometry3k": (255, 0, 0)}
    for row in rows:
        assert row["options"]["ABCD".index(row["solution"])] == solutions[row["source"]]
        assert [image.getpixel((0, 0)) for image in row["images"]] == [colours[row["source"]]]
        assert row["condition"] == "base"
    assert len(set(rows["solution"])) == 4
    in_one_piece = [rows["source"][0]] * 39
    assert rows["source"][:39] != in_one_piece  # shuffled across sources


def test_rows_are_those_of_the_samples(sources: dict[str, Path]) -> None:
    rows = paper_mixture(1, sources, limit=47, seed=3, style=Style(letters="WXYZ"))
    samples = load_benchmark("sat2", source=sources["sat2"], drawn=32, seed=3)
    expected = {row["question"]: row for row in to_grpo_rows(samples, Style(letters="WXYZ"))}
    found = {row["question"]: row for row in rows if row["source"] == "sat2"}
    assert found.keys() == expected.keys()
    for question, row in found.items():
        assert {name: row[name] for name in ("solution", "options", "prefill", "condition")} == {
            name: expected[question][name] for name in ("solution", "options", "prefill", "condition")
        }
        assert [image.tobytes() for image in row["images"]] == [
            image.tobytes() for image in expected[question]["images"]
        ]
        texts = [part["text"] for part in row["prompt"][0]["content"] if part["type"] == "text"]
        assert texts == [part["text"] for part in expected[question]["prompt"][0]["content"] if part["type"] == "text"]


def test_the_mixture_depends_on_the_seed_but_not_on_the_order_of_samples() -> None:
    samples = make_samples(60)
    sources = dict.fromkeys(PAPER, samples)
    rows = mixture(2, sources, limit=90, augment=True)
    moved = mixture(2, dict.fromkeys(reversed(PAPER), samples[::-1]), limit=90, augment=True)
    assert keys_of(moved) == keys_of(rows)
    assert keys_of(mixture(2, sources, limit=90, augment=True, seed=1)) != keys_of(rows)


def test_a_smaller_mixture_is_part_of_a_larger_one() -> None:
    sources = dict.fromkeys(PAPER, make_samples(80))
    small, large = (mixture(2, sources, limit=limit, augment=True) for limit in (30, 100))
    assert set(keys_of(small)) <= set(keys_of(large))


@pytest.mark.parametrize("kept", ["path", "bytes", "picture"])
def test_images_are_decoded_like_open_image(tmp_path: Path, kept: str) -> None:
    image = Image.radial_gradient("L").resize((28, 14)).convert("P")
    turned = Image.Exif()
    turned[0x0112] = 6  # lies on its side
    image.save(tmp_path / "turned.png", exif=turned)
    forms = {"path": tmp_path / "turned.png", "bytes": (tmp_path / "turned.png").read_bytes(), "picture": image}
    rows = mixture(1, {"sat2": make_samples(1, forms[kept]), "pixmo-count": make_samples(1, forms[kept])}, limit=2)
    [found], expected = rows[0]["images"], open_image(forms[kept])
    assert (found.mode, found.size) == (expected.mode, expected.size)
    assert found.size == (image.size if kept == "picture" else image.size[::-1])
    assert found.tobytes() == expected.tobytes()


# --- augmentation -----------------------------------------------------------------------------------------------------


def test_augment_true_is_the_papers_augmentation() -> None:
    rows = mixture(1, {"sat2": make_samples(1400), "pixmo-count": make_samples(700)}, limit=2000, augment=True)
    shares = Augment.shares(rows)
    assert set(shares) == {"base", "correct_caption", "wrong_caption", "correct_think", "wrong_think"}
    for condition, share in shares.items():
        expected = 0.6 if condition == "base" else 0.1
        assert abs(share - expected) < 4 * (expected * (1 - expected) / 2000) ** 0.5
    for row in rows.select_columns(["condition", "prefill"]):
        assert bool(row["prefill"]) == row["condition"].endswith("_think")


def test_another_augmentation_is_a_mapping() -> None:
    samples = make_samples(20, picture("red"))
    rows = mixture(1, dict.fromkeys(["sat2", "pixmo-count"], samples), limit=10, augment={BlankImage(): 1.0})
    assert Augment.shares(rows) == {"blank_image": 1.0}
    assert rows[0]["images"][0].getpixel((0, 0)) != (255, 0, 0)
    with pytest.raises(ValueError, match="add up to at most 1"):
        mixture(1, dict.fromkeys(["sat2", "pixmo-count"], samples), limit=10, augment={WrongCaption(): 1.5})


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stage": 3}, "expected stage 1 or 2, got 3"),
        ({"sources": {"sat": "folder"}}, "sources: expected names among sat2, pixmo-count, geometry3k, got sat"),
        ({"limit": 0}, "expected a limit of at least 1, got 0"),
        ({}, "sat2: expected a source, as it is no dataset of the hub"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paper_mixture(**arguments)


# --- a trainer --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL still sets options that transformers has renamed.
def test_a_trainer_takes_the_rows_as_they_are(tmp_path: Path, grpo: Callable[..., Any]) -> None:
    one, two = vr.demo.samples(12, seed=4), vr.demo.samples(12, seed=5)
    rows = mixture(1, {"sat2": one, "pixmo-count": two}, limit=8, augment=True)
    seen: dict[str, list[Any]] = {}

    def reward(completions: list[Any], **columns: Any) -> list[float | None]:
        seen.update(columns)
        return vr.rl.accuracy_reward(completions=completions, **columns)

    trainer = grpo(tmp_path, [reward, vr.rl.format_reward], max_steps=1, train_dataset=rows)
    trainer.train()
    assert [entry["step"] for entry in trainer.state.log_history if "reward" in entry] == [1]
    known = {(row["question"], tuple(row["options"]), row["solution"], row["source"]) for row in rows}
    rows_seen = zip(seen["question"], map(tuple, seen["options"]), seen["solution"], seen["source"], strict=True)
    assert set(rows_seen) <= known
