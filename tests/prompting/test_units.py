"""Values with units: another unit is another value."""

import pytest

from vlmrobust.prompting import parse_completion

LENGTHS = ("1.5 m", "2.5 m")
AREAS = ("$12 \\mathrm{~cm}^{2}$", "$24 \\mathrm{~cm}^{2}$")


@pytest.mark.parametrize("frame", ["{}", "The answer is {}.", "<think>x</think>{}", "<answer>{}</answer>"])
@pytest.mark.parametrize(
    ("said", "options", "answer"),
    [
        ("1.5 cm", LENGTHS, None),
        ("\\boxed{1.5\\text{ cm}}", LENGTHS, None),
        ("5 kg", ("5 g", "6 g"), None),
        ("30°F", ("30°C", "40°C"), None),
        ("10 km/h", ("10 km", "20 km"), None),
        ("10 km", ("10 km/h", "20 km/h"), None),
        ("5 m/s²", ("5 m/s", "6 m/s"), None),
        ("12 cm", AREAS, None),
        ("10 billion", ("10 million", "20 million"), None),
        ("3 pm", ("3 am", "4 am"), None),
        ("1.5", LENGTHS, 0),
        ("1.5 meters", LENGTHS, 0),
        ("1.5 metres", ("1.5 cm", "1.5 m", "2 m"), 1),
        ("12 cm²", AREAS, 0),
        ("12 cm^2", AREAS, 0),
        ("5 m s^{-1}", ("5 m/s", "6 m/s"), 0),
        ("60 km per hour", ("60 km/h", "70 km/h"), 0),
        ("30°C", ("30°", "60°"), 0),
        ("30 degrees", ("30°C", "40°C"), 0),
        ("12 N·m", ("12 Nm", "24 Nm"), 0),
        ("5 cm", ("5", "5 cm"), 1),
        ("6 m (A)", ("5 m", "6 m"), None),
    ],
)
def test_unit_of_a_value(frame, said, options, answer):
    assert parse_completion(frame.format(said), options=options).answer == answer


def test_letter_after_a_value_is_no_unit():
    turn = "<answer>The value is 7 m, so C</answer>"
    assert parse_completion(turn, options=("5 m", "6 m", "7 m")).answer == 2
