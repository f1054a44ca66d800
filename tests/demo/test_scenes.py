"""The demo's scenes and questions: pure functions of small integers, unambiguous, with honest texts."""

import re
import subprocess
import sys

import numpy as np
import pytest

from vlmrobust import Sample
from vlmrobust.demo import samples, scenes

MANY = 1000


@pytest.fixture(scope="module")
def drawn() -> list[tuple[scenes.Scene, scenes.Question]]:
    return [scenes.draw(index) for index in range(MANY)]


def truth(scene: scenes.Scene, text: str) -> set[str]:
    """Answers a question from the scene alone, written anew from its wording."""
    names = [word for word in re.findall(r"[a-z]+", text) if word in scenes.COLOURS or word in scenes.SHAPES]
    placed = {(t.colour, t.shape): i for i, t in enumerate(scene.cells) if t is not None}
    if text.startswith("What colour"):
        return {t.colour for t in scene.things if t.shape == names[0]}
    if text.startswith("Which shape"):
        return {t.shape for t in scene.things if t.colour == names[0]}
    if text.startswith("How many"):
        return {scenes.NUMBERS[sum(names[0] in (t.colour, t.shape) for t in scene.things) - 1]}
    if "relative to" not in text:
        return {scenes.POSITIONS[i] for i, t in enumerate(scene.cells) if t == scenes.Thing(*names)}
    first, second = placed[names[0], names[1]], placed[names[2], names[3]]
    if first // 2 == second // 2:
        return {"left" if first < second else "right"}
    assert first % 2 == second % 2, "a diagonal pair has no single relation"
    return {"above" if first < second else "below"}


def test_the_answer_follows_from_the_scene_and_from_nothing_else(drawn):
    for scene, question in drawn:
        assert truth(scene, question.text) == {question.options[question.answer]}


def test_every_option_is_right_in_the_scene_that_its_thought_describes(drawn):
    for scene, question in drawn:
        assert question.scenes[question.answer] == scene
        for option, (word, other) in enumerate(zip(question.options, question.scenes, strict=True)):
            assert word in truth(other, question.text)
            assert question.thought(option).startswith(other.describe())
            assert question.thought(option).endswith(f" So the answer is {word}.")
            assert re.search(rf"\b{word}\b", question.caption(option))


def test_things_in_questions_are_unique(drawn):
    for scene, question in drawn:
        if question.kind in ("position", "relation"):
            assert len({str(thing) for thing in question.compared}) == len(question.compared)
            for thing in question.compared:
                assert scene.things.count(thing) == 1


def test_options_are_four_different_words_and_letters_are_uniform(drawn):
    for _, question in drawn:
        assert len(set(question.options)) == 4
        assert all(option.isalpha() for option in question.options)
    letters = np.bincount([question.answer for _, question in drawn], minlength=4)
    assert np.abs(letters / MANY - 0.25).max() < 0.05
    counts = [q.options[q.answer] for _, q in drawn if q.kind == "count"]
    assert all(counts.count(number) > 0.15 * len(counts) for number in scenes.NUMBERS)


def test_thoughts_name_no_letter(drawn):
    for _, question in drawn:
        for option in range(4):
            assert not re.search(r"\b[A-D]\b", question.thought(option))


def test_kinds_take_turns_and_samples_do_not_depend_on_how_many_there_are():
    few, more = samples(5, seed=3), samples(12, seed=3)
    assert [sample.metadata["kind"] for sample in few] == list(scenes.KINDS)
    for one, same in zip(few, more, strict=False):
        assert (one.id, one.question, one.options, one.answer, dict(one.texts)) == (
            same.id,
            same.question,
            same.options,
            same.answer,
            dict(same.texts),
        )
    assert [sample.question for sample in few] != [sample.question for sample in samples(5, seed=4)]
    assert len({sample.id for sample in more} | {sample.id for sample in samples(12, seed=4)}) == 24


def test_pixels_are_the_same_every_time_and_differ_between_indices():
    scene, _ = scenes.draw(7)
    one, again, other = (np.asarray(scenes.render(scene, index)) for index in (7, 7, 8))
    assert one.shape == (scenes.IMAGE_SIZE, scenes.IMAGE_SIZE, 3)
    assert (one == again).all()
    assert (one != other).any()


@pytest.mark.parametrize("colour", scenes.COLOURS)
@pytest.mark.parametrize("shape", scenes.SHAPES)
def test_a_shape_stays_in_its_cell_and_shows_its_colour(colour, shape):
    for index, cell in enumerate(range(4)):
        scene = scenes.Scene((None,) * 4).put(cell, scenes.Thing(colour, shape))
        pixels = np.asarray(scenes.render(scene, index)).astype(int)
        background = pixels[0, 0]
        half = scenes.IMAGE_SIZE // 2
        row, column = divmod(cell, 2)
        painted = np.abs(pixels - background).sum(-1) > 60
        inside = painted[row * half : (row + 1) * half, column * half : (column + 1) * half]
        assert inside.sum() == painted.sum() > 300
        centre = np.median(pixels[painted], axis=0)
        nearest = min(scenes.COLOURS, key=lambda name: np.abs(np.array(scenes.COLOURS[name]) - centre).sum())
        assert nearest == colour


def test_training_never_shows_a_scene_that_samples_show():
    asked = {scenes.draw(index)[0] for index in range(300)}
    trained = {scenes.draw(index, split="training")[0] for index in range(300)}
    assert all(scene.is_reserved() for scene in asked)
    assert not any(scene.is_reserved() for scene in trained)


def test_samples_bring_a_text_for_every_wrong_option():
    for sample in samples(10):
        assert isinstance(sample, Sample)
        assert sample.group is None
        wrong = set(range(4)) - {sample.answer}
        assert set(sample.texts["wrong_caption"]) == set(sample.texts["wrong_think"]) == wrong
        assert isinstance(sample.texts["correct_caption"], str)
        assert sample.options[sample.answer] in sample.texts["correct_think"]


@pytest.mark.parametrize(("n", "seed"), [(-1, 0), (1, -1)])
def test_negative_numbers_are_refused(n, seed):
    with pytest.raises(ValueError, match=f"must not be negative, got n={n}, seed={seed}"):
        samples(n, seed)


def test_an_unknown_shape_is_named():
    with pytest.raises(ValueError, match="unknown shape 'blob'; known are circle"):
        scenes.outline("blob")


def test_importing_the_demo_alone_loads_nothing_heavy():
    code = (
        "import sys, importlib.util, types\n"
        "package = types.ModuleType('vlmrobust'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['vlmrobust'] = package\n"
        "import vlmrobust.demo, vlmrobust.demo.scenes\n"
        "loaded = {'torch', 'transformers', 'PIL', 'pydantic'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    folder = str(__import__("pathlib").Path(scenes.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code, folder], check=True)
