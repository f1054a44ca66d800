"""Test reading of prediction files written by ms-vlmeval 0.0.20 (`write_logs.py`), and of tables in its format."""

import csv
import json
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pandas as pd
import pytest
from openpyxl import load_workbook
from openpyxl.worksheet.formula import ArrayFormula

from vlmrobust.demo import samples as demo_samples
from vlmrobust.harnesses import read_vlmevalkit
from vlmrobust.metrics import Accuracy, Consistency
from vlmrobust.types import open_image

LOGS = Path(__file__).parent / "logs" / "vlmevalkit"
PREDICTIONS, JUDGED = LOGS / "Canned_Shapes.xlsx", LOGS / "Canned_Shapes_exact_matching_result.xlsx"

ROW = {"index": 7, "question": "Which colour?", "A": "red", "B": "blue", "answer": "B", "prediction": "B"}


def write_log(folder: Path, *rows: dict[str, Any], name: str = "Model_Colours.tsv") -> Path:
    path = folder / name
    frame = pd.DataFrame(rows)
    if path.suffix == ".xlsx":
        frame.to_excel(path, index=False)
    elif path.suffix == ".json":
        path.write_text(json.dumps(frame.to_dict("records"), indent=4))
    else:
        frame.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False, quoting=csv.QUOTE_ALL)
    return path


def test_a_prediction_file_is_read() -> None:
    read = read_vlmevalkit(PREDICTIONS)
    assert read.problems == ()
    assert [response.answer for response in read.responses] == [0, 1, 3, None]
    for prompt, sample in zip(read.prompts, demo_samples(4, seed=0), strict=True):
        own = prompt.sample
        assert (own.question, own.options, own.answer) == (sample.question, sample.options, sample.answer)
        assert own.metadata == {"category": sample.metadata["kind"]}
    report = read.report([Accuracy(), Consistency()])
    assert report.frame["consistency"].tolist()[:3] == [1, 0, 1]
    assert report.by("category")["category"].nunique() == 4


def test_the_harness_own_verdict_is_compared(tmp_path: Path) -> None:
    read = read_vlmevalkit(JUDGED)
    hits = pd.read_excel(JUDGED)["hit"].tolist()
    assert [prompt.sample.metadata["harness_correct"] for prompt in read.prompts] == [bool(hit) for hit in hits]
    # Its exact matching finds no letter in <answer>A</answer>.
    assert [(one.sample_id, one.harness, one.ours) for one in read.disagreements()] == [
        ("0", False, True),
        ("1", False, True),
    ]
    [found] = read_vlmevalkit(write_log(tmp_path, {**ROW, "hit": 0, "log": "A"})).disagreements()
    assert (found.harness, found.ours) == (False, True)


@pytest.mark.parametrize("name", ["Model_Colours_result.tsv", "Model_Colours_result.csv", "Model_Colours_result.xlsx"])
def test_verdicts_of_a_table_that_was_judged_in_part(tmp_path: Path, name: str) -> None:
    # pandas writes 1.0 beside an empty cell.
    rows = [{**ROW, "index": index, "hit": hit} for index, hit in enumerate((1, 0, None))]
    read = read_vlmevalkit(write_log(tmp_path, *rows, name=name))
    assert read.problems == ()
    assert [prompt.sample.metadata for prompt in read.prompts] == [
        {"harness_correct": True},
        {"harness_correct": False},
        {},
    ]


def test_images_come_from_the_datasets_table(tmp_path: Path) -> None:
    read = read_vlmevalkit(PREDICTIONS, images=LOGS / "Shapes.tsv")
    assert all(open_image(prompt.sample.images[0]).size == (32, 32) for prompt in read.prompts)
    with pytest.raises(FileNotFoundError, match="row 2, sample '0'"):
        open_image(read_vlmevalkit(PREDICTIONS).prompts[0].sample.images[0])


def test_images_may_be_shared_and_several(tmp_path: Path) -> None:
    cell = pd.read_csv(LOGS / "Shapes.tsv", sep="\t")["image"][0]
    table = [{"index": 7, "image": cell}, {"index": 8, "image": "7"}, {"index": 9, "image": str([cell, cell])}]
    images = write_log(tmp_path, *table, name="Colours.tsv")
    read = read_vlmevalkit(write_log(tmp_path, *({**ROW, "index": index} for index in (7, 8, 9))), images=images)
    assert [len(prompt.sample.images) for prompt in read.prompts] == [1, 1, 2]
    assert len({image for prompt in read.prompts for image in prompt.sample.images}) == 1


def test_an_image_that_is_none_leaves_its_row_out(tmp_path: Path) -> None:
    images = write_log(tmp_path, {"index": 8, "image": "%%"}, name="Colours.tsv")
    read = read_vlmevalkit(write_log(tmp_path, ROW, {**ROW, "index": 8}), images=images)
    assert len(read) == 1
    assert read.problems[0].startswith("Model_Colours.tsv, line 3: expected an image in base64, got '%%'")


@pytest.mark.parametrize("name", ["m_d.xlsx", "m_d.tsv", "m_d.csv", "m_d.json"])
def test_cells_are_read_as_they_were_written(tmp_path: Path, name: str) -> None:
    rows = [
        {**ROW, "A": 3, "B": "None", "C": "NA", "answer": "C", "hint": "Look."},
        {**ROW, "index": 8, "A": 4.5, "B": "5", "C": None, "hint": None},
    ]
    read = read_vlmevalkit(write_log(tmp_path, *rows, name=name))
    assert [prompt.sample.id for prompt in read.prompts] == ["7", "8"]
    assert [prompt.options[1:] for prompt in read.prompts] == [("None", "NA"), ("5",)]
    assert [float(prompt.options[0]) for prompt in read.prompts] == [3, 4.5]
    assert [prompt.sample.metadata for prompt in read.prompts] == [{"hint": "Look."}, {}]


@pytest.mark.parametrize("name", ["m_d.xlsx", "m_d.tsv", "m_d.csv", "m_d.json"])
def test_text_that_looks_like_a_formula_is_text(tmp_path: Path, name: str) -> None:
    row = {**ROW, "question": "=2+3 is?", "A": "=4", "B": "=5", "prediction": "=> The answer is B"}
    [prompt], [response] = (read := read_vlmevalkit(write_log(tmp_path, row, name=name))).prompts, read.responses
    assert (prompt.question, prompt.options) == ("=2+3 is?", ("=4", "=5"))
    assert (response.text, response.answer) == ("=> The answer is B", 1)


def test_a_formula_in_another_column_counts_as_its_saved_value(tmp_path: Path) -> None:
    path = write_log(tmp_path, {**ROW, "hit": 1}, {**ROW, "index": 8, "hit": 0}, name="m_d_result.xlsx")
    with ZipFile(path) as workbook:
        parts = {name: workbook.read(name) for name in workbook.namelist()}
    for cell, value in (("G2", 1), ("G3", 0)):  # as Excel saves it; openpyxl saves no values
        plain = f'<c r="{cell}" t="n"><v>{value}</v></c>'
        computed = f'<c r="{cell}"><f>IF(E2=F2,1,0)</f><v>{value}</v></c>'
        sheet = parts["xl/worksheets/sheet1.xml"].decode()
        assert plain in sheet
        parts["xl/worksheets/sheet1.xml"] = sheet.replace(plain, computed).encode()
    with ZipFile(path, "w") as workbook:
        for name, content in parts.items():
            workbook.writestr(name, content)
    read = read_vlmevalkit(path)
    assert [prompt.sample.metadata for prompt in read.prompts] == [{"harness_correct": hit} for hit in (True, False)]


def test_errors_and_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    path = write_log(tmp_path, {**ROW, "hint": "#N/A", "": 3}, name="m_d.xlsx")
    [prompt] = read_vlmevalkit(path).prompts
    assert prompt.sample.metadata == {}


def test_an_array_formula_is_text(tmp_path: Path) -> None:
    path = write_log(tmp_path, ROW, name="m_d.xlsx")
    workbook = load_workbook(path)
    [sheet] = workbook.worksheets
    sheet["F2"] = ArrayFormula("F2", "=B")  # as XlsxWriter stores "{=B}"
    workbook.save(path)
    assert [response.text for response in read_vlmevalkit(path).responses] == ["{=B}"]


@pytest.mark.filterwarnings("ignore:Cell contents too long:UserWarning")
def test_a_text_that_its_workbook_cut_is_truncated(tmp_path: Path) -> None:
    long = {**ROW, "prediction": "I look again. " * 3000 + "The answer is B."}
    whole = {**ROW, "prediction": "I look again."}
    for row, name, status in (
        (long, "m_d.xlsx", "truncated"),
        (whole, "m_d.xlsx", "unparsed"),
        (long, "m_d.tsv", "answered"),
        ({**ROW, "prediction": "I look again.".ljust(32_767, "!")}, "m_d.tsv", "unparsed"),
    ):
        [response] = read_vlmevalkit(write_log(tmp_path, row, name=name)).responses
        assert response.status == status


def test_a_workbook_with_empty_rows_and_cells(tmp_path: Path) -> None:
    empty, silent = dict.fromkeys(ROW), {**ROW, "prediction": None}
    read = read_vlmevalkit(write_log(tmp_path, silent, empty, {**silent, "index": 8}, empty, name="m_d.xlsx"))
    assert [(response.text, response.status) for response in read.responses] == [("", "unparsed")] * 2
    assert read.problems == ()
    nothing = tmp_path / "nothing.xlsx"
    pd.DataFrame().to_excel(nothing, index=False)
    with pytest.raises(ValueError, match=r"nothing.xlsx: expected answered multiple-choice questions, got none"):
        read_vlmevalkit(nothing)


@pytest.mark.parametrize("name", ["m_d.xlsx", "m_d.tsv", "m_d.csv", "m_d.json"])
@pytest.mark.parametrize("hits", [(1, 0), (1.0, 0.0), (True, False)])
def test_hits_are_read_as_pandas_writes_them(tmp_path: Path, name: str, hits: tuple[Any, Any]) -> None:
    rows = [{**ROW, "index": index, "hit": hit} for index, hit in enumerate((*hits, None))]  # a gap makes 1 to 1.0
    read = read_vlmevalkit(write_log(tmp_path, *rows, name=name))
    assert read.problems == ()
    assert [prompt.sample.metadata.get("harness_correct") for prompt in read.prompts] == [True, False, None]


def test_the_thought_that_was_split_off_is_put_back(tmp_path: Path) -> None:
    rows = [{**ROW, "thinking": "It is blue."}, {**ROW, "index": 8}]
    read = read_vlmevalkit(write_log(tmp_path, *rows))
    assert [response.think for response in read.responses] == ["It is blue.", ""]
    assert [response.answer for response in read.responses] == [1, 1]


@pytest.mark.parametrize("text", ["Failed to obtain answer via API. ", "Failed to obtain answer: <class 'OSError'> x"])
def test_failed_calls_are_errors(tmp_path: Path, text: str) -> None:
    read = read_vlmevalkit(write_log(tmp_path, ROW, {**ROW, "index": 8, "prediction": text}))
    assert [response.status for response in read.responses] == ["answered", "error"]
    assert read.responses[1].error == text.strip()
    assert read.report([Accuracy()]).frame["accuracy"].isna().tolist() == [False, True]


def test_circular_copies_are_rotations_of_their_question(tmp_path: Path) -> None:
    rotated = {**ROW, "index": 1_000_007, "A": "blue", "B": "red", "answer": "A"}
    log = write_log(tmp_path, rotated, ROW, {**ROW, "index": 8}, {**rotated, "index": 1_000_008, "prediction": "A"})
    read = read_vlmevalkit(log)
    assert [(p.sample.id, p.condition, p.order) for p in read.prompts[::2]] == [
        ("7", "base", (0, 1)),
        ("7", "rotated_options_1", (1, 0)),
    ]
    assert [response.answer for response in read.responses] == [1, 1, 0, 1]
    [row] = read.report([Accuracy()]).circular(greedy=True).itertuples()
    assert (row.value, row.base_value, row.n) == (0.5, 1, 2)
    assert read_vlmevalkit(log, condition="noise").prompts[2].condition == "noise+rotated_options_1"


@pytest.mark.parametrize("turned", [False, True])
def test_circular_copies_of_options_with_letters(tmp_path: Path, turned: bool) -> None:
    row = {**ROW, "A": "A. red", "B": "B. blue"}
    copy = {**row, "A": row["B"], "B": row["A"], "answer": "A"}
    first, second = (copy, row) if turned else (row, copy)
    read = read_vlmevalkit(write_log(tmp_path, first, {**second, "index": 1_000_007}))
    assert read.problems == ()
    assert [prompt.order for prompt in read.prompts] == [(0, 1), (1, 0)]
    options = read.prompts[0].sample.options
    assert options == (("B. blue", "A. red") if turned else ("red", "blue"))
    assert read.prompts[1].options == options[::-1]


@pytest.mark.parametrize("name", ["M_Colours.tsv", "M_Colours.csv", "M_Colours.json", "M_Colours.xlsx"])
def test_an_empty_prediction_is_no_answer_and_counts(tmp_path: Path, name: str) -> None:
    silent, thinking = {**ROW, "index": 8, "prediction": ""}, {**ROW, "index": 9, "prediction": None}
    rows = [{**row, "thinking": thought} for row, thought in ((ROW, "Blue."), (silent, ""), (thinking, "Well, the"))]
    read = read_vlmevalkit(write_log(tmp_path, *rows, name=name))
    assert read.problems == ()
    assert [response.answer for response in read.responses] == [1, None, None]
    assert [response.think for response in read.responses] == ["Blue.", "", "Well, the"]
    assert read.report([Accuracy()]).frame["accuracy"].tolist() == [1, 0, 0]


def test_a_table_without_predictions_is_refused(tmp_path: Path) -> None:
    row = {name: value for name, value in ROW.items() if name != "prediction"}
    with pytest.raises(ValueError, match="field 'prediction': expected a value, got a row with 'index'"):
        read_vlmevalkit(write_log(tmp_path, row))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"index": 1_000_009}, "field 'index': expected the question 9 that 1000009 rotates, found none"),
        ({"index": 1_000_007, "A": "pink"}, "field 'options': expected those of 7 in another order, got ['pink'"),
        ({"answer": "E"}, "sample '8', field 'answer': expected an index"),
        ({"answer": None}, "field 'answer': expected a value, got a row with 'index'"),
        ({"A": None}, "expected options under the letters A, B, … without a gap, got ['B']"),
        ({"B": None}, "field 'answer': expected an index from 0 to 0"),
    ],
)
def test_rows_that_cannot_be_read_are_listed(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    read = read_vlmevalkit(write_log(tmp_path, ROW, {**ROW, "index": 8, **change}))
    assert len(read) == 1
    assert read.problems[0].startswith("Model_Colours.tsv, line 3: ")
    assert problem in read.problems[0]


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a prediction file of VLMEvalKit at"):
        read_vlmevalkit(tmp_path / "none.xlsx")
    (tmp_path / "m_d.pkl").touch()
    with pytest.raises(ValueError, match=r"expected a prediction file in .xlsx, .tsv, .csv or .json, got 'm_d.pkl'"):
        read_vlmevalkit(tmp_path / "m_d.pkl")


def test_what_is_needed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ImportError, match=r"needs openpyxl: pip install vlmrobust\[harnesses\]"):
        read_vlmevalkit(PREDICTIONS)


@pytest.mark.parametrize("suffix", ["tsv", "csv"])
def test_rows_that_do_not_add_up_are_counted(tmp_path: Path, suffix: str) -> None:
    cut = "\t" if suffix == "tsv" else ","
    whole = ["7", "Which?", "red", "blue", "B", "B"]
    rows = [
        ["index", "question", "A", "B", "answer", "prediction"],
        ["1", "Which?", "red", "blue", "B", "B", "more"],
        ["2", '"Which?', "red", "blue", "B", "B"],
        whole,
        ["3", "Which?", "red"],
        ["8", *whole[1:]],
    ]
    log = tmp_path / f"Model_Colours.{suffix}"
    log.write_text("".join(cut.join(row) + "\n" for row in rows))
    read = read_vlmevalkit(log)
    assert [prompt.sample.id for prompt in read.prompts] == ["7", "8"]
    assert [problem.partition(": ")[0] for problem in read.problems] == [f"{log.name}, line {n}" for n in (2, 3, 5)]
    assert "expected 6 cells, got 1 more" in read.problems[0]


@pytest.mark.parametrize("answer", ["A", "B"])
def test_the_answer_is_the_letter_of_a_column_whatever_the_options_say(tmp_path: Path, answer: str) -> None:
    read = read_vlmevalkit(write_log(tmp_path, {**ROW, "A": "B", "B": "A", "answer": answer}))
    assert [prompt.sample.answer for prompt in read.prompts] == ["AB".index(answer)]


def test_an_answer_that_is_an_option_text(tmp_path: Path) -> None:
    [prompt] = read_vlmevalkit(write_log(tmp_path, {**ROW, "answer": "blue"})).prompts
    assert prompt.sample.answer == 1


def test_an_open_question_is_a_problem_of_its_options(tmp_path: Path) -> None:
    opened = {**ROW, "index": 8, "A": None, "B": None, "answer": "3.5"}
    read = read_vlmevalkit(write_log(tmp_path, ROW, opened))
    assert len(read) == 1
    assert read.problems == (
        "Model_Colours.tsv, line 3: sample '8', field 'options': expected a list of options, got none",
    )
