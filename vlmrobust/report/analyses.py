"""What a report can be asked beyond its summary: several conditions at once, several draws, base against the rest."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..judges import LabelledThought
from ..types import Responses
from .aggregates import ConsistencyRow, consistency_rows
from .columns import Column, table_of
from .draws import draw_rows
from .labels import Drawn, Labels, draw_thoughts, labelled
from .robustness import HedgeRow, decodes_greedily, hedge_recovery, robust_accuracy
from .rotation import PositionRow, circular, position_bias, rotation_average
from .summary import SummaryRow
from .survival import CurveRow, SurvivalRow, robustness_curve, survival

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Analyses"]


class Analyses:
    """What a `Report` works out of its responses, each as a table."""

    responses: Responses
    seed: int
    manifest: dict[str, Any]
    _columns: tuple[Column, ...]

    def circular(self, conditions: Sequence[str] | None = None, *, greedy: bool | None = None) -> "pd.DataFrame":
        """Return the share of samples that are answered right under every rotation of their options.

        A sample of which a rotation was not asked, or failed, is undefined; `note` counts them. Draws are averaged.

        Args:
            conditions: those that together show every rotation, the first being what is compared with; None = `base`
                and what `perturbations.rotations` returns.
            greedy: see `robust_accuracy`.

        Returns:
            One row with the columns of `summary`: `value` is circular accuracy, `base_value` the same of base asked as
            often.

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
        """Return accuracy and P(correct) where the options' probabilities are averaged over all their rotations.

        Each option then stood once behind each letter, so that a leaning towards letters or places cancels out. The
        answer is the likeliest option of the average; of tied ones, picking one at random. Probabilities are those of
        the letters (or texts), renormalised over the sample's own options.

        A sample of which a rotation was not asked, failed, or has no letters is left out; `note` counts them.

        Args:
            conditions: as in `circular`.
            greedy: see `robust_accuracy`. A model that samples gains by averaging several answers, whatever was
                rotated; then `note` says so.

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
        """Return how probable each place among the options is, and how often an answer in it is found.

        One row per number of options and place; see `PositionRow` for the columns. Under all rotations every option
        stands in every place once: without a leaning `probability` is 1 / options everywhere, for a model that knows
        everything and for one that knows nothing.

        Args:
            conditions: as in `circular`.

        Raises:
            KeyError: a condition is not in the report.
            ValueError: the report has no rotations.

        Source: Zheng et al., arXiv:2309.03882, whose RStd is the standard deviation of `recall` over the places.

        Example:
            >>> import vlmrobust as vr
            >>> prompts = list(vr.expand(vr.demo.samples(4, seed=0), vr.perturbations.rotations(4)))
            >>> report = vr.Report.from_responses(prompts, vr.testing.FakeModel(accuracy=1.0).respond(prompts))
            >>> set(report.position_bias()["recall"])
            {1.0}
        """
        return table_of(PositionRow, position_bias(self.responses, conditions, self.seed))

    def robustness_curve(self, conditions: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return the share of samples that are right under at least k of K conditions, for k = 0 … K.

        Between accuracy under one condition and the worst case: at K it is right under all of them. Two curves stand
        beside it: `chance`, by guessing, and `independent`, what the same accuracies give if samples did not differ in
        how much they stand. A sample for which one of the conditions was not asked, failed or does not fit is left out;
        `note` counts them.

        Args:
            conditions: the K; None = all that were scored, base and controls among them. Those that leak the answer
                (`correct_…`) lift the curve.

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
        """Return the share of samples that are right under base and under all of some conditions: the worst case.

        A sample for which one of them was not asked, failed or does not fit is undefined; `note` counts them.

        Args:
            conditions: those that an answer must survive; None = all that were scored, controls among them.
            greedy: whether the model was decoded greedily, so that base asked again says the same; None = as the run's
                manifest says, and where it says nothing, not. A model that samples is wrong more often in five answers
                than in one, and is compared with base asked as often: without as many draws there is no comparison.

        Returns:
            One row with the columns of `summary`: `base_value` is how often base is right as many times on the same
            samples.

        Raises:
            KeyError: a condition is not in the report.
            ValueError: there is none but base.
        """
        row = robust_accuracy(self.responses, conditions, self.seed, greedy=self._is_greedy(greedy))
        return table_of(SummaryRow, [row])

    def _is_greedy(self, greedy: bool | None) -> bool:
        return decodes_greedily(self.manifest) if greedy is None else greedy

    def hedge_recovery(self) -> "pd.DataFrame":
        """Return how much of the drop a hedge ("but I think", the disclaimer) brings back, in accuracy and consistency.

        One row per hedged condition whose plain one was asked too, and metric; see `HedgeRow` for the columns.
        """
        return table_of(HedgeRow, hedge_recovery(self.responses, self._columns, self.seed))

    def survival(self) -> "pd.DataFrame":
        """Return how well the base response tells which answers hold: AUROC per condition, predictor and population.

        See `SurvivalRow` for the columns. Predictors are P(correct), ranked by log-odds, negative letter entropy and,
        as the trivial baseline, thought length, on the same pairs. The interval is `functional.auroc_interval`, or a
        bootstrap where responses share a group.

        Source: arXiv:2602.12506; whether its AUROC is over all samples is not known, so both populations are given.
        """
        return table_of(SurvivalRow, survival(self.responses, self.seed))

    def draws(self, attempts: Sequence[int] | None = None) -> "pd.DataFrame":
        """Return what several draws of a prompt say together: on average, by vote, and in any of k.

        Per condition, each compared with base on the same samples:

        - `accuracy`: the mean over draws;
        - `majority_accuracy`: the most frequent answer is the correct one; of tied answers, what picking one at random
          is right on average;
        - `pass_at_k`: at least one of k draws is right, estimated without bias (`functional.pass_at_k`);
        - `majority_share`: how many of the draws give the most frequent answer;
        - `draw_agreement`: two draws give the same answer; 1 − the flip rate between them;
        - `answer_entropy`: of the answers' frequencies, in nats.

        No answer (abstained, unparsed, truncated) counts as one answer more, which is wrong, as in `flip_rate`. Failed
        draws are left out; a sample with fewer than k draws is undefined in `pass_at_k`.

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
        """Draw thoughts for people to label: of each condition so many at random, of the same samples where it can be.

        The report's page has a labelling mode for the same draw; this is for a tool of one's own. Fewer are the first
        of more.

        Args:
            count: how many of each condition.
            conditions: of which; None = all.
            seed: of the draw; None = the report's.

        Returns:
            In the order in which they are to be labelled; `Drawn.labelled` makes a label for `Labels`.

        Raises:
            KeyError: a condition is not in the report.
            ValueError: fewer than one are asked for.
        """
        return draw_thoughts(self.responses, count, conditions, self.seed if seed is None else seed)

    def consistency(self, labels: Labels | str | Path) -> "pd.DataFrame":
        """Estimate consistency from the judge's verdicts on all thoughts and people's labels of some.

        A prediction-powered estimate: right on average however bad the judge is, with a shorter interval than from the
        labels alone where it is good. The judge's "unsure" is a verdict like the others. See `ConsistencyRow` for the
        columns; draws are responses of their own.

        Args:
            labels: of thoughts that `draw_labels` or the report's page drew, or the file that the page exports.

        Returns:
            Two rows per condition: the share of consistent, and of inconsistent answers.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else, a thought has two labels, labels are of other thoughts, were not
                drawn by this report, or are fewer than 30 under every condition; or the report has no `consistency`.

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
        """Return the labelled thoughts, for `judges.check`: how good is a judge on this model's own?

        Args:
            labels: of thoughts in this report, however they were chosen.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else, or labels are of other thoughts.
        """
        return labelled(self.responses, labels if isinstance(labels, Labels) else Labels.read(labels))
