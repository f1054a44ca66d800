"""Test report files: Parquet, JSON Lines, and those of older versions."""

import gc
import json
import math
import os
import tracemalloc
from dataclasses import fields

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from pandas.testing import assert_frame_equal
from torch import Tensor

from vlmrobust import Prompt, Response, Responses, Sample, Style
from vlmrobust.metrics import Accuracy, CorrectProbability, FlipRate, Metric
from vlmrobust.report import Report, files, serialisation
from vlmrobust.types import responses as arrays

METRICS = [Accuracy(), FlipRate(), CorrectProbability()]


class Unsure(Metric):
    """Fails on every second response, with a reason."""

    def per_sample(self, responses):
        return torch.tensor([math.nan if row % 2 else row / 7 for row in range(len(responses))], dtype=torch.float64)

    def failures(self, responses):
        return {row: f"nobody knows {row} 🤷" for row in range(1, len(responses), 2)}


@pytest.fixture
def pairs():
    """Three samples of different widths under two conditions, with all fields of a response."""
    found = []
    for number, options in enumerate((["ja", "nein"], ["un", "deux", "trois"], ["一", "二", "三", "四"])):
        sample = Sample(
            id=f"q/{number}\x00",
            images=["a.png"],
            question=f"哪个 {number}? \n«which» 🙂",
            options=options,
            answer=number % 2,
            metadata={"no number": math.inf, "nested": [1, [None, "x"]], "é": number} if number else {},
            group="together" if number else None,
        )
        for condition in ("base", "wrong_think"):
            prompt = Prompt.of(sample, style=Style(letters="VWXYZ" if number else "ABCDEFG"), draw=number)
            order = (1, 0, *range(2, len(options)), None)
            shown = [*(options[index] for index in order[:-1]), "I'm not sure"]
            earlier = (
                [{"role": "assistant", "text": "«B» 🙂"}, {"role": "user", "text": "Sûr?\n"}] if number == 2 else ()
            )
            prompt = prompt.replace(condition=condition, order=order, options=shown, history=earlier)
            fields = {
                "sample_id": sample.id,
                "condition": condition,
                "draw": number,
                "think": "injected, and own" if condition != "base" else "own",
                "own_think": "own",
                "text": f"<think>own</think>\t{number}",
                "answer": 1 if number else None,
                "status": "answered" if number else "error",
                "error": None if number else "no server",
                "option_logprobs": (-0.1, *(-math.inf for _ in options[1:])) if number else None,
                "added_logprobs": (-2.5000001,) if number == 2 else (),
                "option_tokens": tuple(range(len(options))) if number == 1 else None,
                "readout": "own_thought" if number == 2 else "option_text" if number else None,
                "token_entropy": 0.1 if number else None,
                "n_tokens": 7 if number == 1 else None,
                "well_formed": bool(number) if number != 1 else None,
            }
            found.append((prompt, Response(**fields)))
    return found


@pytest.fixture
def report(pairs):
    prompts, responses = zip(*pairs, strict=True)
    return Report.from_responses(prompts, responses, [*METRICS, Unsure()], seed=3, manifest={"note": "\ud83d", "n": 1})


def assert_same(one: Responses, other: Responses, **but) -> None:
    for name in (field.name for field in fields(Responses) if field.init):
        here, there = (getattr(side, name) for side in (one, other))
        if isinstance(here, Tensor):
            assert here.dtype == there.dtype
            torch.testing.assert_close(here, there, rtol=0, atol=0, equal_nan=True)
        else:
            assert there == but.get(name, here), name
            assert {type(value) for value in there} == {type(value) for value in but.get(name, here)}


@pytest.mark.parametrize("name", ["one.parquet", "one.jsonl", "one", "folder"])
@pytest.mark.parametrize("rows", [1, 4, 20_000])
def test_saving_and_loading_preserves_a_report(report, tmp_path, monkeypatch, name, rows):
    monkeypatch.setattr(serialisation, "_CHUNK", rows)
    monkeypatch.setattr(serialisation, "_LINES_CHUNK", rows)
    (tmp_path / "folder").mkdir()
    file = report.save(tmp_path / name)
    assert file == (tmp_path / name / "report.parquet" if name == "folder" else tmp_path / name)
    loaded = Report.load(tmp_path / name)
    as_json = tuple({**one, "no number": "Infinity"} if one else {} for one in report.responses.metadata)
    assert_same(report.responses, loaded.responses, metadata=as_json)
    # Values that JSON cannot represent are text on disk, and in the frame's column.
    assert set(loaded.frame["metadata.no number"].dropna()) == {"Infinity"}
    expected = report.frame.drop(columns="metadata.no number")
    assert_frame_equal(loaded.frame.drop(columns="metadata.no number"), expected, check_exact=True)
    assert_frame_equal(loaded.summary, report.summary, check_exact=True)
    assert loaded.frame["metric_error"].tolist()[1::2] == [f"nobody knows {row} 🤷" for row in (1, 3, 5)]
    assert (loaded.manifest, loaded.seed) == (report.manifest, 3)
    assert not list(tmp_path.glob(".*"))


def test_an_empty_report_can_be_saved_and_loaded(tmp_path):
    empty = Report.from_responses([], [], METRICS)
    loaded = Report.load(empty.save(tmp_path))
    assert_same(empty.responses, loaded.responses)
    assert loaded.metrics == empty.metrics


def test_other_tools_read_the_parquet_file(report, tmp_path):
    table = pd.read_parquet(report.save(tmp_path))
    assert table["sample_id"].tolist() == list(report.responses.sample_id)
    assert table["text"].tolist() == list(report.responses.text)
    assert table["draw"].tolist() == report.responses.draw.tolist()
    assert json.loads(table["options"].iloc[-1]) == list(report.responses.options[-1])
    assert table["scores.accuracy"].tolist()[2:] == report.frame["accuracy"].tolist()[2:]
    assert table["own_think"].isna().tolist() == [True, False] * 3
    assert table["option_logprobs"].iloc[2].tolist() == report.responses.option_logprobs[2].tolist()


def test_equal_texts_share_an_object(report, tmp_path):
    for responses in (report.responses, Report.load(report.save(tmp_path)).responses):
        for name in ("sample_id", "question", "options", "order", "letters", "metadata", "group"):
            first, second = getattr(responses, name)[2:4]
            assert first is second, name
        assert responses.own_think.longer[2] is responses.text.longer[2] is responses.think[2]


def test_unencodable_text_does_not_prevent_saving(report, tmp_path):
    texts = ("\ud83d!", *report.responses.text[1:])
    object.__setattr__(report.responses, "text", texts)
    assert Report.load(report.save(tmp_path)).responses.text == ("�!", *texts[1:])


# As version 0.1 has written it, with the fields and the metric's facts that it knew.
OLD_HEAD = {
    "format": "vlmrobust report 1",
    "responses": 2,
    "seed": 5,
    "manifest": {"model": {"name": "old"}},
    "metrics": [
        {"name": "accuracy", "higher_is_better": True, "is_paired": False, "reads_letters": False, "is_mean": True}
    ],
    "summary": [
        {
            **dict.fromkeys(("condition", "metric", "carrier", "note"), "base"),
            **dict.fromkeys(("base_value", "difference", "low", "high", "value_low", "value_high", "p"), "NaN"),
            **{"metric": "accuracy", "value": 0.5, "n": 2, "errors": 0, "p_adjusted": "NaN", "note": ""},
            **{"coverage": 1.0, "base_coverage": 1.0, "not_applicable": 0},
        }
    ],
}
OLD_ROW = {
    "condition": "base",
    "draw": 0,
    "option_logprobs": [-0.5, "-Infinity"],
    "added_logprobs": [],
    "option_count": 2,
    "target": 1,
    "distractor": -1,
    "asserted": -1,
    "token_entropy": "NaN",
    "n_tokens": -1,
    "well_formed": 1.0,
    "question": "Which way?",
    "options": ["left", "right"],
    "order": [0, 1],
    "think": "It points left.",
    "own_think": "It points left.",
    "text": "<think>It points left.</think><answer>A</answer>",
    "prefill": "",
    "status": "answered",
    "readout": "own_thought",
    "carrier": "assistant_prefill",
    "error": None,
    "metadata": {"kind": "arrow"},
}


@pytest.fixture
def old(tmp_path):
    """A folder with a report in JSON Lines, as older versions wrote it."""
    rows = [
        OLD_ROW | {"sample_id": name, "group": name, "choice": choice, "scores": {"accuracy": float(choice)}}
        for name, choice in (("a", 0), ("b", 1))
    ]
    (tmp_path / "report.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (OLD_HEAD, *rows)))
    return tmp_path


def test_an_old_folder_is_loaded(old):
    report = Report.load(old)
    assert report.frame[["sample_id", "accuracy", "answer"]].to_numpy().tolist() == [["a", 0.0, 0], ["b", 1.0, 1]]
    assert report.summary[["value", "n"]].to_numpy().tolist() == [[0.5, 2]]
    assert report.responses.option_logprobs.tolist() == [[-0.5, -math.inf]] * 2
    assert (report.responses.context, report.responses.history) == (("", ""), ((), ()))
    assert report.score([Accuracy()]).frame["accuracy"].tolist() == [0.0, 1.0]
    keys, metrics = files.read_keys_and_settings(old / "report.jsonl")
    assert (keys, set(metrics)) == ({("a", "base", 0), ("b", "base", 0)}, {"accuracy"})


def test_parquet_replaces_json_lines(old):
    before = Report.load(old)
    assert before.save(old) == old / "report.parquet"
    assert [file.name for file in old.iterdir()] == ["report.parquet"]
    after = Report.load(old)
    assert_same(before.responses, after.responses)
    assert_frame_equal(before.summary, after.summary)
    assert files.read_keys_and_settings(old / "report.parquet") == files.read_keys_and_settings(
        before.save(old / "lines.jsonl")
    )


@pytest.mark.parametrize("newer", ["report.jsonl", "report.parquet"])
def test_the_newer_of_two_files_is_read(old, newer):
    report = Report.load(old)
    report.score([Accuracy(name="again")]).save(old / "new.parquet").rename(old / "report.parquet")
    for age, name in enumerate(sorted(["report.jsonl", "report.parquet"], key=newer.__ne__)):
        os.utime(old / name, (10**9 - age, 10**9 - age))
    assert Report.load(old).metrics == (("again",) if newer == "report.parquet" else ("accuracy",))


def test_incomplete_files_are_refused_by_name(report, tmp_path):
    file = report.save(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"report\.parquet: expected the columns of a report, got a file that cannot"):
        Report.load(tmp_path)
    file.write_bytes(content[:100] + bytes(len(content) - 600) + content[-500:])
    with pytest.raises(ValueError, match=r"report\.parquet: expected the columns of a report, got a file that cannot"):
        Report.load(tmp_path)
    file.write_bytes(content)
    table = pq.read_table(file)
    pq.write_table(table.drop_columns(["choice", "scores.accuracy"]), file)
    with pytest.raises(ValueError, match=r"got none of choice, scores\.accuracy"):
        Report.load(tmp_path)
    pq.write_table(table.slice(1), file)
    with pytest.raises(ValueError, match="expected 6 responses, got 5"):
        Report.load(tmp_path)
    pd.DataFrame({"sample_id": ["q"]}).to_parquet(file)
    with pytest.raises(ValueError, match="expected a file of format 'vlmrobust report 2', got None"):
        Report.load(tmp_path)
    assert files.read_keys_and_settings(file) == (set(), {})


def test_a_failed_save_keeps_the_existing_file(report, tmp_path, monkeypatch):
    content = report.save(tmp_path).read_bytes()

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(serialisation, "_texts", full)
    with pytest.raises(OSError, match="no space left"):
        report.save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["report.parquet"]
    assert (tmp_path / "report.parquet").read_bytes() == content


def test_reading_lines_needs_little_memory(make_pair, tmp_path):
    prompts, responses = zip(*(make_pair(f"q{row}", text="x" * 20_000) for row in range(300)), strict=True)
    report = Report.from_responses(prompts, responses, [Accuracy()])
    assert len(report.summary) == 1
    tracemalloc.start()
    try:
        file = report.save(tmp_path / "lines.jsonl")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < file.stat().st_size / 4


def test_iterated_responses_are_not_kept_as_objects(make_pair, monkeypatch):
    monkeypatch.setattr(arrays, "_CHUNK", 8)
    alive = []

    def pairs_one_by_one():
        for row in range(100):
            if row % 10 == 0:
                gc.collect()
                alive.append(sum(type(one) is Response for one in gc.get_objects()))
            yield make_pair(f"q{row}", choice=row % 3)

    listed = list(zip(*pairs_one_by_one(), strict=True))
    whole = Report.from_responses(*listed, [Accuracy(), FlipRate()])
    del listed
    alive.clear()
    pairs = pairs_one_by_one()
    waiting = []

    def prompts():
        for prompt, response in pairs:
            waiting.append(response)
            yield prompt

    streamed = Report.from_responses(prompts(), (waiting.pop() for _ in range(100)), [Accuracy(), FlipRate()])
    assert max(alive) - alive[0] <= 20
    assert_same(whole.responses, streamed.responses)
    assert_frame_equal(whole.frame, streamed.frame)


@pytest.mark.parametrize("as_iterators", [False, True])
def test_iterators_are_checked_like_lists(make_pair, as_iterators):
    container = iter if as_iterators else list
    prompts, responses = zip(*(make_pair(f"q{row}") for row in range(4)), strict=True)
    with pytest.raises(ValueError, match=r"expected one response per prompt \(4\), got 3"):
        Report.from_responses(container(prompts), container(responses[:3]))
    with pytest.raises(ValueError, match=r"expected one response per prompt \(2\), got 4"):
        Report.from_responses(container(prompts[:2]), container(responses))
    with pytest.raises(ValueError, match=r"got \('q1', 'base', 0\) at positions 1 and 3"):
        Report.from_responses(container([*prompts[:3], prompts[1]]), container([*responses[:3], responses[1]]))
    with pytest.raises(ValueError, match=r"expected the response to \('q2', 'base', 0\) at position 2, got \('q3'"):
        Report.from_responses(container(prompts), container([*responses[:2], responses[3], responses[2]]))


def test_error_positions_count_all_responses(make_pair, monkeypatch):
    monkeypatch.setattr(arrays, "_CHUNK", 3)
    prompts, responses = zip(*(make_pair(f"q{row}") for row in range(9)), strict=True)
    with pytest.raises(ValueError, match=r"expected the response to \('q7', 'base', 0\) at position 7, got \('q8'"):
        Report.from_responses(prompts, [*responses[:7], responses[8], responses[7]])
