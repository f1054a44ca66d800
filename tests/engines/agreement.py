"""Twenty samples under the paper's eight conditions, asked in this process or at a server, and what has to be equal."""

import json
import threading
import time
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
ROUNDING = 1e-6
KILLED_AFTER = 60  # requests of about two hundred


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
    with pytest.raises(RefusedError, match="repeat the same call to resume"):
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
    pd.testing.assert_frame_equal(_without_rounding(resumed), _without_rounding(whole), rtol=0, atol=nats)


def _ask_killed(server: Server, out: Path) -> Report:
    model = _model(server)
    over = threading.Event()

    def kill() -> None:
        while model.usage.requests < KILLED_AFTER and not over.is_set():
            time.sleep(0.005)
        server.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        return _run(model, out)
    finally:
        over.set()
        killer.join()


def _without_rounding(report: Report) -> pd.DataFrame:
    """Return the summary, without the p of differences that are nothing but the last digits of sums."""
    summary = report.summary
    summary.loc[summary["difference"].abs() < ROUNDING, ["p", "p_adjusted"]] = np.nan
    return summary


def _model(server: Server) -> OpenAIModel:
    return OpenAIModel("demo", server.url, "key", generation={"max_tokens": TOKENS}, max_retries=0)


def _run(model: OpenAIModel, out: Path | None) -> Report:
    try:
        return Evaluator(model, paper_conditions()).run(demo.samples(SAMPLES), out=out)
    finally:
        model._client.close()
