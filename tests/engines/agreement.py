"""Twenty samples under the paper's eight conditions, asked in this process or at a server, and what has to be equal."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from serving import Server
from what_is_asked import SAMPLES, TOKENS

from vlmrobust import Evaluator, OpenAIModel, Report, demo, paper_conditions
from vlmrobust.models.base import RefusedError

__all__ = ["agree", "ask_served", "expected_report", "goes_on_after_a_kill"]

ROWS = SAMPLES * len(paper_conditions())


def expected_report() -> Report:
    """Return the report of the model in this process."""
    return Evaluator(demo.model(generation={"max_new_tokens": TOKENS}), paper_conditions()).run(demo.samples(SAMPLES))


def ask_served(server: Server, out: Path | None = None) -> Report:
    """Return the report of the same model behind a server."""
    return _run(_model(server), out)


def agree(served: Report, expected: Report, *, nats: float) -> None:
    """Check that a server's rows are those of the model in this process.

    Args:
        served: of the server.
        expected: of the model in this process.
        nats: by how much letters' log-probabilities may differ.
    """
    here, there = served.responses, expected.responses
    assert len(served) == len(expected) == ROWS
    assert (here.sample_id, here.condition) == (there.sample_id, there.condition)
    assert set(here.error) == {None}
    assert set(here.carrier) == {"assistant_prefill"}
    texts = zip(here.condition, here.text, there.text, strict=True)
    assert [row for row in texts if row[1] != row[2]] == []
    assert here.status == there.status
    assert here.choice.tolist() == there.choice.tolist()
    # A row of NaN in both is a turn without a letter.
    found, wanted = here.option_logprobs.numpy(), there.option_logprobs.numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=nats)
    pd.testing.assert_series_equal(served.frame["format_rate"], expected.frame["format_rate"])


def goes_on_after_a_kill(server: Server, folder: Path, *, nats: float) -> None:
    """Check that a run whose server was killed in the middle, and started again, ends like an undisturbed one."""
    whole = ask_served(server, folder / "undisturbed")
    # Whichever is seen first: that nobody answers any more, or that all requests under way were cut off.
    with pytest.raises(RefusedError, match=r"repeat the (same )?call to resume"):
        _ask_killed(server, folder / "run")
    written = [line for path in (folder / "run").glob("responses-*") for line in path.read_text().splitlines()]
    left = ROWS - sum(json.loads(line)["response"]["status"] != "error" for line in written)
    assert 0 < left < ROWS

    server.start()
    model = _model(server)
    resumed = _run(model, folder / "run")
    # What was answered is not asked again; a few requests find out how the server carries a prefill.
    assert model.usage.requests < 2 * left + 30
    # Other requests side by side are another order of summing: a log-probability's last digits are not kept.
    pd.testing.assert_frame_equal(resumed.frame, whole.frame, rtol=0, atol=nats)
    pd.testing.assert_frame_equal(_without_p(resumed), _without_p(whole), rtol=0, atol=nats)
    pd.testing.assert_frame_equal(_with_letters_of(whole, resumed).summary, whole.summary, check_exact=True)


def _ask_killed(server: Server, out: Path) -> Report:
    """Ask, and kill the server at the first request after a response has been written."""
    model = _model(server)
    is_killed, lock = threading.Event(), threading.Lock()

    def kill(_: object) -> None:
        with lock:  # no other request is sent before the server is gone
            if not is_killed.is_set() and any(path.stat().st_size for path in out.glob("responses-*")):
                server.kill()
                is_killed.set()

    model._client._client.event_hooks = {"request": [kill]}
    try:
        return _run(model, out)
    finally:
        with lock:  # the run may end before the kill does
            pass


def _without_p(report: Report) -> pd.DataFrame:
    """Return the summary without p, which those last digits move at will where a difference is nothing else.

    Of metrics that are corrected together such a p moves the others.
    """
    return report.summary.drop(columns=["p", "p_adjusted"])


def _with_letters_of(other: Report, report: Report) -> Report:
    """Return a report whose letters have the log-probabilities of another one of the same rows."""
    letters = {name: getattr(other.responses, name) for name in ("option_logprobs", "added_logprobs")}
    return Report(replace(report.responses, **letters), (), seed=report.seed).score(report.metrics)


def _model(server: Server) -> OpenAIModel:
    return OpenAIModel("demo", server.url, "key", generation={"max_tokens": TOKENS}, max_retries=0)


def _run(model: OpenAIModel, out: Path | None) -> Report:
    try:
        return Evaluator(model, paper_conditions()).run(demo.samples(SAMPLES), out=out)
    finally:
        model._client.close()
