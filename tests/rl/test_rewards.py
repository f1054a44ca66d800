"""Check rewards under the calling conventions of all trainers, and against the metrics."""

import inspect
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vlmrobust as vr
from vlmrobust.judges import Judge, RuleJudge
from vlmrobust.judges.base import Verdicts
from vlmrobust.metrics import Accuracy, Consistency, FormatRate
from vlmrobust.prompting import LETTERS
from vlmrobust.rl import rewards
from vlmrobust.rl.completions import COLUMNS
from vlmrobust.rl.guards import LongEnough
from vlmrobust.rl.rows import row_of
from vlmrobust.types import Prompt, Response, Responses, Sample, Style

RIGHT = "<think>The cube is blue.</think><answer>B</answer>"
CONTRADICTION = "<think>So the cube is blue.</think><answer>A</answer>"
COLUMNS_OF_ONE: dict[str, Any] = {
    "solution": ["B"],
    "question": ["Which colour is the cube?"],
    "options": [["red", "blue"]],
}
ALL = (rewards.accuracy_reward, rewards.format_reward, rewards.consistency_reward, rewards.faithfulness_reward)


def columns_of(count: int, **changes: Any) -> dict[str, Any]:
    return {name: values * count for name, values in COLUMNS_OF_ONE.items()} | changes


def as_messages(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": text}]


def test_the_papers_rewards() -> None:
    texts = [RIGHT, CONTRADICTION, "B", "<think>It is red.</think><answer>A</answer>", ""]
    columns = columns_of(len(texts))
    assert rewards.accuracy_reward(completions=texts, **columns) == [1, 0, 1, 0, 0]
    assert rewards.format_reward(completions=texts, **columns) == [0.1, 0.1, 0, 0.1, 0]
    assert rewards.consistency_reward(completions=texts, **columns) == [1, 0, 0, 1, 0]
    assert rewards.faithfulness_reward(completions=texts, **columns) == [1.1, 0, 0, 0.1, 0]
    additive = vr.rl.FaithfulnessReward(RuleJudge(), additive=0.5)
    assert additive(completions=texts, **columns) == pytest.approx([1.6, 0.1, 1, 0.6, 0])


def trl_call(texts: list[str]) -> dict[str, Any]:
    prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]}]
    logged: dict[str, float] = {}
    return {
        "prompts": [prompt] * len(texts),
        "completions": [as_messages(text) for text in texts],
        "completion_ids": [[1, 2]] * len(texts),
        "images": [["an image"]] * len(texts),
        "condition": ["base"] * len(texts),
        "prefill": [""] * len(texts),
        "trainer_state": object(),
        "log_extra": lambda column, values: None,
        "log_metric": logged.__setitem__,
        **columns_of(len(texts)),
    }


def swift_call(texts: list[str]) -> dict[str, Any]:
    count = len(texts)
    return {
        "messages": [[{"role": "user", "content": "Which?"}]] * count,
        "prompt_id": ["p"] * count,
        "request_id": ["r"] * count,
        "finish_reason": ["stop"] * count,
        "is_truncated": [False] * count,
        "rollout_infos": [{}] * count,
        "response_token_ids": [[1]] * count,
        "trainer_state": object(),
        **columns_of(count),
    }


@pytest.mark.parametrize("reward", ALL, ids=lambda reward: reward.__name__)
def test_one_object_serves_every_trainer(reward: rewards.Reward) -> None:
    texts = [RIGHT, CONTRADICTION, "B"]
    from_trl = reward(**trl_call(texts))
    assert from_trl == reward(texts, **swift_call(texts))  # ms-swift: completions by position
    vlm_r1 = {name: value for name, value in trl_call(texts).items() if name not in ("log_metric", "log_extra")}
    assert from_trl == reward(**vlm_r1)
    by_position = vlm_r1.pop("prompts"), vlm_r1.pop("completions")
    assert from_trl == reward(*by_position, **vlm_r1)
    assert all(isinstance(value, float) for value in from_trl)
    assert not inspect.iscoroutinefunction(reward.__call__)


@pytest.mark.parametrize("reward", ALL, ids=lambda reward: reward.__name__)
def test_rewards_are_picklable_and_have_names(reward: rewards.Reward) -> None:
    again = pickle.loads(pickle.dumps(reward))
    assert again == reward
    assert again(**trl_call([RIGHT])) == reward(**trl_call([RIGHT]))
    assert getattr(rewards, reward.__name__) is reward  # `trl grpo --reward_funcs vlmrobust.rl.<name>`
    assert getattr(vr.rl, reward.__name__) is reward
    assert reward.replace(name="mine").__name__ == "mine"


def test_a_subclass_is_created_as_ms_swift_does() -> None:
    class Faithful(vr.rl.FaithfulnessReward):
        def __init__(self, args: Any = None) -> None:
            super().__init__()

    reward = Faithful(args=object())
    assert reward([RIGHT], **swift_call([RIGHT])) == [1.1]
    assert reward.__name__ == "faithful"


def test_terms_are_logged() -> None:
    call, logged = trl_call([RIGHT, CONTRADICTION]), {}
    call["log_metric"] = logged.__setitem__
    rewards.faithfulness_reward(**call)
    assert logged == {
        "faithfulness_reward/format": 1.0,
        "faithfulness_reward/accuracy": 0.5,
        "faithfulness_reward/consistency": 0.5,
        "faithfulness_reward/score": 0.55,
    }


def test_a_term_without_a_defined_value_is_not_logged() -> None:
    call, logged = trl_call(["<think>Hm.</think><answer>B</answer>"] * 2), {}
    call["log_metric"] = logged.__setitem__
    assert rewards.faithfulness_reward(**call) == [0.0, 0.0]
    names = ("format", "accuracy", "score")  # no verdict about consistency
    assert logged == {f"faithfulness_reward/{name}": value for name, value in zip(names, (1.0, 1.0, 0.0), strict=True)}
    call = trl_call(["<think>Hm.</think><answer>B</answer>", RIGHT]) | {"log_metric": logged.__setitem__}
    rewards.faithfulness_reward(**call)
    assert logged["faithfulness_reward/consistency"] == 1.0


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "assistant", "content": "<answer>B</answer>", "reasoning_content": "The cube is blue."}, 1.1),
        ({"role": "assistant", "content": "<answer>B</answer>", "thinking": "The cube is blue."}, 1.1),
        ({"role": "assistant", "content": [{"type": "text", "text": RIGHT}]}, 1.1),
        ({"role": "assistant", "content": None, "reasoning_content": "The cube is blue."}, 0.0),
        ({"role": "assistant", "content": ""}, 0.0),
        ({"role": "tool", "content": RIGHT}, 0.0),
    ],
)
def test_messages_of_every_shape(message: dict[str, Any], expected: float) -> None:
    for completion in ([message], message):
        assert rewards.faithfulness_reward(completions=[completion], **COLUMNS_OF_ONE) == [expected]


def test_the_last_assistant_message_is_parsed() -> None:
    turns = [*as_messages(CONTRADICTION), {"role": "tool", "content": "x"}, *as_messages(RIGHT)]
    assert rewards.accuracy_reward(completions=[turns], solution=["B"]) == [1.0]


def test_a_prefilled_thought_is_parsed_with_its_continuation() -> None:
    completion = " But the cube is blue.</think><answer>B</answer>"
    columns = columns_of(1, prefill=["<think>It is red."])
    assert rewards.faithfulness_reward(completions=[completion], **columns) == [1.1]
    assert rewards.faithfulness_reward(completions=[completion], **columns_of(1, prefill=[None])) == [1.0]  # no opener
    [terms] = rewards.faithfulness_reward.rows(["</think><answer>A</answer>"], columns)
    assert terms == {"format": 1.0, "accuracy": 0.0, "consistency": 1.0, "score": 0.1}


@pytest.mark.parametrize("reasoning", ["It is red. But the cube is blue.", " But the cube is blue."])
def test_a_separate_thought_is_joined_to_the_prefill_once(reasoning: str) -> None:
    """A response template reads the prefill as a part of the thought; older ones do not."""
    message = {"role": "assistant", "content": "<answer>B</answer>", "reasoning_content": reasoning}
    columns = columns_of(1, prefill=["<think>It is red."])

    class Seen(Judge):
        def conclude(self, responses: Responses) -> Verdicts:
            assert responses.think[0].count("It is red.") == 1
            assert responses.own_think[0] == "But the cube is blue."
            return Verdicts.of(responses.choice * 0 + 1, torch.tensor([False]))

    assert vr.rl.FaithfulnessReward(Seen())(completions=[[message]], **columns) == [1.1]


def test_a_closed_prefilled_thought_is_not_repeated() -> None:
    prefill = "<think>Okay let's see.</think>"
    message = {"role": "assistant", "content": "<answer>B</answer>", "reasoning_content": "Okay let's see."}
    columns = columns_of(1, prefill=[prefill])
    [terms] = rewards.faithfulness_reward.rows([[message]], columns)
    assert terms is not None
    assert terms["format"] == 1.0


def test_a_template_that_opens_the_thought() -> None:
    completion = " But the cube is blue.</think><answer>B</answer>"
    assert rewards.format_reward(completions=[completion]) == [0.0]
    assert vr.rl.FormatReward(opener="<think>\n")(completions=[completion]) == [0.1]
    prefilled = columns_of(1, prefill=["<think>It is red."])
    assert vr.rl.FaithfulnessReward(opener="<think>\n")(completions=[completion], **prefilled) == [1.1]


def test_truncated_completions() -> None:
    cut = "<think>The cube is"
    assert rewards.faithfulness_reward(completions=[cut], **columns_of(1, finish_reason=["length"])) == [0.0]


def test_several_answers_and_no_tags() -> None:
    texts = ["<answer>A or B</answer>", "The answer is (B).", "<think>x</think><answer>B</answer><answer>A</answer>"]
    assert rewards.accuracy_reward(completions=texts, **columns_of(3)) == [0.0, 1.0, 1.0]


def test_26_options() -> None:
    options = [f"colour {number}" for number in range(26)]
    texts = [f"<think>It is colour {n}.</think><answer>{LETTERS[n]}</answer>" for n in range(26)]
    columns = {"solution": list(LETTERS), "question": ["Which?"] * 26, "options": [options] * 26}
    assert rewards.faithfulness_reward(completions=texts, **columns) == [1.1] * 26
    assert rewards.accuracy_reward(completions=texts, solution=list(LETTERS)) == [1.0] * 26


@pytest.mark.parametrize("solution", ["B", "b", " B ", "(B)", "<answer> B </answer>", "blue", "B. blue"])
def test_solutions_in_the_formats_of_data_sets(solution: str) -> None:
    columns = columns_of(2, solution=[solution] * 2)
    assert rewards.accuracy_reward(completions=[RIGHT, CONTRADICTION], **columns) == [1.0, 0.0]


def test_an_option_that_is_a_letter() -> None:
    """The letter comes first: `B` is the second option, though the first one's text is `B`."""
    columns = {"solution": ["B"], "options": [["B", "A"]]}
    assert rewards.accuracy_reward(completions=["<answer>B</answer>"], **columns) == [1.0]


def test_answers_by_text() -> None:
    style = Style(answer_by="text")
    texts = ["<think>Blue.</think><answer>blue</answer>", "<think>Blue.</think><answer>red</answer>"]
    assert vr.rl.AccuracyReward(style=style)(completions=texts, **columns_of(2)) == [1.0, 0.0]
    assert vr.rl.FormatReward(style=style)(completions=texts, **columns_of(2)) == [0.1, 0.1]


@pytest.mark.parametrize("reward", ALL, ids=lambda reward: reward.__name__)
def test_a_missing_column_is_named(reward: rewards.Reward) -> None:
    for name in reward.needs:
        columns = {other: values for other, values in COLUMNS_OF_ONE.items() if other != name}
        there = ", ".join(sorted(columns))
        with pytest.raises(
            ValueError, match=f"^{reward.__name__}: expected a column '{name}', got the columns {there}"
        ):
            reward(completions=[RIGHT], **columns)
    assert set(reward.needs) <= set(COLUMNS)


def test_a_row_without_a_required_value_gets_none() -> None:
    columns = columns_of(3, solution=["B", None, "B"])
    assert rewards.accuracy_reward(completions=[RIGHT] * 3, **columns) == [1.0, None, 1.0]
    assert rewards.format_reward(completions=[RIGHT] * 3, **columns) == [0.1] * 3
    without = columns_of(3, options=[None, ["red", "blue"], None])
    assert rewards.faithfulness_reward(completions=[RIGHT] * 3, **without) == [None, 1.1, None]
    zero = vr.rl.AccuracyReward(none_value=0.0)
    assert zero(completions=[RIGHT] * 3, **columns) == [1.0, 0.0, 1.0]
    assert rewards.accuracy_reward(completions=[RIGHT], solution=[None]) == [None]
    assert rewards.accuracy_reward(completions=[], solution=[]) == []


@pytest.mark.parametrize(
    ("completions", "columns", "error", "message"),
    [
        (
            [RIGHT],
            {"solution": ["B", "A"]},
            ValueError,
            r"column 'solution' to have one value per completion \(1\), got 2",
        ),
        (
            [RIGHT],
            {"solution": "B"},
            ValueError,
            r"column 'solution' to have one value .* \(1\), got str: 'B'",
        ),
        ([RIGHT], {"solution": ["Q9"]}, ValueError, r"row 0, column 'solution': expected the letter of an option"),
        ([RIGHT], {"solution": [1]}, ValueError, rf"expected the letter of an option \(one of {LETTERS}\), got 1"),
        (
            [3],
            {"solution": ["B"]},
            TypeError,
            "row 0, completion: expected text or a list of chat messages, got int: 3",
        ),
        (
            [None],
            {"solution": ["B"]},
            TypeError,
            "row 0, completion: expected text or a list of chat messages, got None",
        ),
        (
            [[{"role": "assistant", "content": 3}]],
            {"solution": ["B"]},
            TypeError,
            "row 0, completion: expected a message whose content is text or a list of parts, got int: 3",
        ),
        ([RIGHT], {"solution": 3}, ValueError, r"column 'solution' to have one value per completion \(1\), got int: 3"),
        ([RIGHT], {"solution": None}, ValueError, r"expected a column 'solution', got the columns \(none\)"),
        ([["B"]], {"solution": ["B"]}, TypeError, "expected text or a list of chat messages, got list"),
        ([RIGHT], {"solution": ["B"], "options": [["red", "red"]]}, ValueError, "row 0.*'options': expected different"),
        (
            [RIGHT],
            {"solution": ["B"], "options": ["blue"]},
            ValueError,
            "row 0, column 'options': expected a list of texts, got a string: 'blue'",
        ),
    ],
)
def test_errors_name_the_place(completions: Any, columns: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rewards.accuracy_reward(completions=completions, **columns)


@pytest.mark.parametrize("completion", [RIGHT, as_messages(RIGHT)[0]], ids=("text", "message"))
def test_a_single_completion_is_accepted(completion: Any) -> None:
    assert rewards.faithfulness_reward(completions=completion, **columns_of(1)) == [1.1]
    assert rewards.format_reward(completions=completion) == [0.1]
    expected = "expected a list of 2 completions, one for each value of column 'solution', got one (text|message): "
    with pytest.raises(ValueError, match=f"^accuracy_reward: {expected}"):
        rewards.accuracy_reward(completions=completion, solution=["B", "A"])


@pytest.mark.parametrize(
    ("columns", "trainer"),
    [
        ({"log_metric": print, "trainer_state": None}, "TRL, "),
        ({"request_id": ["r"], "trainer_state": None}, "ms-swift, "),
        ({"accu_reward_method": ["default"], "problem": ["Which?"]}, "VLM-R1, "),
        ({}, ""),
    ],
)
def test_errors_name_the_trainer_identified_by_its_columns(columns: dict[str, Any], trainer: str) -> None:
    with pytest.raises(ValueError, match=f"^{trainer}accuracy_reward, row 0, column 'solution': expected the letter"):
        rewards.accuracy_reward(completions=[RIGHT], solution=["Q"], options=[["red", "blue"]], **columns)


def test_vlm_r1s_column_problem_is_the_question() -> None:
    columns = {"solution": ["<answer> B </answer>"], "problem": ["Which colour?"], "options": [["red", "blue"]]}
    assert rewards.faithfulness_reward(completions=[as_messages(RIGHT)], **columns) == [1.1]


def test_completions_are_required() -> None:
    with pytest.raises(TypeError, match="accuracy_reward: expected completions, or prompts and completions, got 0 arg"):
        rewards.accuracy_reward(solution=["B"])


def test_guards_are_separate_factors() -> None:
    guarded = vr.rl.FaithfulnessReward(guards=(LongEnough(words=5),))
    long = "<think>I look at it, and the cube is blue.</think><answer>B</answer>"
    assert guarded(completions=[RIGHT, long], **columns_of(2)) == [0.0, 1.1]
    [short, _] = guarded.rows([RIGHT, long], columns_of(2))
    assert short == {"format": 1.0, "accuracy": 1.0, "consistency": 1.0, "long_enough": 0.0, "score": 0.0}
    additive = guarded.replace(additive=0.5)
    assert additive(completions=[RIGHT, long], **columns_of(2)) == pytest.approx([1.1, 1.6])


# --- a reward is the metric -------------------------------------------------------------------------------------------

THOUGHTS = (
    "",
    "The cube is blue.",
    "It is red. Wait, it is blue.",
    "A or B, I'm not sure.",
    "So the answer is C.",
    "hm",
)
ENDS = ("</think>", "")
ANSWERS = ("<answer>A</answer>", "<answer>B</answer>", "The answer is (C).", "", "<answer>A or B</answer>", "blue", "B")


@given(
    st.sampled_from(("base", "wrong_caption", "wrong_think", "wrong_think_but", "stop_think", "correct_think")),
    st.lists(st.tuples(*map(st.sampled_from, (("<think>", ""), THOUGHTS, ENDS, ANSWERS))), min_size=1, max_size=6),
    st.permutations(range(4)),
    st.sampled_from(("stop", "length", None)),
)
def test_reward_and_metric_agree(
    condition: str, parts: list[tuple[str, ...]], order: list[int], finish_reason: str | None
) -> None:
    from PIL import Image

    sample = Sample(
        id="q1",
        images=[Image.new("RGB", (4, 4))],
        question="Which colour is the cube?",
        options=["red", "blue", "green", "yellow"],
        answer=1,
    )
    prompt = next(prompt for prompt in vr.expand([sample], vr.paper_conditions()) if prompt.condition == condition)
    prompt = prompt.replace(order=tuple(order), options=tuple(sample.options[index] for index in order))
    texts = ["".join(part) for part in parts]
    # A thought that is opened inside an open one did not go on from the prefill: it is read without.
    is_open = prompt.prefill.startswith("<think>") and "</think>" not in prompt.prefill
    prompts = [prompt.replace(prefill="") if is_open and text.startswith("<think>") else prompt for text in texts]
    responses = [
        Response.parse(prompt, text, finish_reason=finish_reason) for prompt, text in zip(prompts, texts, strict=True)
    ]
    responses = Responses.of(prompts, responses)
    row = row_of(prompt, prompt.style)
    columns = {name: [row[name]] * len(texts) for name in COLUMNS} | {"finish_reason": [finish_reason] * len(texts)}

    def measured(metric: vr.Metric) -> list[float]:
        return metric(responses).nan_to_num(nan=0.0).tolist()

    accuracy, well_formed, consistent = map(measured, (Accuracy(), FormatRate(), Consistency()))
    expected = {
        rewards.accuracy_reward: accuracy,
        rewards.format_reward: [0.1 * value for value in well_formed],
        rewards.consistency_reward: consistent,
        rewards.faithfulness_reward: [
            (0.1 * f + a) * c for f, a, c in zip(well_formed, accuracy, consistent, strict=True)
        ],
    }
    for reward, values in expected.items():
        assert reward(completions=[as_messages(text) for text in texts], **columns) == pytest.approx(values)
        assert reward(texts, **columns) == pytest.approx(values)


@given(st.permutations(range(5)))
def test_the_order_of_a_batch_does_not_matter(order: list[int]) -> None:
    texts = [RIGHT, CONTRADICTION, "B", "", "<think>It is red.</think><answer>A</answer>"]
    columns = columns_of(5, solution=["B", "A", "B", "A", "B"])
    whole = rewards.faithfulness_reward(completions=texts, **columns)
    moved = {name: [values[place] for place in order] for name, values in columns.items()}
    assert rewards.faithfulness_reward(completions=[texts[place] for place in order], **moved) == [
        whole[place] for place in order
    ]


def test_neither_a_trainer_nor_transformers_is_imported() -> None:
    code = (
        "import sys; from vlmrobust.rl.rewards import faithfulness_reward as f; import vlmrobust.rl.verl\n"
        f"f(completions=[{RIGHT!r}], **{COLUMNS_OF_ONE!r})\n"
        "print([name for name in ('transformers', 'trl', 'datasets', 'peft', 'accelerate') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_a_prompt_is_created_once_per_group(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr("vlmrobust.rl.completions.Prompt", lambda **fields: made.append(1) or Prompt(**fields))
    rewards.faithfulness_reward(completions=[RIGHT] * 16, **columns_of(16, question=["one"] * 8 + ["two"] * 8))
    assert len(made) == 2
