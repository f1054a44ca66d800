"""Samples that differ in whatever classes are known to trip over."""

from ..types import Sample

__all__ = ["varied_samples"]


def varied_samples() -> list[Sample]:
    """Return samples with 2, 3, 4 and 26 options, foreign letters, quotation marks, several images and a group.

    Example:
        >>> sorted(len(sample.options) for sample in varied_samples())
        [2, 3, 4, 4, 26]
    """
    from PIL import Image

    def image(colour: str) -> "Image.Image":
        return Image.new("RGB", (56, 56), colour)

    return [
        Sample(
            id="colour", images=[image("red")], question="Which colour is the cube?", options=["red", "blue"], answer=0
        ),
        Sample(
            id="unicode",
            images=[image("green")],
            question="Wo liegt „das größte“ Stück — 左 oder 右? 🙂",
            options=["links, 左", "rechts, 右", "oben 🙂", "außen"],
            answer=2,
            group="pieces",
            metadata={"category": "position"},
        ),
        Sample(
            id="nested options",
            images=[image("blue"), image("white")],
            question='Which of the two says "A or B"?',
            options=["the first", "the first and the second", "neither"],
            answer=1,
            group="pieces",
        ),
        Sample(
            id="all letters",
            images=[image("black")],
            question="How many dots are there?",
            options=[str(count) for count in range(26)],
            answer=25,
        ),
        Sample(
            id="given texts",
            images=[image("yellow")],
            question="What is on the table?",
            options=["a cup", "a book", "a lamp", "nothing"],
            answer=3,
            distractor=1,
            texts={
                "wrong_caption": "A photo of a book on a table.",
                "correct_caption": "A photo of an empty table.",
                "wrong_think": "There is a book on the table.",
                "correct_think": "The table is empty.",
            },
        ),
    ]
