"""Rows that are in memory, wherever rows are taken; and messages that do not repeat a picture."""

import base64
import random
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
from PIL import Image

from vlmrobust.data import RowsError, read_rows, samples_from

ROW = {"id": "q", "image": "red.png", "question": "Which?", "options": ["red", "blue"], "answer": "B"}
PICTURE = base64.b64encode(random.Random(3).randbytes(34_000)).decode()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    Image.new("RGB", (9, 9), "red").save(tmp_path / "red.png")
    return tmp_path


@pytest.mark.parametrize("kind", [list, pd.DataFrame, datasets.Dataset.from_list])
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
