import hashlib
import json

import pytest
from PIL import Image

from vlmrobust import Compose, Perturbation, Prompt, Style
from vlmrobust.manifest import Manifest, config_of, first_difference, prompt_digest, sample_content
from vlmrobust.perturbations import AbstainOption, Base, WrongCaption, WrongThink, paper_conditions
from vlmrobust.testing import FakeModel
from vlmrobust.types import Turn


def option_text(prompt, option, rng):
    return f"It is {prompt.sample.options[option]}."


def manifest(*conditions, **changes):
    settings = {"style": Style(), "seed": 0, "draws": 1, "batch_size": 4} | changes
    return Manifest.of(settings.pop("model", FakeModel()), conditions or (Base(), WrongThink()), **settings)


def test_configs_hold_class_fields_and_text_sources_by_name():
    config = config_of(WrongThink(source=option_text, hedge="but") + AbstainOption(text="unsure"))
    assert config["class"] == "vlmrobust.perturbations.base.Compose"
    first, second = config["perturbations"]
    assert first["source"].endswith("test_manifest.option_text")
    assert (first["hedge"], second["text"]) == ("but", "unsure")


def test_configs_tell_compositions_of_equal_names_apart():
    parts = [(WrongCaption(name="x"), AbstainOption(name="y")), (WrongThink(name="x"), AbstainOption(name="y"))]
    left, right = (config_of(Compose(*pair)) for pair in parts)
    assert first_difference(left, right)[0] == "perturbations[0].class"


@pytest.mark.parametrize(
    ("begun", "now", "is_same"),
    [
        ("vlmrobust.perturbations.texts.quotable", "vlmrobust.perturbations.wordings.quotable", True),
        ("vlmrobust.perturbations.distractor.draw_distractor", "vlmrobust.perturbations.texts.draw_distractor", True),
        ("vlmrobust.perturbations.texts.quotable", "vlmrobust.perturbations.wordings.worded", False),
        ("vlmrobust.perturbations.texts.nothing", "vlmrobust.perturbations.wordings.nothing", False),
        ("mine.perturbations.texts.quotable", "mine.perturbations.wordings.quotable", False),
        (None, "vlmrobust.perturbations.wordings.quotable", False),
    ],
)
def test_functions_of_the_package_are_compared_by_their_present_paths(begun, now, is_same):
    assert (first_difference({"source": begun}, {"source": now}) is None) == is_same


def test_a_field_that_json_cannot_hold_is_refused_by_name():
    class Odd(Perturbation):
        thing: object = None

        def perturb(self, prompt, rng):
            return prompt

    with pytest.raises(ValueError, match="condition 'odd', field 'thing': expected a value that JSON can hold"):
        config_of(Odd(thing=object()))


def test_a_manifest_round_trips_through_json():
    begun = manifest(*paper_conditions())
    assert Manifest.model_validate_json(begun.model_dump_json()) == begun
    assert set(begun.versions) >= {"vlmrobust", "torch", "transformers", "python", "tokenizers", "pillow"}


def test_a_number_that_json_has_not_is_the_same_when_it_is_read_again():
    class Endless(FakeModel):
        def identity(self):
            return {"penalty": float("inf")}

    original = manifest(model=Endless())
    assert original.model == {"penalty": "Infinity"}
    assert Manifest.model_validate_json(original.model_dump_json()).joined(manifest(model=Endless())) == original


def test_joining_adds_conditions():
    joined = manifest(Base(), WrongThink()).joined(manifest(Base(), WrongCaption()))
    assert list(joined.conditions) == ["base", "wrong_think", "wrong_caption"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "field 'seed': expected 0, as the run was started with, got 1"),
        (
            {"style": Style(mode="direct")},
            "field 'style.mode': expected 'think', as the run was started with, got 'direct'",
        ),
        ({"model": FakeModel(accuracy=0.5)}, "field 'model.accuracy': expected 0.9, .* got 0.5"),
    ],
)
def test_joining_refuses_another_run(changes, message):
    with pytest.raises(ValueError, match=message):
        manifest().joined(manifest(**changes))


def test_joining_refuses_a_changed_condition_under_an_old_name():
    changed = manifest(Base(), WrongThink(name="wrong_think", hedge="or so"))
    with pytest.raises(ValueError, match=r"field 'conditions.wrong_think.name': expected None, .* got 'wrong_think'"):
        manifest().joined(changed)


def test_batch_size_and_draws_may_change():
    assert manifest().joined(manifest(batch_size=1, draws=3)).batch_size == 4


def test_the_maximum_number_of_draws_is_kept():
    more, less = manifest(draws=3), manifest(draws=2)
    assert (more.joined(less).draws, less.joined(more).draws) == (3, 3)


def test_two_runs_as_one_know_when_the_first_began_and_under_what_versions_both_were_gone_on_with():
    def begun(started, torch, resumed=(), notes=()):
        changes = {"versions": {"torch": torch}, "resumed": resumed, "notes": notes}
        return manifest().replace(started=started, **changes)

    later = begun("2026-02-01T00:00:00+00:00", "2.0", notes=("a note",))
    resumed = ({"started": "2026-01-05T00:00:00+00:00", "versions": {"torch": "1.5"}},)
    earlier = begun("2026-01-01T00:00:00+00:00", "1.0", resumed=resumed, notes=("another",))
    merged = later.merged(earlier)
    assert (merged.started, merged.versions) == ("2026-01-01T00:00:00+00:00", {"torch": "2.0"})
    assert [entry["versions"]["torch"] for entry in merged.resumed] == ["1.0", "1.5"]
    assert merged.notes == ("a note", "another")


def test_the_first_difference_is_found_in_nested_values():
    assert first_difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == ("a[1].b", "2", "3")
    assert first_difference({"a": 1}, {"a": 1, "b": 2}) == ("b", "nothing", "2")
    assert first_difference({"a": [1]}, {"a": [1, 2]}) == ("a", "[1]", "[1, 2]")
    assert first_difference({"a": 1}, {"a": 1}) is None


def test_sample_content_knows_images_by_what_they_show(make_sample, tmp_path):
    path = tmp_path / "red.png"
    Image.new("RGB", (8, 8), "red").save(path)
    renamed = path.rename(tmp_path / "other.png")
    content = sample_content(make_sample(images=[renamed, tmp_path / "missing.png"]))
    assert len(content["images"][0]) == 64
    assert content["images"][1] is None
    assert sample_content(make_sample(images=[renamed.read_bytes()]))["images"] == content["images"][:1]
    json.dumps(content)


@pytest.mark.parametrize(
    "change",
    [
        {"question": "Which shape?"},
        {"context": "A photo."},
        {"prefill": "<think>"},
        {"history": (Turn(role="assistant", text="B"), Turn(role="user", text="Are you sure?"))},
        {"order": (1, 0, 2, 3)},
        {"asserted": 2},
        {"images": (Image.new("RGB", (56, 56), "blue"),)},
    ],
)
def test_prompt_digests_differ_with_what_is_shown(make_sample, change):
    prompt = Prompt.of(make_sample())
    images = sample_content(prompt.sample)["images"]
    assert prompt_digest(prompt, images) == prompt_digest(Prompt.of(make_sample()), images)
    assert prompt_digest(prompt.replace(**change), images) != prompt_digest(prompt, images)


def test_a_prompt_without_a_history_has_the_digest_that_it_had_before_there_was_one(make_sample):
    prompt = Prompt.of(make_sample())
    fields = ("context", "question", "options", "order", "prefill", "distractor", "asserted")
    content = json.loads(prompt.model_dump_json(include=set(fields)))
    known = sample_content(prompt.sample)["images"]
    encoded = json.dumps({**content, "images": known}, sort_keys=True)
    assert prompt_digest(prompt, known) == hashlib.blake2b(encoded.encode(), digest_size=16).hexdigest()


def test_a_run_whose_style_was_recorded_before_a_field_goes_on_where_it_was_asked_the_same():
    plain = manifest()
    older = plain.replace(style={name: value for name, value in plain.style.items() if "thought" not in name})
    assert len(older.style) < len(plain.style)
    assert older.joined(plain).style == older.style
    assert plain.joined(older).style == plain.style
    with pytest.raises(ValueError, match=r"field 'style.template_opens_thought': expected False, .* got True"):
        older.joined(manifest(style=Style(template_opens_thought=True)))


@pytest.mark.parametrize("home", ["vlmrobust.perturbations.earlier", "vlmrobust.perturbations"])
def test_a_class_is_the_same_in_whichever_module_of_ours_it_was(home):
    now = manifest(Base(), WrongThink())
    configs = {**now.conditions, "wrong_think": {**now.conditions["wrong_think"], "class": f"{home}.WrongThink"}}
    begun = now.replace(conditions=configs)
    assert begun.joined(now).conditions == now.conditions
    other = now.replace(conditions={**configs, "wrong_think": {**configs["wrong_think"], "class": f"{home}.Other"}})
    with pytest.raises(ValueError, match=r"field 'conditions.wrong_think.class': .*Other"):
        other.joined(now)
    ones_own = now.replace(
        conditions={**configs, "wrong_think": {**configs["wrong_think"], "class": "my.a.WrongThink"}}
    )
    with pytest.raises(ValueError, match=r"field 'conditions.wrong_think.class': .*my.a.WrongThink"):
        ones_own.joined(now)
