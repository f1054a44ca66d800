"""Register a strategy for samples of every kind, as `st.from_type(Sample)`."""

from hypothesis import strategies as st

from vlmrobust import Sample

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\ue000"), min_size=1, max_size=30).filter(str.strip)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Draw a sample of 2 to 26 options in any script, with 1 to 3 images that are marked in the question or not."""
    options = draw(st.lists(TEXT, min_size=2, max_size=26, unique_by=lambda text: " ".join(text.split())))
    question = draw(TEXT).replace("<image>", "")
    images = [bytes([65 + number]) for number in range(draw(st.integers(1, 3)))]
    marks = "<image>" * len(images) if draw(st.booleans()) else ""
    return Sample(
        id=draw(TEXT),
        images=images,
        question=marks + (question if question.strip() else "Which?"),
        options=[option if "<image>" not in option else f"option {i}" for i, option in enumerate(options)],
        answer=draw(st.integers(0, len(options) - 1)),
    )


st.register_type_strategy(Sample, samples())
