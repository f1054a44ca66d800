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
        ("70 miles an hour", ("60 mi/h", "70 mi/h"), 1),
        ("20 ms^{-1}", ("10 m/s", "20 m/s"), 1),
        ("24 cm**2", ("12 cm²", "24 cm²"), 1),
        ("50 per cent", ("25%", "50%"), 1),
        ("5 cm^3", ("5 mL", "5 cm³"), 1),
        ("5 milliliters", ("5 mL", "5 cm³"), 0),
        ("20 m3", ("10 m³", "20 m³"), 1),
        ("0.5 g/cm3", ("0.5 g/cm³", "0.6 g/cm³"), 0),
    ],
)
def test_unit_of_a_value(frame, said, options, answer):
    assert parse_completion(frame.format(said), options=options).answer == answer


@pytest.mark.parametrize("frame", ["<think>x</think>{}", "The answer is {}.", "<answer>{}.</answer>"])
@pytest.mark.parametrize(
    ("said", "options", "answer"),
    [
        ("3 days per week", ("3 days", "5 days"), 0),
        ("3 days", ("3 days per week", "5 days per week"), 0),
        ("90° per second", ("45°", "90°"), 1),
        ("25 cents per apple", ("25 cents", "50 cents"), 0),
        ("5 kg per day", ("5 kg", "6 kg"), 0),
        ("5 km pro Stunde", ("5 km/h", "10 km/h"), 0),
        ("5 million dollars", ("5 million", "6 million"), 0),
        ("5 million dollars", ("$5 million", "$6 million"), 0),
        ("5 million dollars", ("5 billion", "6 billion"), None),
        ("$50k", ("50 thousand dollars", "60 thousand dollars"), None),
    ],
)
def test_rates_and_large_numbers(frame, said, options, answer):
    assert parse_completion(frame.format(said), options=options).answer == answer


@pytest.mark.parametrize("frame", ["<think>x</think>{}", "The answer is {}.", "<answer>{}.</answer>"])
@pytest.mark.parametrize(
    ("said", "unit", "is_equal"),
    [
        ("5 cm³", "mL", True),
        ("5 N·m", "J", True),
        ("5 mg/mL", "g/L", True),
        ("5 J", "kJ", False),
        ("5 J/s", "W", True),
        ("5 s^{-1}", "Hz", True),
        ("5 mol dm⁻³", "mol/L", True),
        ("5 mol dm⁻³", "mol", False),
        ("5 J/kg/K", "J/kg·K", True),
        ("5 J/(kg·K)", "J/kg·K", True),
        ("5 J/kg·°C", "J/kg·K", True),
        ("5 N/kg", "m/s²", True),
        ("5 N", "N·m", False),
        ("5 months", "min", False),
        ("5 euros", "dollars", False),
    ],
)
def test_units_of_other_names(frame, said, unit, is_equal):
    answer = parse_completion(frame.format(said), options=(f"5 {unit}", f"6 {unit}")).answer
    assert answer == (0 if is_equal else None)


@pytest.mark.parametrize("frame", ["<think>x</think>{}", "The answer is {}.", "<answer>{}</answer>"])
@pytest.mark.parametrize(
    ("said", "options", "answer"),
    [
        ("2 hours 30 minutes", ("2 h 30 min", "3 h", "2 h"), None),
        ("2 h 30 min", ("2 h 30 min", "3 h", "2 h"), 0),
        ("2 hours and 30 minutes", ("2 hours", "2.5 hours"), None),
        ("5 feet 6 inches", ("5 ft", "6 ft"), None),
        ("2 hours", ("2 h 30 min", "3 h", "2 h"), 2),
        ("3 h, on 4 trains", ("2 h", "3 h"), 1),
        ("3 m and 40 kg", ("3 m", "4 m"), 0),
    ],
)
def test_value_in_two_units(frame, said, options, answer):
    assert parse_completion(frame.format(said), options=options).answer == answer


@pytest.mark.parametrize(
    ("turn", "options", "answer"),
    [
        ("<think>x</think>5 m", ("3", "5", "7"), 1),
        ("<answer>12 cm2, because it is 3 by 4</answer>", ("12 cm²", "24 cm²"), 0),
        ("<answer>It is 20 m3.</answer>", ("10 m³", "20 m³"), 1),
        ("<answer>5 - C</answer>", ("3 m", "4 m", "5 m"), 2),
        ("<answer>3 - C</answer>", ("3 m", "4 m", "5 m"), None),
        ("<answer>5 - C</answer>", ("5°C", "6°C", "7°C"), None),
    ],
)
def test_letters_and_digits_at_units(turn, options, answer):
    assert parse_completion(turn, options=options).answer == answer


def test_letter_after_a_value_is_no_unit():
    turn = "<answer>The value is 7 m, so C</answer>"
    assert parse_completion(turn, options=("5 m", "6 m", "7 m")).answer == 2
