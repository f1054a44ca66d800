"""Each benchmark's own columns and types, from files in its own layout, to samples."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageColor

import vlmrobust as vr
from vlmrobust.data import BENCHMARKS, Samples, load_benchmark, samples_from
from vlmrobust.data.benchmarks.questions import LeftOut
from vlmrobust.data.benchmarks.spatial import read_3dsrbench
from vlmrobust.types import open_image

Layout = Callable[[str], Path]


def load(name: str, source: Path, example: Any) -> Samples:
    """Load without the warning, which tests of its own are about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return load_benchmark(name, source=source, configs=example.configs)


def test_rows_as_published_become_samples(known: tuple[str, Any], layout: Layout) -> None:
    name, example = known
    samples = load(name, layout(name), example)
    assert [sample.id for sample in samples] == [expected.id for expected in example.samples]
    for sample, expected in zip(samples, example.samples, strict=True):
        assert sample.question == expected.question
        assert sorted(sample.options) == sorted(expected.options)
        if not BENCHMARKS[name].shuffled:
            assert sample.options == expected.options
        assert sample.options[sample.answer] == expected.right
        assert sample.metadata.get("category") == expected.category
        assert sample.group == expected.group
        colours = [open_image(image).getpixel((0, 0)) for image in sample.images]
        assert colours == [ImageColor.getrgb(colour) for colour in expected.colours]


def test_what_makes_no_sample_is_named(known: tuple[str, Any], layout: Layout) -> None:
    name, example = known
    samples = load(name, layout(name), example)
    assert len(samples.left_out) == len(example.left_out)
    for message, expected in zip(samples.left_out, example.left_out, strict=True):
        assert message.endswith(expected)
    assert len(samples.problems) == len(example.problems)
    for message, expected in zip(samples.problems, example.problems, strict=True):
        assert re.search(expected, message)


def test_a_warning_counts_what_makes_no_sample(known: tuple[str, Any], layout: Layout) -> None:
    name, example = known
    rows = sum(map(len, example.rows.values()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        samples = load_benchmark(name, source=layout(name), configs=example.configs)
    told = [str(warning.message) for warning in caught if warning.category is UserWarning]
    assert len(told) == bool(samples.left_out or samples.problems)
    if told:
        assert told[0].startswith(f"{name}: {len(samples)} samples of {rows} rows; ")
        assert (f"left out: {len(samples.left_out)} (" in told[0]) == bool(samples.left_out)
        assert (f"problems: {len(samples.problems)} (" in told[0]) == bool(samples.problems)
        assert caught[0].filename == __file__


def test_two_loads_are_equal(known: tuple[str, Any], layout: Layout) -> None:
    name, example = known
    folder = layout(name)
    assert load(name, folder, example) == load(name, folder, example)


def test_a_row_with_other_columns_is_a_problem_that_names_the_column(known: tuple[str, Any]) -> None:
    entry = BENCHMARKS[known[0]]
    with pytest.raises(KeyError):
        entry.read({"picture": b"x", "text of the question": "Which?"})


@pytest.mark.parametrize("name", ["cv-bench", "blink", "mmmu", "whatsup"])
def test_from_a_benchmark_to_a_report_by_category(name: str, layout: Layout, example: Callable[[str], Any]) -> None:
    samples = load(name, layout(name), example(name))
    report = vr.Evaluator(vr.testing.FakeModel(), vr.paper_conditions()).run(samples)
    table = report.by("category")
    assert set(table["category"]) == {expected.category for expected in example(name).samples}
    assert len(set(table["condition"])) == len(vr.paper_conditions()) == 8
    assert set(report.frame["status"]) <= {"answered", "not_applicable"}


RAW_3DSRBENCH = {
    "index": "VIN6MS3J",
    "question": "Which object has a higher location?",
    "A": "baseball glove",
    "B": "red hat",
    "C": None,
    "D": None,
    "answer": "B",
    "category": "height_higher",
    "image_source": "MS-COCO",
    "image_url": "http://images.cocodataset.org/train2017/000000557944.jpg",
}


def test_3dsrbench_as_annotated_has_addresses_of_images() -> None:
    fields = read_3dsrbench(RAW_3DSRBENCH)
    assert fields["options"] == ["baseball glove", "red hat"]
    assert (fields["id"], fields["group"]) == ("VIN6MS3J", RAW_3DSRBENCH["image_url"])
    assert fields["metadata"] == {"category": "height_higher", "flip": False, "circular": False}
    samples = samples_from([fields | {"image": b"x"}], answer_as="letter")
    assert samples[0].options[samples[0].answer] == "red hat"


@pytest.mark.parametrize(
    ("qid", "flip", "circular"),
    [
        ("VIN6MS3J", False, False),
        ("VIN6MS3J-1", False, True),
        ("VIN6MS3J-flip", True, False),
        ("VIN6MS3J-flip-3", True, True),
    ],
)
def test_variants_of_a_question_of_3dsrbench_are_one_group(qid: str, flip: bool, circular: bool) -> None:
    row = {key: value for key, value in RAW_3DSRBENCH.items() if key != "image_url"} | {"qid": qid, "image": "YWJj"}
    fields = read_3dsrbench(row)
    assert (fields["id"], fields["group"], fields["image"]) == (qid, "VIN6MS3J", b"abc")
    assert (fields["metadata"]["flip"], fields["metadata"]["circular"]) == (flip, circular)


@pytest.mark.parametrize("columns", ["ABCD", "ABC", "AB"])
def test_3dsrbench_has_two_to_four_options(columns: str) -> None:
    row = RAW_3DSRBENCH | {letter: letter.lower() if letter in columns else None for letter in "ABCD"}
    assert read_3dsrbench(row)["options"] == [letter.lower() for letter in columns]


@pytest.mark.parametrize(
    ("name", "column", "hidden"), [("mmmu", "answer", "?"), ("blink", "answer", "hidden"), ("mmbench", "answer", None)]
)
def test_rows_whose_answer_is_kept_secret_are_left_out(
    name: str, column: str, hidden: str | None, example: Callable[[str], Any]
) -> None:
    row = next(iter(example(name).rows.values()))[0]
    with pytest.raises(LeftOut, match="its answer is not published"):
        BENCHMARKS[name].read(row | {column: hidden})


def test_a_prompt_of_blink_without_options_gives_way_to_the_question(example: Callable[[str], Any]) -> None:
    row = example("blink").rows["Relative_Depth"][0] | {"prompt": "Two points are circled."}
    assert BENCHMARKS["blink"].read(row)["question"] == "Which point is closer to the camera?"


@pytest.mark.parametrize(
    ("caption", "category"),
    [
        ("A photo of a dog on the left", "left"),
        ("A photo of a dog on the top.", "top"),
        ("A photo of a dog to the right of a cat", "right"),
        ("A photo of a dog above a cat", "above"),
        ("A photo of a dog on top of a table", "top"),
        ("A photo of a dog near a cat", "cat"),
    ],
)
def test_categories_of_pairs_of_captions(caption: str, category: str) -> None:
    row = {"0": "7", "1": caption, "2": "another"}
    assert BENCHMARKS["whatsup-vg"].read(row)["metadata"]["category"] == category


def test_a_mirror_may_hold_images_in_another_way(
    example: Callable[[str], Any], as_dataset: Callable[..., Any], tmp_path: Path
) -> None:
    """lmms-lab/vstar-bench has pictures where the original has paths, HuggingFaceM4/MMBench base64 for pictures."""
    red = example("mme-realworld-lite").rows[""][0]["bytes"]
    pictured = [row | {"image": example("cv-bench").rows[""][0]["image"]} for row in _rows(example("vstar"))]
    types = dict.fromkeys(pictured[0], "string") | {"image": "image"}
    as_dataset(pictured, types).to_parquet(tmp_path / "vstar.parquet")
    written = [row | {"image": red} for row in _rows(example("mmbench"))[:2]]
    as_dataset(written, example("mmbench").types | {"image": "string"}).to_parquet(tmp_path / "mmbench.parquet")
    for name in ("vstar", "mmbench"):
        samples = load(name, tmp_path / f"{name}.parquet", example("cv-bench"))
        assert [sample.id for sample in samples] == [expected.id for expected in example(name).samples]
        assert {open_image(sample.images[0]).getpixel((0, 0)) for sample in samples} == {(255, 0, 0)}


def _rows(example: Any) -> list[dict[str, Any]]:
    return [row for rows in example.rows.values() for row in rows]
