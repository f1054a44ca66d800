"""Test reading of rows, and the messages about invalid ones."""

import base64
import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vlmrobust.data import Row, RowsError, read_rows, samples_from
from vlmrobust.data.fields import AnswerAs
from vlmrobust.data.files import fill_shared_images
from vlmrobust.types import open_image

Cells = dict[str, Any]


def picture(colour: str = "red", form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, form)
    return file.getvalue()


def row(sample_id: str = "q1", **fields: Any) -> Cells:
    return {
        "id": sample_id,
        "image": "red.png",
        "question": "Which colour?",
        "options": ["red", "blue"],
        "answer": "A",
    } | fields


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "red.png").write_bytes(picture("red"))
    (tmp_path / "blue.png").write_bytes(picture("blue"))
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Callable[..., Path]:
    def write_rows(*rows: Cells | str) -> Path:
        path = folder / "rows.jsonl"
        lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write_rows


def test_a_file_of_rows(write: Callable[..., Path], folder: Path) -> None:
    first = row(
        distractor="blue",
        group="g",
        texts={"wrong_caption": "Blue.", "wrong_think": {"B": "It is blue."}},
        correct_think="It is red.",
        category="colour",
        metadata={"year": 2020},
    )
    second = row("q2", answer=1)
    second["images"] = [second.pop("image"), "blue.png"]
    samples = read_rows(write(first, "", second))
    assert [sample.id for sample in samples] == ["q1", "q2"]
    assert samples[0].images == (folder / "red.png",)
    assert (samples[0].answer, samples[0].distractor, samples[0].group) == (0, 1, "g")
    assert samples[0].texts == {
        "wrong_caption": "Blue.",
        "wrong_think": {1: "It is blue."},
        "correct_think": "It is red.",
    }
    assert samples[0].metadata == {"category": "colour", "year": 2020}
    assert samples[1].images == (folder / "red.png", folder / "blue.png")
    assert (samples[1].answer, samples[1].texts, samples[1].metadata) == (1, {}, {})
    assert open_image(samples[1].images[1]).getpixel((0, 0)) == (0, 0, 255)


BAD_ROWS = [
    (row(answer="C"), "sample 'q1', field 'answer': expected an index from 0 to 1, a letter from A to B"),
    (row(answer=2), "sample 'q1', field 'answer': expected an index from 0 to 1"),
    (row(answer=None), "sample 'q1', field 'answer': expected a value in column 'answer', got none"),
    (
        {"id": "q1", "image": "red.png", "prompt": "Which?", "options": ["red", "blue"], "answer": 0},
        "sample 'q1', field 'question': expected a value in column 'question', got the columns id, image, prompt, "
        "options, answer; give the column of the field in 'columns'",
    ),
    (row(distractor="A"), "sample 'q1', field 'distractor': expected the index of a wrong option"),
    (row(options=["red"], answer=0), "sample 'q1', field 'options': expected 2 to 26 options, got 1"),
    (row(options=["red", "red "], answer=0), "sample 'q1', field 'options': expected different options"),
    (
        row(options=["red", "red"]),
        "sample 'q1', field 'options': expected different options, got 'red' at index 0 and 1",
    ),
    (row(options=["red", " "], answer=0), "sample 'q1', field 'options': expected text in every option"),
    (row(options="red"), "sample 'q1', field 'options': expected a list of options, got str: 'red'"),
    (row(question=""), "sample 'q1', field 'question': expected a value in column 'question', got none"),
    (row(question="  "), "sample 'q1', field 'question': expected a question, got '  '"),
    (row(question=5), "sample 'q1', field 'question': expected text, got int: 5"),
    (
        row(image=None),
        "sample 'q1', field 'images': expected a value in one of the columns 'image' and 'images', got none",
    ),
    (row(images=["blue.png"]), "sample 'q1', field 'images': expected a value in one of .*, got 'image' and 'images'"),
    (row(image="green.png"), "sample 'q1', field 'images.0': expected an image file, found none at .*green.png'"),
    (row(image="http://x.org/a.png"), "sample 'q1', field 'image': expected the path of an image file, got an address"),
    (row(question="<image> or <image>?"), r"sample 'q1', field 'images': expected as many images .* \(2\), got 1"),
    (row(wrong_caption="Blue."), "sample 'q1', field 'texts.wrong_caption': expected a mapping .* or a 'distractor'"),
    (row(wrong_caption={"Z": "Blue."}), "sample 'q1', field 'wrong_caption': expected an index"),
    (row(texts={"wrong_caption": {"Z": "Blue."}}), "sample 'q1', field 'texts.wrong_caption': expected an index"),
    (
        row(texts={"correct_think": "a"}, correct_think="b"),
        "sample 'q1', field 'correct_think': expected the text once",
    ),
    (row(texts="a"), "sample 'q1', field 'texts': expected a mapping, got str"),
    (row(metadata={"a": 1}, a=2), "sample 'q1', field 'metadata': expected each name once, got 'a'"),
    (row(id=None), "sample '<no id>', field 'id': expected a value in column 'id', got none"),
    ('{"id": "q1", ', r"expected one JSON object, got b'{\"id\": \"q1\", .*: Expecting property name"),
    ("[1]", "expected one JSON object, got list"),
    ("null", "expected one JSON object, got NoneType"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_ROWS)
def test_a_bad_row_is_named_by_file_line_sample_and_field(
    write: Callable[..., Path], bad: Cells | str, message: str
) -> None:
    with pytest.raises(RowsError, match=f"rows.jsonl, line 2: {message}") as caught:
        read_rows(write(row("q0"), bad))
    assert len(caught.value.problems) == 1


def test_bytes_that_are_no_text(folder: Path) -> None:
    (folder / "rows.jsonl").write_bytes(json.dumps(row()).encode() + b'\n{"id": "\xff"}\n')
    with pytest.raises(RowsError, match=r"line 2: expected one JSON object, got b'.*: 'utf-8' codec"):
        read_rows(folder / "rows.jsonl")


def test_duplicate_ids_name_both_lines(write: Callable[..., Path]) -> None:
    with pytest.raises(
        RowsError,
        match=r"rows.jsonl, line 3: sample 'q1', field 'id': expected ids that differ, got .* at rows.jsonl, line 1",
    ):
        read_rows(write(row(), row("q2"), row()))


def test_a_corrupt_image_is_found_when_images_are_checked(write: Callable[..., Path], folder: Path) -> None:
    (folder / "torn.png").write_bytes(picture()[:40])
    (folder / "text.png").write_text("no picture")
    path = write(row("q1", image="torn.png"), row("q2", image="text.png"), row("q3"))
    assert len(read_rows(path)) == 3
    with pytest.raises(RowsError) as caught:
        read_rows(path, check_images=True)
    assert len(caught.value.problems) == 2
    for name, problem in zip(("torn", "text"), caught.value.problems, strict=True):
        assert f"field 'images.0': expected a readable image in '{folder / name}.png', got " in problem


def test_all_problems_are_collected_and_the_first_twenty_kinds_shown(write: Callable[..., Path]) -> None:
    with pytest.raises(RowsError) as caught:
        read_rows(write(*[row(f"q{number}", question="", answer=f"Z{number}") for number in range(30)]))
    assert len(caught.value.problems) == 60
    lines = str(caught.value).splitlines()
    assert lines[0] == "60 problems in the rows:"
    assert len(lines) == 22
    assert "line 1: sample 'q0', field 'question'" in lines[1]
    assert lines[1].endswith(" (and 29 more like it)")
    assert "line 19" in lines[20]
    assert not lines[20].endswith(" like it)")
    assert lines[-1] == "  … and 11 more"


def test_up_to_twenty_problems_are_listed_though_they_are_of_one_kind(write: Callable[..., Path]) -> None:
    with pytest.raises(RowsError) as caught:
        read_rows(write(*[row(f"q{number}", answer="Z") for number in range(20)]))
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert "line 20" in lines[20]


def test_record_keeps_the_good_rows_and_lists_the_others(write: Callable[..., Path], folder: Path) -> None:
    path = write(row("q1"), row("q2", answer="Z"), "{", row("q3", image="green.png"), row("q1"))
    samples = read_rows(path, on_error="record")
    assert [sample.id for sample in samples] == ["q1", "q3"]  # q3's image is the run's to report
    assert samples[1].images == (folder / "green.png",)
    assert [problem.split(":")[0] for problem in samples.problems] == [f"rows.jsonl, line {n}" for n in (2, 3, 4, 5)]


def test_record_still_refuses_rows_that_make_no_sample_at_all(write: Callable[..., Path]) -> None:
    with pytest.raises(RowsError, match="field 'answer'"):
        read_rows(write(row(answer="Z")), on_error="record")


def test_no_rows(write: Callable[..., Path]) -> None:
    with pytest.raises(RowsError, match="expected at least one row, got none"):
        read_rows(write(""))


def test_columns_of_other_names(write: Callable[..., Path]) -> None:
    other = {"index": 7, "picture": "red.png", "prompt": "Which?", "A": "red", "B": "blue", "C": None, "gold": "B"}
    columns = {"id": "index", "image": "picture", "question": "prompt", "options": ["A", "B", "C"], "answer": "gold"}
    [sample] = read_rows(write(other), columns)
    assert (sample.id, sample.question, sample.options, sample.answer) == ("7", "Which?", ("red", "blue"), 1)
    assert sample.metadata == {}


def test_a_gap_in_the_options_columns(write: Callable[..., Path]) -> None:
    gap = row() | {"A": "red", "B": None, "C": "green"}
    with pytest.raises(RowsError, match="expected text in every option, got NoneType at index 1"):
        read_rows(write(gap), {"options": ["A", "B", "C"]})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": "question"}, "expected columns for the fields id, image, .*, got prompt"),
        ({"question": "prompt"}, "field 'question': expected one of the columns answer, id, image, options, question"),
        ({"options": ["A", "B"]}, "field 'options': expected one of the columns"),
        ({"question": ["id", "question"]}, "field 'question': expected one column"),
    ],
)
def test_columns_that_do_not_fit(write: Callable[..., Path], columns: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_rows(write(row()), columns)


def test_rows_without_ids_are_numbered(write: Callable[..., Path]) -> None:
    rows = [{key: value for key, value in row().items() if key != "id"} for _ in range(2)]
    assert [sample.id for sample in read_rows(write(*rows))] == ["0", "1"]
    with pytest.raises(RowsError, match="line 2: sample '<no id>', field 'id': expected a value"):
        read_rows(write(row(), rows[0]))


def test_limit(write: Callable[..., Path]) -> None:
    path = write(row("q1"), row("q2"), "{")
    assert [sample.id for sample in read_rows(path, limit=2)] == ["q1", "q2"]
    with pytest.raises(ValueError, match="expected a limit of at least 1, got 0"):
        read_rows(path, limit=0)


def test_a_single_file_has_no_splits(write: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"^a single file has no splits: expected none for 'rows.jsonl', got 'test'$"):
        read_rows(write(row()), split="test")


def test_answer_as(write: Callable[..., Path]) -> None:
    path = write(row(options=["1", "2", "3"], answer="2"))
    with pytest.raises(RowsError, match=r"one meaning, .*: as index means '3' and text means '2'; .*answer_as"):
        read_rows(path)
    assert read_rows(path, answer_as="text")[0].answer == 1
    assert read_rows(path, answer_as="index")[0].answer == 2


@pytest.mark.parametrize("answers", [(1, 2, 3), ("1", "3"), (3, 2.0), (-1, 1, 2, 3)])
def test_answers_that_count_from_one_are_refused_as_a_whole(
    write: Callable[..., Path], answers: tuple[object, ...]
) -> None:
    options = ["red", "blue", "green"]
    path = write(*(row(f"q{number}", options=options, answer=answer) for number, answer in enumerate(answers)))
    with pytest.raises(RowsError, match=r"all rows: field 'answer': .*; if they count from 1, subtract 1"):
        read_rows(path, on_error="record")


@pytest.mark.parametrize(
    ("answers", "answer_as", "good"),
    [
        ((0, 2, 3), "any", 2),  # 3 is a typing error
        ((3,), "any", 0),
        ((1, 2, 4), "any", 2),
        (("B", "C", "3"), "any", 2),
        (("B", "C", "blue", "3", "1"), "any", 4),
        ((1, 2, 3), "letter", 0),
    ],
)
def test_other_numbers_cost_their_row_alone(
    write: Callable[..., Path], answers: tuple[object, ...], answer_as: AnswerAs, good: int
) -> None:
    options = ["red", "blue", "green"]
    rows = [row(f"q{number}", options=options, answer=answer) for number, answer in enumerate(answers)]
    spare = row("spare", options=options, answer="A")
    samples = read_rows(write(*rows, spare), on_error="record", answer_as=answer_as)
    assert (len(samples), len(samples.problems)) == (good + 1, len(answers) - good)


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_that_may_be_those_in_the_options_are_refused_as_a_whole(
    write: Callable[..., Path], first: int
) -> None:
    options = ["1. red", "2. blue", "3. green"]
    path = write(*(row(f"q{number}", options=options, answer=first + number) for number in range(3)))
    # Of three rows one has a single meaning: the others would be left out, and all answers be the same option.
    with pytest.raises(
        RowsError, match=r"^3 problems in the rows:\n  all rows: field 'answer': .*that may be those in the op"
    ):
        read_rows(path, on_error="record")
    answers = [sample.answer for sample in read_rows(path, answer_as="text" if first else "index")]
    assert answers == [0, 1, 2]


def test_questions_for_a_number_cost_their_row_alone(write: Callable[..., Path]) -> None:
    rows = [row(f"q{number}", options=["red", "blue"], answer="blue") for number in range(5)]
    numbers = [row("three", options=["7", "8", "9"], answer=3), row("five", options=["10", "20", "30"], answer=5)]
    samples = read_rows(write(*rows, *numbers), on_error="record")
    assert (len(samples), len(samples.problems)) == (5, 2)


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_tables(folder: Path, suffix: str, delimiter: str) -> None:
    path = folder / f"rows{suffix}"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["id", "image", "question", "options", "answer", "group", "kind"])
        writer.writerow(["q1", "red.png", "Which,\ncolour?", '["red", "blue"]', "1", "", "colour"])
        writer.writerow(["q2", "red.png", "Which?", '["red", "blue"]', "C", "", "colour"])
    with pytest.raises(RowsError, match=rf"rows{suffix}, line 4: sample 'q2', field 'answer'"):
        read_rows(path)
    [sample] = read_rows(path, limit=1)
    assert (sample.question, sample.options, sample.answer, sample.group) == (
        "Which,\ncolour?",
        ("red", "blue"),
        1,
        None,
    )
    assert sample.metadata == {"kind": "colour"}


def test_a_table_with_a_cell_too_many(folder: Path) -> None:
    path = folder / "rows.csv"
    path.write_text("id,image\nq1,red.png,blue\n")
    with pytest.raises(RowsError, match=r"rows.csv, line 2: expected 2 cells, got 1 more"):
        read_rows(path)


def lines(count: int, **changed: str) -> list[str]:
    """Lines of a table, some with another question."""
    questions = [changed.get(f"q{number}", "Which?") for number in range(count)]
    return [f"q{number}\tred.png\t{question}\tred\tblue\tB" for number, question in enumerate(questions)]


@pytest.mark.parametrize(
    ("changed", "bad"),
    [
        ({"q3": '"Stop" sign where?'}, {4: "expected after"}),
        ({"q3": '"Stop sign where?'}, {4: "unexpected end of data"}),
        ({"q3": '"Stop sign where?', "q7": 'a sign with Stop"'}, {4: "one that goes on for 1 lines"}),
        ({"q3": '"Stop', "q5": '"Go" sign'}, {4: "expected after", 6: "expected after"}),
        ({"q2": "Which\tone?"}, {3: "expected 6 cells, got 1 more"}),
        ({"q2": "caf\udce9?"}, {3: "expected text in UTF-8, got bytes that are none"}),
        ({"q0": '"quoted ""once"", and over\ntwo lines"'}, {}),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_bad_line_of_a_table_takes_no_other_with_it(
    folder: Path, changed: dict[str, str], bad: dict[int, str], ending: str
) -> None:
    text = ending.join(["id\timage\tquestion\tA\tB\tanswer", *lines(9, **changed), ""])
    (folder / "rows.tsv").write_bytes(text.encode("utf-8", "surrogateescape"))
    samples = read_rows(folder / "rows.tsv", {"options": ["A", "B"]}, on_error="record")
    assert len(samples) + len(samples.problems) == 9
    assert len(samples.problems) == len(bad)
    for (line, problem), found in zip(bad.items(), samples.problems, strict=True):
        assert found.startswith(f"rows.tsv, line {line + 1}: ")
        assert problem in found
    gone = {f"q{line - 1}" for line in bad}
    assert [sample.id for sample in samples] == [f"q{number}" for number in range(9) if f"q{number}" not in gone]


@pytest.mark.parametrize(
    "question",
    ["One, two,\nthree, four, or\nfive, six: which?", "Which comes first?\nred, blue, green, pink, cyan, gray"],
)
def test_a_cell_of_a_text_may_span_lines_with_commas(folder: Path, question: str) -> None:
    (folder / "rows.csv").write_text(f'id,image,question,answer,A,B\nq1,red.png,"{question}",A,red,blue\n')
    [sample] = read_rows(folder / "rows.csv", {"options": ["A", "B"]})
    assert sample.question == question


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_rows_that_a_quote_would_swallow_are_read(folder: Path, suffix: str) -> None:
    delimiter = "," if suffix == ".csv" else "\t"
    rows = [delimiter.join(line.split("\t")) for line in lines(9, q3='"Stop sign where?', q7='a sign with Stop"')]
    (folder / f"rows{suffix}").write_text(
        "\n".join([delimiter.join(["id", "image", "question", "A", "B", "answer"]), *rows, ""])
    )
    samples = read_rows(folder / f"rows{suffix}", {"options": ["A", "B"]}, on_error="record")
    assert [sample.id for sample in samples] == [f"q{number}" for number in range(9) if number != 3]
    assert len(samples.problems) == 1


def test_a_folder_as_imagefolder_lays_it_out(folder: Path) -> None:
    (folder / "test").mkdir()
    (folder / "red.png").rename(folder / "test" / "red.png")
    line = row()
    line["file_name"] = line.pop("image")
    (folder / "test" / "metadata.jsonl").write_text(json.dumps(line))
    [sample] = read_rows(folder, split="test", check_images=True)
    assert sample.images == (folder / "test" / "red.png",)
    [same] = read_rows(folder / "test")
    assert same == sample


def test_a_hugging_face_dataset_keeps_the_bytes_of_its_images(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [row(f"q{number}", image={"bytes": picture(), "path": None}) for number in range(2)]
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "image": datasets.Image(),
            "question": datasets.Value("string"),
            "options": datasets.List(datasets.Value("string")),
            "answer": datasets.Value("string"),
        }
    )
    (folder / "parts").mkdir()
    for split in ("train", "test"):
        datasets.Dataset.from_list(rows, features=features).to_parquet(folder / "parts" / f"{split}-0.parquet")
    samples = read_rows(folder / "parts", split="test", check_images=True)
    assert [sample.id for sample in samples] == ["q0", "q1"]
    assert samples[0].images == (picture(),)
    assert samples[0].options == ("red", "blue")
    with pytest.raises(ValueError, match=r"expected a split of .*, one of test, train"):
        read_rows(folder / "parts")


@pytest.mark.parametrize("name", ["missing.jsonl", "./missing", "/missing/rows"])
def test_a_path_that_is_not_there(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="expected rows in a file or folder, found none at"):
        read_rows(name)


def test_a_file_of_another_kind(folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"expected a file of rows that ends in .jsonl, .json, .csv, .tsv, .parquet, got 'red.png'"
    ):
        read_rows(folder / "red.png")


def test_a_dataset_that_is_not_there() -> None:
    pytest.importorskip("datasets")
    with pytest.raises(ValueError, match="expected a file, a folder or a Hugging Face dataset, got 'nobody/nothing'"):
        read_rows("nobody/nothing")


def test_rows_in_memory_with_pictures() -> None:
    [sample] = samples_from([row(image=Image.new("RGB", (4, 4)), when=object())], check_images=True)
    assert sample.metadata == {}
    with pytest.raises(
        RowsError, match="row 1: sample 'q1', field 'id': expected ids that differ, got the same at row 0"
    ):
        samples_from([row(image=b"x"), row(image=b"x")])


def test_rows_of_a_data_frame() -> None:
    frame = pd.DataFrame(
        {
            "id": ["q1", "q2"],
            "image": [picture(), picture("blue")],
            "question": "Which?",
            "options": [np.array(["red", "blue"], dtype=object), ["red", "blue", "green"]],
            "answer": ["B", "C"],
            "distractor": [0, np.nan],
            "year": np.array([2020, 2021]),
            "score": [0.5, np.nan],
            "source": [None, "COCO"],
        }
    )
    samples = samples_from(frame)
    assert [sample.options for sample in samples] == [("red", "blue"), ("red", "blue", "green")]
    assert [(sample.answer, sample.distractor) for sample in samples] == [(1, 0), (2, None)]
    assert [sample.metadata for sample in samples] == [
        {"year": 2020, "score": 0.5, "source": None},
        {"year": 2021, "score": None, "source": "COCO"},
    ]
    assert samples[1].images == (picture("blue"),)


def test_rows_of_a_dataset_in_memory_keep_the_bytes_of_images() -> None:
    datasets = pytest.importorskip("datasets")
    rows = [row(f"q{number}", image={"bytes": picture(), "path": None}) for number in range(2)]
    features = datasets.Features({name: datasets.Value("string") for name in ("id", "question", "answer")})
    features |= {"image": datasets.Image(), "options": datasets.List(datasets.Value("string"))}
    dataset = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    for given_rows in (dataset, dataset.to_iterable_dataset()):
        samples = samples_from(given_rows)
        assert [(sample.id, sample.images) for sample in samples] == [("q0", (picture(),)), ("q1", (picture(),))]


def test_what_is_no_row() -> None:
    with pytest.raises(TypeError, match="expected rows that map columns to values, got str as row 0"):
        samples_from(["id", "image"])  # type: ignore[list-item]


def test_a_list_of_rows_in_one_json_file(folder: Path) -> None:
    (folder / "rows.json").write_text(json.dumps([row("q1"), 7, row("q2")]))
    samples = read_rows(folder / "rows.json", on_error="record", check_images=True)
    assert [sample.id for sample in samples] == ["q1", "q2"]
    assert samples.problems == ("rows.json, row 1: expected one JSON object, got int",)
    for text, got in (("{}", ", got dict"), ("[", ": Expecting value")):
        (folder / "rows.json").write_text(text)
        with pytest.raises(ValueError, match=f"expected a JSON list of rows in 'rows.json'{got}"):
            read_rows(folder / "rows.json")


def test_a_parquet_file(folder: Path) -> None:
    pytest.importorskip("datasets")
    pd.DataFrame([row("q1"), row("q2", answer="Z")]).to_parquet(folder / "rows.parquet")
    [sample] = read_rows(folder / "rows.parquet", limit=1)
    assert (sample.options, sample.images) == (("red", "blue"), (folder / "red.png",))
    with pytest.raises(RowsError, match=r"rows.parquet, row 1: sample 'q2', field 'answer'"):
        read_rows(folder / "rows.parquet")


def test_a_parquet_file_without_rows(folder: Path) -> None:
    pd = pytest.importorskip("pandas")
    pd.DataFrame([row("q1")])[:0].to_parquet(folder / "rows.parquet")
    with pytest.raises(RowsError, match="expected at least one row, got none"):
        read_rows(folder / "rows.parquet")
    (folder / "rows.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="expected a file, a folder or a Hugging Face dataset, got 'parquet'"):
        read_rows(folder / "rows.parquet")


def test_a_parquet_file_without_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "rows.parquet").write_bytes(b"PAR1")
    for name in ("datasets", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"install the extra: pip install 'vlmrobust\[data\]'"):
        read_rows(folder / "rows.parquet")


def test_a_limit_of_any_size(folder: Path) -> None:
    (folder / "rows.jsonl").write_text(json.dumps(row("q1")))
    assert len(read_rows(folder / "rows.jsonl", limit=10**30)) == 1


def test_a_cell_longer_than_csv_takes_by_default(folder: Path) -> None:
    before = csv.field_size_limit()
    (folder / "rows.csv").write_text(
        f'id,image,question,options,answer\nq1,red.png,{"x" * (before + 1)},"[""a"", ""b""]",A\n'
    )
    [sample] = read_rows(folder / "rows.csv")
    assert len(sample.question) == before + 1
    assert csv.field_size_limit() == before


def test_rows_that_are_left_out_are_listed_and_are_no_problem() -> None:
    rows = [Row("a, row 0", {}, left_out="an open question"), Row("a, row 1", row("q1", image=b"x"))]
    samples = samples_from(rows)
    assert [sample.id for sample in samples] == ["q1"]
    assert (samples.problems, samples.left_out) == ((), ("a, row 0: an open question",))
    with pytest.raises(RowsError, match="a, row 0: an open question"):
        samples_from(rows[:1])


@pytest.mark.parametrize(("name", "separator"), [("rows.csv", ";"), ("rows.csv", "\t"), ("rows.tsv", ",")])
def test_a_table_with_another_separator_is_refused_at_its_header(folder: Path, name: str, separator: str) -> None:
    cells = [["id", "image", "question", "options", "answer"], ["q1", "red.png", "Which?", '"[""a"", ""b""]"', "A"]]
    (folder / name).write_text("\n".join(map(separator.join, cells)))
    with pytest.raises(RowsError, match=r"^1 problem .*\n.* line 1: expected several columns.* the separator"):
        read_rows(folder / name)


def test_a_column_that_a_header_has_twice_is_refused(folder: Path) -> None:
    for suffix, cells in ((".csv", "id,image,question,question\n"), (".tsv", "id\timage\tid\n")):
        (folder / f"rows{suffix}").write_text(cells + "1,2,3,4\n")
        with pytest.raises(RowsError, match=rf"rows{suffix}, line 1: expected distinct column names, got '"):
            read_rows(folder / f"rows{suffix}")


def test_a_key_that_an_object_has_twice_is_refused_by_line(folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"id": "1", "metadata": {"a": 1, "a": 2}}\n')
    with pytest.raises(RowsError, match=r"rows\.jsonl, line 1: .*expected each key of an object once, got 'a' twice"):
        read_rows(folder / "rows.jsonl")
    (folder / "rows.json").write_text('[{"id": "1", "id": "2"}]')
    with pytest.raises(ValueError, match=r"rows\.json.*got 'id' twice"):
        read_rows(folder / "rows.json")


@pytest.mark.parametrize("text", ["[Photo] A blue cube.", "{sic} It is blue.", "[", "[1, 2]", "{ }, said he"])
def test_a_text_may_begin_with_a_bracket(text: str) -> None:
    [sample] = samples_from([SAMPLE_ROW | {"wrong_caption": text}])
    assert sample.texts == {"wrong_caption": text}
    [sample] = samples_from([SAMPLE_ROW | {"wrong_caption": '{"B": "A blue cube."}'}])
    assert sample.texts == {"wrong_caption": {1: "A blue cube."}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"wrong_caption": '{"B": "A blue'},
            "expected an object, as JSON or as Python writes it, in a cell that begins with '{'",
        ),
        ({"options": "[" * 100_000}, "nested too deeply"),
        ({"metadata": '{"a": ' * 50_000}, "nested too deeply"),
        ({"answer": "9" * 5000}, "field 'answer': "),
        ({"id": ["a"]}, "field 'id': expected text or a number, got list"),
        ({"group": {"a": 1}}, "field 'group': expected text or a number, got dict"),
    ],
)
def test_whatever_is_in_a_cell_is_refused_by_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RowsError, match=re.escape(message)):
        samples_from([SAMPLE_ROW | changes])


@pytest.mark.parametrize("line", ['{"n": ' + "1" * 5000 + "}", "[" * 100_000, '{"a": ' * 50_000])
def test_whatever_is_in_a_line_is_refused_by_line(folder: Path, line: str) -> None:
    (folder / "rows.jsonl").write_text(line)
    with pytest.raises(RowsError, match=r"rows\.jsonl, line 1: expected one JSON object, got "):
        read_rows(folder / "rows.jsonl")


def test_an_image_whose_name_no_file_can_have(folder: Path) -> None:
    with pytest.raises(RowsError, match=r"field 'images.0': expected the path of an image file, got 'AAA.*too long"):
        samples_from([SAMPLE_ROW | {"image": "A" * 3000}])


SAMPLE_ROW = {
    "id": "q1", "image": b"x", "question": "Which?", "options": ["red", "blue"], "answer": 0, "distractor": 1,
}  # fmt: skip


def test_images_in_base64_are_decoded_and_shared_ones_found(folder: Path) -> None:
    cell = base64.b64encode(picture("red")).decode()
    assert samples_from([row("q1", image=cell)])[0].images == (picture("red"),)
    table = [("index", "image", "question", "A", "B", "answer"), (4, cell, "Which?", "red", "blue", "A")]
    table += [(5, 4, "And which?", "red", "blue", "A"), (6, 9, "Which?", "red", "blue", "A")]
    (folder / "rows.tsv").write_text("".join("\t".join(map(str, cells)) + "\n" for cells in table))
    read = read_rows(folder / "rows.tsv", {"id": "index", "options": ["A", "B"]}, on_error="record")
    assert [sample.images for sample in read] == [(picture("red"),)] * 2
    assert read.problems == ("rows.tsv, line 4: expected an image, or the index of a row that has it, got '9'",)


@pytest.mark.parametrize("kind", [".tsv", ".csv", "frame", "rows"])
def test_a_shared_image_may_be_a_later_rows_and_be_shared_on(folder: Path, kind: str) -> None:
    cell, other = (base64.b64encode(picture(colour)).decode() for colour in ("red", "blue"))
    cells = {3: "5", 4: "3", 5: cell, 6: "5", 7: other, 8: "8", 9: "7"}
    asked = {"question": "Which?", "A": "red", "B": "blue", "answer": "A"}
    table: Any = [{"index": index, "image": image, **asked} for index, image in cells.items()]
    frame = pd.DataFrame(table)
    if kind.startswith("."):
        table = folder / f"rows{kind}"
        frame.to_csv(table, index=False, sep="\t" if kind == ".tsv" else ",")
    read = read_rows(
        frame if kind == "frame" else table, {"id": "index", "options": ["A", "B"]}, root=folder, on_error="record"
    )
    assert {sample.id: sample.images for sample in read} == {
        **{index: (picture("red"),) for index in "3456"},
        **{index: (picture("blue"),) for index in "79"},
    }
    assert len(read.problems) == 1
    assert "expected an image, or the index of a row that has it, got '8'" in read.problems[0]


def test_of_a_few_rows_no_more_are_read_than_share_an_image() -> None:
    cell = base64.b64encode(picture("red")).decode()
    taken = []

    def rows() -> Iterator[Row]:
        for index, image in enumerate([cell, "a.png", "4", "b.png", cell, "0", "c.png"]):
            taken.append(index)
            yield Row(f"row {index}", {"index": index, "image": image})

    shared = (row.values["image"] for row in fill_shared_images(rows()))  # noqa: PD011 - not of pandas
    assert [next(shared), next(shared)] == [cell, "a.png"]
    assert taken == [0, 1]
    assert next(shared) == cell
    assert taken == [0, 1, 2, 3, 4]
    assert list(shared) == ["b.png", cell, cell, "c.png"]


@pytest.mark.parametrize("marks", ["<image 2> <image 1>", "<image2> <image1>", "<Image_2> <IMAGE-1>"])
def test_numbered_marks_are_written_in_several_ways(marks: str) -> None:
    cells = row("q1", images=[b"first", b"second"], question=f"Compare {marks}.", image=None)
    [sample] = samples_from([cells])
    assert (sample.question, sample.images) == ("Compare <image> <image>.", (b"second", b"first"))


def test_images_may_lie_in_several_columns_and_marks_say_where_they_stand(folder: Path) -> None:
    cells = {"first": "red.png", "second": "blue.png", "third": None}
    asked = {"id": "q", "question": "Is <image 2> darker than <image_1>?", "options": ["yes", "no"], "answer": "A"}
    columns = {"images": ["first", "second", "third"]}
    [sample] = samples_from([{**asked, **cells}], columns, root=folder)
    assert sample.question == "Is <image> darker than <image>?"
    assert sample.images == (folder / "blue.png", folder / "red.png")
    twice = {**asked, **cells, "question": "Is <image 1> darker than <image 2>, or <image 1> redder?"}
    [sample] = samples_from([twice], columns, root=folder)
    assert sample.question == twice["question"], "an image is shown once: such marks stay, and the images come first"
    with pytest.raises(RowsError, match="field 'question': expected marks of images up to <image 2>, got <image 3>"):
        samples_from([{**asked, **cells, "question": "Is <image 3> dark?"}], columns, root=folder)


def test_a_spreadsheets_booleans_are_words() -> None:
    [sample] = samples_from([row("q1", image=b"x", options=[True, False], answer=False)])
    assert (sample.options, sample.answer) == (("True", "False"), 1)
    for options, answer in ((["TRUE", "FALSE"], True), (["True", "False"], "TRUE"), (["TRUE", "FALSE"], "True")):
        [sample] = samples_from([row("q1", image=b"x", options=options, answer=answer)])
        assert sample.answer == 0
    [sample] = samples_from([row("q1", image=b"x", options=["TRUE", "True"], answer="True")])
    assert sample.answer == 1, "what is written alike comes first"
    with pytest.raises(RowsError, match=r"field 'answer': .*got True with the options \['yes', 'no'\]"):
        samples_from([row("q1", image=b"x", options=["yes", "no"], answer=True)])


def test_the_splits_of_a_dataset_are_no_rows() -> None:
    with pytest.raises(TypeError, match="got a dict of train, test; of a dataset's splits, give one"):
        samples_from({"train": [], "test": []})  # type: ignore[arg-type]
