"""How much engines are asked, in whatever environment."""

__all__ = ["JUDGED", "SAMPLES", "TOKENS"]

SAMPLES = 20
TOKENS = 96

JUDGED = [
    ("Which colour?", ("red", "blue"), "The cube is red, so it is A.", "ABC"),
    ("Which colour?", ("red", "blue", "green", "yellow"), "I see a green cube. " * 20, "ABCDE"),
    ("How many?", ("one", "two", "three"), "There are two.", "0123"),
    ("Where is it?", ("left", "right", "above"), "Hm.", "PQRS"),
]
"""Question, options, thought and letters, the options' and one for none of them."""
