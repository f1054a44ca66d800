"""Clauses that state an answer, alternatives and negations."""

import pytest

from vlmrobust.prompting import parse_completion

COLOURS = ("red", "blue", "green", "yellow")
TRIO = ("yes", "no", "all")


@pytest.mark.parametrize("frame", ["<think>x</think>{}", "<think>x</think><answer>{}</answer>"])
@pytest.mark.parametrize(
    ("said", "options", "answer"),
    [
        ("The answer is yes", TRIO, 0),
        ("It is no", TRIO, 1),
        ("There are no cubes", TRIO, None),
        ("Yes and no.", TRIO, None),
        ("yes or no", TRIO, None),
        ("It is between 3 and 5.", ("3", "5"), None),
        ("It is 3, between 2 boxes.", ("3", "5"), 0),
        ("A/C", COLOURS, None),
        ("A or maybe B", COLOURS, None),
        ("A cube, and it is blue", COLOURS, 1),
        ("The answers are A and C.", COLOURS, None),
        ("anything but C", COLOURS, None),
        ("Not red but green", COLOURS, 2),
        ("It is all but certain that it is B", COLOURS, 1),
        ("A. ✗\nB. ✓\nC. ✗", COLOURS, None),
        ("A) wrong B) right", COLOURS, None),
        ("(B) not the red one", COLOURS, 1),
        ("No - there is none", TRIO, 1),
        ("The answer is yes because it is red", TRIO, 0),
        ("yes because it is red", TRIO, 0),
        ("There is no cube", TRIO, None),
        ("(A) Wrong way", ("Wrong way sign", "Stop sign"), 0),
        ("(A) wrong because it is dark", COLOURS, None),
    ],
)
def test_short_answers(frame, said, options, answer):
    assert parse_completion(frame.format(said), options=options).answer == answer


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ('{"final_answer": "B"}', 1),
        ("The cube is blue.\nAns: B", 1),
        ("It is dark. My best guess is B.", 1),
        ("My choice is (B).", 1),
        ("B is my final answer.", 1),
        ("The cube is blue. Answer ⇒ B", 1),
        ("The fans: B is loud.", None),
        ("Possible answers are: red, blue.", None),
        ("At first, my guess is A. Looking closer, the answer is C.", 2),
        ("My guess is A. Looking closer, it is C.", None),
        ("My pick is A. The cube is red.", 0),
        ("My choice is A. But the answer is C.", 2),
        ("最亮的选项是D，问题问最暗的，故答案是B。", 1),
        ("最合适的选项是D。", 3),
        ("类别选B", 1),
        ("性别选择B", 1),
        ("别选A，选C", 2),
        ("请别选A", None),
        ("未选A", None),
        ("无法选A", None),
        ("不建议选A，建议选B", 1),
    ],
)
def test_clauses_that_announce_an_answer(said, answer):
    assert parse_completion(said, options=COLOURS).answer == answer
