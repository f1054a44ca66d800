"""Check progress lines and the bar: numbers, intervals, and where lines go."""

import io
import logging
import re
import time

import pytest
from counted import CONDITIONS, METRICS, SAMPLES

from vlmrobust import Evaluator
from vlmrobust.testing import FakeModel
from vlmrobust.workers.progress import Progress, ResponseCounts, duration

LINE = re.compile(
    r"(\d+) of (\d+) responses \((\d+)%\), ([\d.e-]+) responses/s, ([\d.e-]+) tokens/s, (.+), (\d+) errors?"
    r"(, [\d.]+ GiB memory)?(, [\d.]+ GiB on the GPU)?"
)


class Slow(FakeModel):
    """Takes a while for each call; every third sample's fails."""

    def respond(self, prompts):
        time.sleep(0.15)
        if any(prompt.sample.id.endswith("3") for prompt in prompts):
            raise OSError("no image")
        return [response.replace(n_tokens=7) for response in super().respond(prompts)]


def evaluator(**settings):
    return Evaluator(Slow(opens_images=False), CONDITIONS, METRICS, batch_size=1, **settings)


def lines_of(text):
    return [LINE.search(line) for line in text.splitlines() if " responses (" in line]


def test_lines_come_at_regular_intervals_and_count_to_the_total(capsys):
    asked = SAMPLES[:4]
    evaluator(progress_every=0.1).run(asked)
    found = lines_of(capsys.readouterr().err)
    assert len(found) >= 3
    assert all(found)
    done = [int(line[1]) for line in found]
    assert done == sorted(done)
    total = len(asked) * (1 + len(CONDITIONS))
    assert {int(line[2]) for line in found} == {total}
    last = found[-1]
    assert (done[-1], last[3], last[6]) == (total, "100", "0 s left")
    failed = sum(sample.id.endswith("3") for sample in asked) * (1 + len(CONDITIONS))
    assert int(last[7]) == failed > 0
    assert float(last[5]) > 0


def test_lines_appear_during_a_long_call(capsys):
    """Nothing is answered in between: the pace is that of a clock."""
    with Progress(10, every=0.05) as progress:
        time.sleep(0.4)
        progress.add(ResponseCounts(1, 1))
    found = lines_of(capsys.readouterr().err)
    assert len(found) >= 4
    assert [line[6] for line in found[:2]] == ["time left not known yet"] * 2


def test_a_short_run_writes_no_line_nor_does_progress_every_none(capsys):
    evaluator().run(SAMPLES[:1])
    evaluator(progress_every=None).run(SAMPLES[:2])
    evaluator(progress_every=float("inf")).run(SAMPLES[:2])
    assert capsys.readouterr().err == ""


def test_lines_go_to_the_log_if_it_is_enabled(capsys, caplog):
    with caplog.at_level(logging.INFO, logger="vlmrobust.workers.progress"):
        evaluator(progress_every=0.1).run(SAMPLES[:2])
    assert len(lines_of(caplog.text)) >= 2
    assert " responses (" not in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [0, -1, float("nan")])
def test_progress_every_is_above_zero(wrong):
    with pytest.raises(ValueError, match=r"progress_every.*above 0"):
        evaluator(progress_every=wrong)


def test_recorded_responses_count_as_done_but_not_for_the_rate():
    seconds = iter([0.0, 20.0])
    progress = Progress(100, shown=False, clock=lambda: next(seconds))
    progress.add(ResponseCounts(responses=50))
    progress.add(ResponseCounts(responses=10, new=10, tokens=300))
    assert progress.line().startswith("60 of 100 responses (60%), 0.5 responses/s, 15 tokens/s, 80 s left, 0 errors")


def test_the_bar_shows_the_same_numbers(monkeypatch, capsys):
    """As in a notebook, where tqdm draws one; and there are no lines then."""
    from tqdm import tqdm

    bars = []

    def visible(total):
        bars.append(tqdm(total=total, file=io.StringIO(), mininterval=0, ncols=200))
        return bars[0]

    monkeypatch.setattr("vlmrobust.workers.progress._bar", visible)
    evaluator(progress_every=0.05).run(SAMPLES[:4])
    last = bars[0].fp.getvalue().rsplit("\r", 1)[-1]
    total = 4 * (1 + len(CONDITIONS))
    assert f"{total}/{total}" in last
    assert re.search(r"[\d.]+ tokens/s, [1-9]\d* errors", last)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3599, "1 h 00 min"), (90_000, "25 h 00 min")]
)
def test_durations_in_words(seconds, said):
    assert duration(seconds) == said
