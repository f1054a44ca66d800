"""Absolute paths lose their folders; everything else stays as it is."""

import pytest

from vlmrobust.text import without_local_paths


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ann/out/checkpoint-500", "checkpoint-500"),
        ("/home/ann/out/checkpoint-500/", "checkpoint-500"),
        ("~/weights", "weights"),
        ("C:\\Users\\ann\\weights", "weights"),
        ("\\\\host\\share\\ann\\weights", "weights"),
        ("file:///home/ann/cube.png", "cube.png"),
        ("hf:/home/ann/judge", "hf:…/judge"),
        ("[Errno 2] No such file: '/home/ann/My Data/x.png'", "[Errno 2] No such file: '…/x.png'"),
        ("at /home/ann/code.py:12, and (/opt/ann/b)", "at …/code.py:12, and (…/b)"),
        ("/home/ann/x; and nothing else", "…/x; and nothing else"),
    ],
)
def test_a_path_is_cut_to_its_name(text, expected):
    assert without_local_paths(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Qwen/Qwen2.5-VL-3B-Instruct",
        "runs/qwen/report.jsonl",
        "http://localhost:8000/v1/models",
        "see https://arxiv.org/abs/2602.12506 for more",
        "<think>a</think>/b/c",
        "60 km/h/s, and / or, 1/2",
        "/",
        "/answer",
        "",
    ],
)
def test_other_text_is_kept(text):
    assert without_local_paths(text) == text


def test_nested_values_and_keys_are_gone_through():
    value = {"/home/ann/a": ["/home/ann/b", ("/home/ann/c", 3, None)], "n": 1.5}
    assert without_local_paths(value) == {"a": ["b", ("c", 3, None)], "n": 1.5}
