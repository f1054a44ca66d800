"""Rows of each benchmark become fields of samples; numbers become options; options of training data are shuffled."""

import hashlib
import io
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from PIL import Image, ImageColor

import vlmrobust as vr
from vlmrobust.data import BENCHMARKS, Samples, load_benchmark, samples_from
from vlmrobust.data.benchmarks.questions import LeftOut
from vlmrobust.data.benchmarks.spatial import read_3dsrbench
from vlmrobust.data.rows import Downloader
from vlmrobust.types import open_image

Layout = Callable[[str], Path]


def load(name: str, source: Path, **settings: Any) -> Samples:
    """Load a benchmark without the warning of what is left out, which tests of its own are about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return load_benchmark(name, source=source, **settings)


def test_rows_as_published_become_samples(known: tuple[str, Any], layout: Layout) -> None:
    name, example = known
    samples = load(name, layout(name), configs=example.configs)
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
    samples = load(name, layout(name), configs=example.configs)
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
    assert load(name, folder, configs=example.configs) == load(name, folder, configs=example.configs)


def test_a_row_with_other_columns_is_a_problem_that_names_the_column(known: tuple[str, Any]) -> None:
    entry = BENCHMARKS[known[0]]
    with pytest.raises(KeyError):
        entry.read({"picture": b"x", "text of the question": "Which?"})


@pytest.mark.parametrize("name", ["cv-bench", "blink", "mmmu", "whatsup"])
def test_from_a_benchmark_to_a_report_by_category(name: str, layout: Layout, example: Callable[[str], Any]) -> None:
    samples = load(name, layout(name), configs=example(name).configs)
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
        samples = load(name, tmp_path / f"{name}.parquet", configs=example("cv-bench").configs)
        assert [sample.id for sample in samples] == [expected.id for expected in example(name).samples]
        assert {open_image(sample.images[0]).getpixel((0, 0)) for sample in samples} == {(255, 0, 0)}


def _rows(example: Any) -> list[dict[str, Any]]:
    return [row for rows in example.rows.values() for row in rows]


Rows = list[dict[str, Any]]
Write = Callable[[str, Rows, Mapping[str, str]], Path]

PIXMO = {"image_url": "string", "image_sha256": "string", "count": "int32", "points": "points", "label": "string"}
GEOMETRY = {"images": "images", "problem": "string", "answer": "string"}


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def write(tmp_path: Path, as_dataset: Callable[..., Any]) -> Write:
    def parquet(name: str, rows: Rows, types: Mapping[str, str]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        as_dataset(rows, types).to_parquet(path)
        return path

    return parquet


# --- SAT --------------------------------------------------------------------------------------------------------------


def sat(question: str, **columns: Any) -> dict[str, Any]:
    return {
        "question": question,
        "answers": ["left", "right"],
        "correct_answer": "left",
        "question_type": "t",
    } | columns


def test_the_original_copy_of_sat_has_a_file_per_split(write: Write, tmp_path: Path) -> None:
    types = {"image_bytes": "binaries", "question": "string", "answers": "strings"}
    types |= {"question_type": "string", "correct_answer": "string"}
    for split in ("train", "static", "val", "test"):
        write(f"SAT_{split}.parquet", [sat(split, image_bytes=[picture("red"), picture("blue")])], types)
    for split in (None, "test"):
        [sample] = load_benchmark("sat", source=tmp_path, split=split)
        assert sample.question == (split or "train")
        assert [open_image(image).getpixel((0, 0)) for image in sample.images] == [(255, 0, 0), (0, 0, 255)]
        assert sample.options[sample.answer] == "left"


def test_the_order_of_options_is_drawn_evenly_by_seed_and_sample(write: Write) -> None:
    types = {"images": "strings", "question": "string", "answers": "strings"}
    types |= {"question_type": "string", "correct_answer": "string"}
    rows = [sat(str(row), images=["a.png"], answers=["left", "right", "up"]) for row in range(900)]
    path = write("train.parquet", rows, types)
    samples = load("sat", path)
    orders = Counter(sample.options for sample in samples)
    assert len(orders) == 6
    assert scipy.stats.chisquare([*orders.values()]).pvalue > 0.001
    assert scipy.stats.chisquare([*Counter(sample.answer for sample in samples).values()]).pvalue > 0.001
    assert load("sat", path, limit=50) == samples[:50]
    assert [sample.options for sample in load("sat", path, seed=1)] != [sample.options for sample in samples]


def test_sat2_is_to_be_fetched_by_hand() -> None:
    with pytest.raises(ValueError, match=r"sat2: expected a source, as it is no dataset of the hub; get spatial_reas"):
        load_benchmark("sat2")


def test_marks_between_words_stay() -> None:
    problem = "Is <image> before <image>?\nAnswer Choices:\nA. yes\nB. no"
    fields = BENCHMARKS["sat2"].read({"image_paths": ["a.png", "b.png"], "problem": problem, "answer": "no"})
    assert fields["question"] == "Is <image> before <image>?"
    assert fields["images"] == ["a.png", "b.png"]


# --- PixMo-Count ------------------------------------------------------------------------------------------------------


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address holds a picture of its own, except that one has changed; returns those asked for."""
    asked: list[str] = []

    def fetch(self: Downloader, address: str) -> bytes:
        asked.append(address)
        return picture("black") if address.endswith("changed.png") else picture("red")

    monkeypatch.setattr(Downloader, "__call__", fetch)
    return asked


def pixmo(name: str, count: int = 3) -> dict[str, Any]:
    return {
        "image_url": f"https://example.org/{name}.png",
        "image_sha256": hashlib.sha256(picture("red")).hexdigest(),
        "count": count,
        "points": {"x": [1.0] * count, "y": [2.0] * count},
        "label": "cups",
    }


def test_counts_become_options_and_images_are_fetched_if_asked_for(write: Write, addresses: list[str]) -> None:
    path = write("data/train-00000-of-00001.parquet", [pixmo("a"), pixmo("changed"), pixmo("b", 12)], PIXMO)
    with pytest.raises(ValueError, match=r"3 problems in the rows:\n.*to fetch it, pass download_urls=True"):
        load("pixmo-count", path)
    assert addresses == []
    samples = load("pixmo-count", path, download_urls=True)
    assert [sample.id for sample in samples] == ["0", "2"]
    for sample, count in zip(samples, (3, 12), strict=True):
        assert sample.options[sample.answer] == str(count)
        lowest = min(map(int, sample.options))
        assert sorted(map(int, sample.options)) == [*range(lowest, lowest + 4)]
        assert sample.question == "How many cups are in the image?"
        assert sample.images == (picture("red"),)
        assert sample.metadata == {"label": "cups"}
    [problem] = samples.problems
    assert "sample '1', field 'image': expected the image with sha256" in problem
    assert "at 'https://example.org/changed.png', got another" in problem


def test_options_of_counts_depend_on_seed_and_sample_alone(write: Write, addresses: list[str]) -> None:
    path = write("train.parquet", [pixmo(str(row), 9) for row in range(40)], PIXMO)
    samples = load("pixmo-count", path, download_urls=True)
    assert load("pixmo-count", path, download_urls=True, limit=9) == samples[:9]
    assert len({frozenset(sample.options) for sample in samples}) == 4
    again = load("pixmo-count", path, download_urls=True, seed=1)
    assert [sample.options for sample in again] != [sample.options for sample in samples]


# --- Geometry3K -------------------------------------------------------------------------------------------------------


def test_an_older_copy_of_geometry3k_keeps_plain_numbers(write: Write) -> None:
    image = {"bytes": picture("red"), "path": None}
    answers = ["12", "37.5", "2 \\sqrt { 221 }"]
    rows = [{"images": [image], "problem": "<image>Find $x$.", "answer": answer} for answer in answers]
    samples = load("geometry3k", write("data/train-00000-of-00001.parquet", rows, GEOMETRY))
    assert [sample.options[sample.answer] for sample in samples] == ["12", "37.5"]
    assert [len(sample.options) for sample in samples] == [4, 4]
    assert {sample.question for sample in samples} == {"Find $x$."}
    [left_out] = samples.left_out
    assert left_out.endswith("row 2: an open question whose answer is no plain number")


# --- rows that are drawn ----------------------------------------------------------------------------------------------


def test_drawn_rows_are_the_first_of_more_drawn_rows(write: Write, addresses: list[str]) -> None:
    path = write("train.parquet", [pixmo(str(row)) for row in range(60)], PIXMO)
    few = load("pixmo-count", path, drawn=10, download_urls=True)
    assert len(addresses) == 10  # of the others no image is fetched
    more = load("pixmo-count", path, drawn=100, download_urls=True)
    assert len(more) == 60
    assert more[:10] == few
    in_order = load("pixmo-count", path, download_urls=True)
    assert sorted(more, key=lambda sample: int(sample.id)) == in_order != more
    assert load("pixmo-count", path, drawn=10, seed=1, download_urls=True) != few


def test_what_makes_no_sample_is_told_of_and_takes_no_place(write: Write) -> None:
    image = {"bytes": picture("red"), "path": None}
    rows = [{"images": [image], "problem": "Find $x$.", "answer": answer} for answer in ["\\pi", "1", "2", "3"]]
    path = write("train.parquet", rows, GEOMETRY)
    with pytest.warns(UserWarning, match=r"geometry3k: 2 samples of 3 rows; left out: 1 \(an open question"):
        samples = load_benchmark("geometry3k", source=path, drawn=2)
    assert len(samples.left_out) == 1


def test_how_many_are_drawn_has_one_answer(write: Write) -> None:
    path = write("train.parquet", [pixmo("a")], PIXMO)
    with pytest.raises(ValueError, match=r"expected the first rows \(limit\) or drawn ones, got both: 1 and 2"):
        load_benchmark("pixmo-count", source=path, limit=1, drawn=2)
    with pytest.raises(ValueError, match="expected to draw at least 1, got 0"):
        load_benchmark("pixmo-count", source=path, drawn=0)
