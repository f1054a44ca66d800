"""Analyse a report beyond its summary: several conditions at once, several draws, base against the rest.

Further analyses are of the positions of options (`rotation_average`, `position_bias`), and of the judge: they draw
thoughts for human labels, and correct consistency by these.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..judges import LabelledThought
from ..types import Responses
from .aggregates import ConsistencyRow, consistency_rows
from .labels import Drawn, Labels, draw_thoughts, labelled
from .metric_columns import Column, table_of
from .repeats import PositionRow, circular, draw_rows, position_bias, rotation_average
from .robustness import HedgeRow, decodes_greedily, hedge_recovery, robust_accuracy
from .summary import SummaryRow
from .survival import CurveRow, SurvivalRow, robustness_curve, survival

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Analyses"]


class Analyses:
    """The analyses of a `Report`, each of which returns a table."""

    responses: Responses
    seed: int
    manifest: dict[str, Any]
    _columns: tuple[Column, ...]

    def circular(self, conditions: Sequence[str] | None = None, *, greedy: bool | None = None) -> "pd.DataFrame":
        """Return the share of samples that are answered correctly under every rotation of their options.

        Samples with a rotation that was not run or failed are undefined; `note` counts them. Draws are averaged.

        Args:
            conditions: those that together show every rotation; the first is the reference. None = `base` and what
                `perturbations.rotations` returns.
            greedy: see `robust_accuracy`.

        Returns:
            One row with the columns of `summary`: `value` is circular accuracy, `base_value` the share of samples whose
            base answers are all correct in as many attempts.

        Raises:
            KeyError: a condition is not in the report.
            ValueError: the report has no rotations.

        Source: CircularEval of MMBench, Liu et al., arXiv:2307.06281.

        Example:
            >>> import vlmrobust as vr
            >>> prompts = list(vr.expand(vr.demo.samples(4, seed=0), vr.perturbations.rotations(4)))
            >>> report = vr.Report.from_responses(prompts, vr.testing.FakeModel(accuracy=1.0).respond(prompts))
            >>> float(report.circular()["value"].iloc[0])
            1.0
        """
        return table_of(SummaryRow, [circular(self.responses, conditions, self.seed, greedy=self._is_greedy(greedy))])

    def rotation_average(
        self, conditions: Sequence[str] | None = None, *, greedy: bool | None = None
    ) -> "pd.DataFrame":
        """Return accuracy and P(correct) after averaging the options' probabilities over all rotations.

        Each option appears once behind each letter, so that a bias towards letters or positions cancels out. The answer
        is the most probable option of the average; ties count as the expected value of picking one at random.
        Probabilities are those of the letters (or texts), renormalised over the sample's own options.

        Samples with a rotation that was not run, failed or has no letters are left out; `note` counts them.

        Args:
            conditions: as in `circular`.
            greedy: see `robust_accuracy`. With sampling, averaging several answers helps whatever was rotated; `note`
                then says so.

        Returns:
            Two rows with the columns of `summary`, `accuracy` and `correct_probability`: `base_value` is that of the
            first condition alone, on the same samples.

        Raises:
            KeyError: a condition is not in the report.
            ValueError: the report has no rotations.

        Source: the average over cyclic permutations of Zheng et al., arXiv:2309.03882.

        Example:
            >>> import vlmrobust as vr
            >>> prompts = list(vr.expand(vr.demo.samples(4, seed=0), vr.perturbations.rotations(4)))
            >>> report = vr.Report.from_responses(prompts, vr.testing.FakeModel(accuracy=1.0).respond(prompts))
            >>> report.rotation_average()["metric"].tolist()
            ['accuracy', 'correct_probability']
        """
        rows = rotation_average(self.responses, conditions, self.seed, greedy=self._is_greedy(greedy))
        return table_of(SummaryRow, rows)

    def position_bias(self, conditions: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return the probability of each position among the options, and the recall of correct options there.

        One row per number of options and position; see `PositionRow` for the columns. Over all rotations every option
        is in every position once: without a bias `probability` is 1 / options everywhere, whatever the model knows.

        Args:
            conditions: as in `circular`.

        Raises:
            KeyError: a condition is not in the report.
            ValueError: the report has no rotations.

        Source: Zheng et al., arXiv:2309.03882, whose RStd is the standard deviation of `recall` over the positions.

        Example:
            >>> import vlmrobust as vr
            >>> prompts = list(vr.expand(vr.demo.samples(4, seed=0), vr.perturbations.rotations(4)))
            >>> report = vr.Report.from_responses(prompts, vr.testing.FakeModel(accuracy=1.0).respond(prompts))
            >>> set(report.position_bias()["recall"])
            {1.0}
        """
        return table_of(PositionRow, position_bias(self.responses, conditions, self.seed))

    def robustness_curve(self, conditions: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return the share of samples that are answered correctly under at least k of K conditions, for k = 0 … K.

        At k = K this is the worst case, accuracy under all of them. Two reference curves come with it: `chance`, for
        guessing, and `independent`, for the same accuracies if samples did not differ in robustness. Samples with a
        condition that was not run, failed or does not apply are left out; `note` counts them.

        Args:
            conditions: the K; None = all that were scored, base and controls included. Those that leak the answer
                (`correct_…`) raise the curve.

        Returns:
            K + 1 rows; see `CurveRow` for the columns.

        Raises:
            KeyError: a condition is not in the report.
            ValueError: no sample is scored under all of them.

        Example:
            >>> import vlmrobust as vr
            >>> model = vr.testing.FakeModel(accuracy=1.0, follow_think=1.0)
            >>> report = vr.Evaluator(model, [vr.perturbations.WrongThink()]).run(vr.demo.samples(20))
            >>> report.robustness_curve()["value"].tolist()
            [1.0, 1.0, 0.0]
        """
        return table_of(CurveRow, robustness_curve(self.responses, conditions, self.seed))

    def robust_accuracy(self, conditions: Sequence[str] | None = None, *, greedy: bool | None = None) -> "pd.DataFrame":
        """Return the share of samples that are answered correctly under base and all given conditions: the worst case.

        Samples with a condition that was not run, failed or does not apply are undefined; `note` counts them.

        Args:
            conditions: those that an answer must survive; None = all that were scored, controls included.
            greedy: whether decoding was greedy, so that repeating base gives the same answer; None = as the run's
                manifest says, else False. With sampling, five answers contain an error more often than one, so the
                reference is base repeated as many times: this needs as many draws.

        Returns:
            One row with the columns of `summary`: `base_value` is the share of the same samples whose base answers are
            all correct in as many attempts.

        Raises:
            KeyError: a condition is not in the report.
            ValueError: there is no condition but base.
        """
        row = robust_accuracy(self.responses, conditions, self.seed, greedy=self._is_greedy(greedy))
        return table_of(SummaryRow, [row])

    def _is_greedy(self, greedy: bool | None) -> bool:
        return decodes_greedily(self.manifest) if greedy is None else greedy

    def hedge_recovery(self) -> "pd.DataFrame":
        """Return how much of the drop a hedge ("but I think", the disclaimer) recovers, in accuracy and consistency.

        One row per metric and hedged condition whose unhedged version was run too; see `HedgeRow` for the columns.
        """
        return table_of(HedgeRow, hedge_recovery(self.responses, self._columns, self.seed))

    def survival(self) -> "pd.DataFrame":
        """Return how well the base response predicts which answers survive: AUROC by condition, predictor, population.

        See `SurvivalRow` for the columns. Predictors are P(correct), ranked by log-odds, negative letter entropy and,
        as the trivial baseline, thought length, on the same pairs. The interval is `functional.auroc_interval`, or a
        bootstrap where responses share a group.

        Source: arXiv:2602.12506; it does not say whether its AUROC is over all samples, so both populations are given.
        """
        return table_of(SurvivalRow, survival(self.responses, self.seed))

    def draws(self, attempts: Sequence[int] | None = None) -> "pd.DataFrame":
        """Return metrics over several draws of a prompt: average, majority vote, pass@k and agreement.

        Per condition, each compared with base on the same samples:

        - `accuracy`: the mean over draws;
        - `majority_accuracy`: the most frequent answer is correct; for ties, the expected value of picking one at
          random;
        - `pass_at_k`: at least one of k draws is correct, an unbiased estimate (`functional.pass_at_k`);
        - `majority_share`: the share of draws with the most frequent answer;
        - `draw_agreement`: two draws give the same answer; 1 − the flip rate between them;
        - `answer_entropy`: of the answers' frequencies, in nats.

        No answer (abstained, unparsed, truncated) counts as one more, incorrect answer, as in `flip_rate`. Failed draws
        are left out; `pass_at_k` is undefined for a sample with fewer than k draws.

        Args:
            attempts: the k of pass@k; None = 1 up to the number of draws.

        Returns:
            The columns of `summary`, intervals over samples and their groups.

        Raises:
            ValueError: one of `attempts` is below 1 or above the number of draws.

        Source: Chen et al., arXiv:2107.03374 (pass@k); Wang et al., arXiv:2203.11171 (majority vote).

        Example:
            >>> import vlmrobust as vr
            >>> model = vr.testing.FakeModel(accuracy=1.0, guess=0.5)
            >>> report = vr.Evaluator(model, [], draws=4).run(vr.demo.samples(10))
            >>> value = report.draws([1, 4]).set_index("metric")["value"]
            >>> bool(value["accuracy"] == value["pass_at_1"] < value["pass_at_4"])
            True
        """
        return table_of(SummaryRow, draw_rows(self.responses, attempts, self.seed))

    def draw_labels(
        self, count: int = 100, *, conditions: Sequence[str] | None = None, seed: int | None = None
    ) -> list[Drawn]:
        """Draw thoughts at random for human labelling: as many per condition, from the same samples where possible.

        The report's page has a labelling mode for the same draw; use this for a tool of your own. A smaller draw is the
        beginning of a larger one.

        Args:
            count: number per condition.
            conditions: the conditions to draw from; None = all.
            seed: of the draw; None = the report's.

        Returns:
            Thoughts in the order in which to label them; `Drawn.labelled` makes a label for `Labels`.

        Raises:
            KeyError: a condition is not in the report.
            ValueError: `count` is below 1.
        """
        return draw_thoughts(self.responses, count, conditions, self.seed if seed is None else seed)

    def consistency(self, labels: Labels | str | Path) -> "pd.DataFrame":
        """Estimate consistency from the judge's verdicts on all thoughts and human labels of some.

        A prediction-powered estimate: unbiased whatever the judge's errors, with a shorter interval than from the
        labels alone if the judge is good. "Unsure" is a verdict like the others. See `ConsistencyRow` for the columns;
        each draw counts as a response.

        Args:
            labels: of thoughts that `draw_labels` or the report's page drew, or the file that the page exports.

        Returns:
            Two rows per condition: the shares of consistent and of inconsistent answers.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else, a thought has two labels, labels are of other thoughts or of
                thoughts that this report did not draw, every condition has fewer than 30; or the report has no
                `consistency`.

        Source: Angelopoulos et al., arXiv:2301.09633; `functional.post_stratified_rate` says how.

        Example:
            >>> import vlmrobust as vr
            >>> report = vr.Evaluator(vr.testing.FakeModel(), []).run(vr.demo.samples(60))
            >>> read = [thought.labelled(None) for thought in report.draw_labels(30)]  # nothing is concluded
            >>> report.consistency(vr.Labels(seed=report.seed, labels=read))["value"].tolist()
            [0.0, 0.0]
        """
        parsed = labels if isinstance(labels, Labels) else Labels.read(labels)
        return table_of(ConsistencyRow, consistency_rows(self.responses, self._columns, parsed, self.seed))

    def labelled(self, labels: Labels | str | Path) -> list[LabelledThought]:
        """Return the labelled thoughts for `judges.check`, which measures a judge on this model's own thoughts.

        Args:
            labels: of thoughts in this report, chosen at random or not.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else, or labels are of other thoughts.
        """
        return labelled(self.responses, labels if isinstance(labels, Labels) else Labels.read(labels))
