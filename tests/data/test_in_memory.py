"""Test rows in memory, and messages about images in base64."""

import base64
import io
import random
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image, features

from vlmrobust.data import RowsError, load_benchmark, read_rows, samples_from
from vlmrobust.rl import Augment

ROW = {"id": "q", "image": "red.png", "question": "Which?", "options": ["red", "blue"], "answer": "B"}
PICTURE = base64.b64encode(random.Random(3).randbytes(34_000)).decode()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    Image.new("RGB", (9, 9), "red").save(tmp_path / "red.png")
    return tmp_path


@pytest.mark.parametrize("kind", [list, pd.DataFrame, datasets.Dataset.from_list, pa.Table.from_pylist])
def test_rows_in_memory_with_images_below_a_root(pictures: Path, kind: Any) -> None:
    rows = kind([ROW, {**ROW, "id": "r", "answer": "A"}])
    for read in (read_rows, samples_from):
        samples = read(rows, root=pictures, check_images=True)
        assert [sample.answer for sample in samples] == [1, 0]
        assert samples[0].images == (pictures / "red.png",)
        with pytest.raises(RowsError, match=r"row 1: sample 'r', field 'images.0': .* 'elsewhere/red.png'"):
            read(rows, root="elsewhere")
    assert len(read_rows(rows, root=pictures, limit=1)) == 1
    with pytest.raises(ValueError, match="rows in memory have no splits"):
        read_rows(rows, split="test")


def test_of_the_splits_of_a_dataset_one_is_read(pictures: Path) -> None:
    splits = datasets.DatasetDict(
        {name: datasets.Dataset.from_list([{**ROW, "id": name}]) for name in ("train", "test")}
    )
    assert [sample.id for sample in read_rows(splits, root=pictures, split="test")] == ["test"]
    with pytest.raises(TypeError, match="of a dataset's splits, give one"):
        read_rows(splits, root=pictures)
    with pytest.raises(ValueError, match="expected one of the splits train, test, got 'val'"):
        read_rows(splits, root=pictures, split="val")


@pytest.mark.parametrize("form", [None, "numpy", "torch", "pandas", "arrow"])
def test_class_labels_are_read_by_name(pictures: Path, tmp_path: Path, form: str | None) -> None:
    rows = [{**ROW, "options": ["yes", "no"], "answer": "no", "kind": "b"}]
    plain = datasets.Dataset.from_list(rows)
    labelled = plain.cast_column("answer", datasets.ClassLabel(names=["no", "yes"]))  # 0 = no, the second option
    labelled = labelled.cast_column("kind", datasets.ClassLabel(names=["a", "b"]))
    labelled.to_parquet(tmp_path / "rows.parquet")
    ways = (labelled.with_format(form), labelled.to_iterable_dataset().with_format(form), tmp_path / "rows.parquet")
    for way in ways:
        [sample] = read_rows(way, root=pictures)
        assert (sample.options[sample.answer], sample.metadata) == ("no", {"kind": "b"})
    unlabelled = datasets.Dataset.from_list([{**rows[0], "answer": -1}], features=labelled.features)
    with pytest.raises(RowsError, match=r"field 'answer': expected an index from 0 to 1, .* got -1"):
        read_rows(unlabelled, root=pictures)


def test_class_labels_inside_lists_and_objects_are_read_by_name(pictures: Path, tmp_path: Path) -> None:
    colours = datasets.ClassLabel(names=["red", "blue", "green"])
    rows = [{**ROW, "options": ["green", "red"], "answer": 0, "seen": {"first": "blue", "others": ["red", "green"]}}]
    plain = datasets.Dataset.from_list(rows)
    listed = datasets.Sequence(colours)
    features = {**plain.features, "options": listed, "seen": {"first": colours, "others": listed}}
    labelled = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    labelled.to_parquet(tmp_path / "rows.parquet")
    for way in (labelled, labelled.to_iterable_dataset(), tmp_path / "rows.parquet"):
        [sample] = read_rows(way, root=pictures)
        assert (sample.options, sample.answer) == (("green", "red"), 0)
        assert sample.metadata == {"seen": {"first": "blue", "others": ["red", "green"]}}


def test_the_transform_of_a_dataset_makes_its_rows(pictures: Path) -> None:
    stored = datasets.Dataset.from_list([{"number": 7}])
    [sample] = read_rows(
        stored.with_transform(lambda rows: {name: [value] for name, value in ROW.items()}), root=pictures
    )
    assert (sample.id, sample.answer) == ("q", 1)


@pytest.mark.parametrize("answer", [1, 5])
def test_what_a_transform_returns_is_no_class_label(pictures: Path, answer: int) -> None:
    rows = datasets.Dataset.from_list([{**ROW, "answer": "no"}])
    labelled = rows.cast_column("answer", datasets.ClassLabel(names=["no", "yes"]))
    changed = {"options": ["yes", "no"], "answer": answer}
    turned = labelled.with_transform(lambda batch: {**batch, **{name: [value] for name, value in changed.items()}})
    if answer == 1:
        [sample] = read_rows(turned, root=pictures)
        assert sample.options[sample.answer] == "no"
    else:
        with pytest.raises(RowsError, match=r"field 'answer': expected an index from 0 to 1, .* got 5"):
            read_rows(turned, root=pictures)


@pytest.mark.parametrize(("all_columns", "metadata"), [(False, {}), (True, {"secret": 3})])
def test_hidden_columns_of_a_dataset_stay_hidden(pictures: Path, all_columns: bool, metadata: dict[str, int]) -> None:
    stored = datasets.Dataset.from_list([{**ROW, "secret": 3}])
    shown = stored.with_format("numpy", columns=list(ROW), output_all_columns=all_columns)
    [sample] = read_rows(shown, root=pictures)
    assert (sample.id, sample.metadata) == ("q", metadata)


def test_values_of_numpy_are_read_at_any_depth(pictures: Path) -> None:
    nested = {"of": {"sizes": [1, 2]}, "pairs": [[1], [2, 3]], "level": 3, "hard": True}
    frame = pa.Table.from_pylist([{**ROW, **nested}]).to_pandas()  # pandas makes arrays of lists, also within objects
    assert isinstance(frame["of"][0]["sizes"], np.ndarray)
    arrays = {"options": np.array(ROW["options"]), "answer": np.int64(1), "level": np.int8(3), "hard": np.bool_(True)}
    for rows in (frame, [{**ROW, **nested, **arrays}]):
        [sample] = read_rows(rows, root=pictures)
        assert (sample.options, sample.answer, sample.metadata) == (("red", "blue"), 1, nested)


def test_numbers_without_a_python_type_and_times_are_no_metadata(pictures: Path) -> None:
    time = np.datetime64("2020-01-01", "ns")
    extra = {"exact": np.longdouble(1), "at": time, "times": np.array([time]), "pixels": np.zeros((2, 2, 3))}
    [sample] = read_rows([{**ROW, **extra}], root=pictures)
    assert sample.metadata == {}


@pytest.mark.parametrize("shape", [(40, 40, 3), (40, 40)])
@pytest.mark.parametrize("several", [False, True])
def test_an_image_given_as_an_array_is_refused_in_one_sentence(shape: tuple[int, ...], several: bool) -> None:
    pixels = np.zeros(shape, dtype=np.uint8)
    with pytest.raises(RowsError, match=r"field 'image': expected .* or a PIL image, got (ndarray|list); .*fromarray$"):
        samples_from([{**ROW, "image": [pixels] if several else pixels}])


def test_an_image_may_be_a_buffer(pictures: Path) -> None:
    content = (pictures / "red.png").read_bytes()
    for image in (bytearray(content), memoryview(content), [memoryview(content)]):
        assert read_rows([{**ROW, "image": image}])[0].images == (content,)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", *["AVIF"] * features.check("avif")])
def test_an_image_in_base64_may_have_any_usual_format(form: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(out, form)
    [sample] = read_rows([{**ROW, "image": base64.b64encode(out.getvalue()).decode()}], check_images=True)
    assert sample.images == (out.getvalue(),)


def test_a_named_index_of_a_frame_is_a_column(pictures: Path) -> None:
    frame = pd.DataFrame([{**ROW, "id": "q8"}, {**ROW, "id": "q9"}])
    for rows in (frame, frame.set_index("id"), frame.set_index("id", drop=False), frame.set_index(["id", "answer"])):
        samples = read_rows(rows, root=pictures)
        assert [(sample.id, sample.answer) for sample in samples] == [("q8", 1), ("q9", 1)]


def test_a_name_that_two_levels_of_an_index_have_is_a_column_once(pictures: Path) -> None:
    frame = pd.DataFrame([ROW], index=pd.MultiIndex.from_tuples([(1, 2, 3)], names=["g", "g", "h"]))
    [sample] = read_rows(frame, root=pictures)
    assert sample.metadata == {"g": 1, "h": 3}


class Frame:
    """As much of a frame of polars as is used."""

    columns = tuple(ROW)

    def __iter__(self) -> Any:
        return iter(self.columns)

    def to_dicts(self) -> list[dict[str, Any]]:
        return [ROW]


@pytest.mark.parametrize(
    "table", [pd.DataFrame([ROW]), pa.Table.from_pylist([ROW]), Frame()], ids=["pandas", "pyarrow", "polars"]
)
def test_training_rows_are_made_of_tables_too(pictures: Path, monkeypatch: pytest.MonkeyPatch, table: Any) -> None:
    monkeypatch.chdir(pictures)
    [row] = Augment({})(table)
    assert (row["solution"], row["options"]) == ("B", ["red", "blue"])


def test_a_benchmarks_rows_may_be_in_memory() -> None:
    row = {
        "idx": 3,
        "type": "2D",
        "task": "Count",
        "image": b"not decoded",
        "question": "How many?",
        "choices": ["1", "2"],
        "answer": "(B)",
        "source": "ADE20K",
        "filename": "x.png",
    }
    expected = load_benchmark("cv-bench", source=[row])
    assert (expected[0].options, expected[0].answer) == (("1", "2"), 1)
    for table in (
        pd.DataFrame([row]),
        datasets.Dataset.from_list([row]),
        datasets.DatasetDict(test=datasets.Dataset.from_list([row])),
    ):
        assert load_benchmark("cv-bench", source=table, split="test" if isinstance(table, dict) else None) == expected
    with pytest.raises(ValueError, match="rows in memory have no configs: expected none for blink, got"):
        load_benchmark("blink", source=[row], configs=["Counting"])
    with pytest.raises(RowsError, match="row 0: expected a column 'idx' as cv-bench has it"):
        load_benchmark("cv-bench", source=pd.DataFrame([ROW]))


def test_the_root_of_a_file_may_be_another_folder(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    table = tmp_path_factory.mktemp("tables") / "rows.json"
    pd.DataFrame([ROW]).to_json(table, orient="records")
    assert read_rows(table, root=pictures, check_images=True)[0].images == (pictures / "red.png",)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("options", [PICTURE, PICTURE]),
        ("options", PICTURE),
        ("answer", PICTURE),
        ("distractor", PICTURE),
        ("texts", PICTURE),
    ],
)
def test_no_message_repeats_a_picture(pictures: Path, field: str, value: Any) -> None:
    with pytest.raises(RowsError, match="row 0: sample 'q', field ") as caught:
        samples_from([{**ROW, field: value}], root=pictures)
    assert field in str(caught.value)
    assert len(str(caught.value)) < 700
