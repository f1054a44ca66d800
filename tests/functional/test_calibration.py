"""Calibration against plain loops, scikit-learn and torch's own losses."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from statsmodels.stats.proportion import proportion_confint

from vlmrobust.functional import (
    brier_score,
    calibration_error_floor,
    confidence_brier_score,
    expected_calibration_error,
    letter_probabilities,
    negative_log_likelihood,
    reliability_curve,
)

NAN, INF = math.nan, math.inf


def binned(rows, bins, equal_mass):
    """Defined rows (confidence, correct) by their bin, each found by asking all bins in turn."""
    found = [[] for _ in range(bins)]
    for confidence, right in rows:
        if equal_mass:
            below = sum(other < confidence for other, _ in rows)
            middle = below + sum(other == confidence for other, _ in rows) / 2
            place = next(b for b in range(bins) if middle * bins < (b + 1) * len(rows))
        else:
            edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64).tolist()
            place = next(b for b in range(bins) if confidence <= edges[b + 1])
        found[place].append((confidence, right))
    return found


@pytest.mark.parametrize("equal_mass", [False, True])
@given(data=st.data(), bins=st.integers(1, 20))
def test_error_and_curve_agree_with_a_plain_loop(data, bins, equal_mass, scored, repeated):
    confidence, correct, weights = data.draw(scored)
    rows = repeated(confidence, correct, weights)
    gaps, counts = 0.0, []
    curve = reliability_curve(confidence, correct, bins=bins, equal_mass=equal_mass, weights=weights)
    for place, inside in enumerate(binned(rows, bins, equal_mass)):
        counts.append(len(inside))
        values = [column[place].item() for column in curve]
        if not inside:
            assert values[2] == 0
            assert all(math.isnan(values[i]) for i in (0, 1, 3, 4))
            continue
        sure, right = (np.array(column) for column in zip(*inside, strict=True))
        gaps += abs(right.sum() - sure.sum())
        interval = proportion_confint(right.sum(), len(inside), method="wilson")
        assert values == pytest.approx([sure.mean(), right.mean(), len(inside), *interval])
    found = expected_calibration_error(confidence, correct, bins=bins, equal_mass=equal_mass, weights=weights)
    assert found.item() == pytest.approx(gaps / len(rows) if rows else NAN, nan_ok=True)
    order = data.draw(st.permutations(range(len(confidence))))
    turned = (confidence[order], correct[order])
    shuffled = expected_calibration_error(*turned, bins=bins, equal_mass=equal_mass, weights=weights[order])
    torch.testing.assert_close(shuffled, found, equal_nan=True)


def test_bins_of_equal_width_are_those_of_sklearn():
    rng = np.random.default_rng(0)
    confidence = np.round(rng.random(500), 2)
    correct = (rng.random(500) < confidence).astype(float)
    accuracy, mean = calibration_curve(correct, confidence, n_bins=10, strategy="uniform")
    curve = reliability_curve(torch.from_numpy(confidence), torch.from_numpy(correct), bins=10)
    assert curve.accuracy.numpy() == pytest.approx(accuracy)
    assert curve.confidence.numpy() == pytest.approx(mean)


def test_bins_of_equal_mass_hold_equally_many():
    confidence = torch.rand(60, generator=torch.Generator().manual_seed(0)) ** 3
    curve = reliability_curve(confidence, torch.ones(60), equal_mass=True)
    assert curve.n.tolist() == [4.0] * 15
    parts = np.array_split(np.sort(confidence.double().numpy()), 15)
    assert curve.confidence.tolist() == pytest.approx([part.mean() for part in parts])


def test_leading_dimensions_are_batches():
    generator = torch.Generator().manual_seed(0)
    confidence, correct = torch.rand(2, 3, 20, generator=generator), torch.ones(2, 3, 20)
    for equal_mass in (False, True):
        together = expected_calibration_error(confidence, correct, equal_mass=equal_mass)
        alone = [expected_calibration_error(row, row * 0 + 1, equal_mass=equal_mass) for row in confidence.view(6, 20)]
        torch.testing.assert_close(together, torch.stack(alone).view(2, 3))
        assert reliability_curve(confidence, correct, bins=4, equal_mass=equal_mass).low.shape == (2, 3, 4)
        weights = torch.randint(3, (5, 20), generator=generator)
        resampled = expected_calibration_error(confidence[0, 0], correct[0, 0], equal_mass=equal_mass, weights=weights)
        one = expected_calibration_error(confidence[0, 0], correct[0, 0], equal_mass=equal_mass, weights=weights[3])
        torch.testing.assert_close(resampled[3], one)


def test_the_floor_of_one_bin_is_the_mean_deviation_of_a_binomial():
    # With p = 1/2 and n = 10: E|X − 5| / 10, by enumeration.
    expected = sum(math.comb(10, k) * abs(k - 5) for k in range(11)) / 2**10 / 10
    found = calibration_error_floor(torch.full((10,), 0.5), rng=np.random.default_rng(0), replicates=20_000)
    assert found == pytest.approx(expected, abs=0.003)


@pytest.mark.parametrize("equal_mass", [False, True])
def test_a_calibrated_model_shows_the_floor(equal_mass):
    rng = np.random.default_rng(1)
    confidence = torch.from_numpy(rng.random(200))
    errors = [
        expected_calibration_error(confidence, torch.from_numpy(rng.random(200)) < confidence, equal_mass=equal_mass)
        for _ in range(400)
    ]
    floor = calibration_error_floor(confidence, rng=rng, equal_mass=equal_mass)
    assert floor == pytest.approx(float(torch.stack(errors).mean()), abs=0.005)
    assert floor > 0.05


def test_the_floor_does_not_depend_on_chunks_and_leaves_out_what_is_undefined(monkeypatch):
    from vlmrobust.functional import calibration

    confidence = torch.tensor([0.2, 0.9, 0.55])
    whole = calibration_error_floor(confidence, rng=np.random.default_rng(3), replicates=50)
    monkeypatch.setattr(calibration, "_CHUNK_ELEMENTS", 7)
    with_missing = torch.tensor([0.2, NAN, 0.9, 0.55])
    assert calibration_error_floor(with_missing, rng=np.random.default_rng(3), replicates=50) == pytest.approx(whole)
    assert math.isnan(calibration_error_floor(torch.tensor([NAN]), rng=np.random.default_rng(3)))


LETTERS = st.lists(st.one_of(st.floats(-30, 0, width=32), st.just(-INF)), min_size=2, max_size=26)


@given(data=st.data(), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_proper_scores_agree_with_sklearn_and_a_plain_loop(data, dtype):
    letters = data.draw(LETTERS)
    target = data.draw(st.integers(-1, len(letters) - 1))
    given_letters = torch.tensor([[*letters, -INF], [NAN] * (len(letters) + 1)], dtype=dtype)
    indices = torch.tensor([target, target])
    brier, likelihood = brier_score(given_letters, indices), negative_log_likelihood(given_letters, indices)
    assert brier.dtype == likelihood.dtype == torch.float32
    assert brier[1].isnan()
    assert likelihood[1].isnan()
    if target < 0 or max(letters) == -INF:
        assert brier[0].isnan()
        assert likelihood[0].isnan()
        return
    p = letter_probabilities(given_letters[0].double()).numpy()
    hits = np.arange(len(p)) == target
    assert brier[0].item() == pytest.approx(((p - hits) ** 2).sum(), abs=1e-6)
    assert brier[0].item() == pytest.approx(
        brier_score_loss([target], p[None], labels=list(range(len(p))), scale_by_half=False), abs=1e-6
    )
    assert likelihood[0].item() == pytest.approx(-math.log(p[target]) if p[target] > 0 else INF, rel=1e-4, abs=1e-6)
    if p[target] > 1e-10:
        assert likelihood[0].item() == pytest.approx(
            log_loss([target], p[None] / p.sum(), labels=list(range(len(p)))), rel=1e-4, abs=1e-6
        )


@given(data=st.data())
def test_brier_of_a_confidence_agrees_with_sklearn(data, scored, repeated):
    confidence, correct, _ = data.draw(scored)
    scores = confidence_brier_score(confidence, correct)
    assert scores.dtype == torch.float32
    rows = repeated(confidence, correct, torch.ones(len(correct)))
    assert torch.equal(scores.isnan(), confidence.isnan() | correct.isnan())
    if rows:
        expected = brier_score_loss([right for _, right in rows], [sure for sure, _ in rows], pos_label=1)
        assert scores.nanmean().item() == pytest.approx(expected, abs=1e-6)


def test_no_letters_at_all_are_undefined():
    assert brier_score(torch.empty(2, 0), torch.tensor([0, 0])).isnan().all()
    assert negative_log_likelihood(torch.empty(2, 0), torch.tensor([0, 0])).isnan().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: expected_calibration_error(torch.tensor([1.5, 0.2]), torch.ones(2)),
            r"expected confidences between 0 and 1, got 0\.2 to 1\.5",
        ),
        (lambda: reliability_curve(torch.ones(1), torch.ones(1), bins=0), "expected at least one of 'bins', got 0"),
        (
            lambda: calibration_error_floor(torch.ones(1), rng=np.random.default_rng(0), replicates=0),
            "expected at least one of 'replicates', got 0",
        ),
    ],
)
def test_invalid_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
