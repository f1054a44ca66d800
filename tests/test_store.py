import json
import math
import os
import platform
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlmrobust import Prompt, Response, Style
from vlmrobust.jsonl import OwnFile, atomic_draft, create_atomically, json_safe, read_lines, write_atomically
from vlmrobust.manifest import Manifest
from vlmrobust.perturbations import Base
from vlmrobust.store import RunDirectory, encode_response
from vlmrobust.testing import FakeModel

MANIFEST = Manifest.of(FakeModel(), [Base()], style=Style(), seed=0, draws=1, batch_size=2)


def opened(path, manifest, samples):
    run = RunDirectory(path, manifest)
    run.begin(samples)
    return run


def responses_to(samples, **fields):
    prompts = [Prompt.of(sample) for sample in samples]
    said = [
        Response(sample_id=prompt.sample.id, condition="base", status="answered", answer=0, **fields)
        for prompt in prompts
    ]
    return prompts, said


@given(
    logprobs=st.lists(st.floats(max_value=0, allow_nan=False), min_size=1, max_size=5),
    entropy=st.none() | st.floats(min_value=0, allow_infinity=False),
    text=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_responses_come_back_from_json_to_the_last_bit(logprobs, entropy, text):
    response = Response(
        sample_id="q1",
        condition="base",
        status="answered",
        answer=0,
        text=text,
        option_logprobs=tuple(logprobs),
        token_entropy=entropy,
    )
    line = json.dumps(encode_response(response), allow_nan=False)
    assert Response.model_validate(json.loads(line)) == response


def test_json_has_no_bare_nan_or_infinity():
    assert json_safe([math.nan, math.inf, -math.inf, 1.5]) == ["NaN", "Infinity", "-Infinity", 1.5]


def test_what_was_recorded_is_finished_in_the_next_run(tmp_path, make_sample):
    samples = [make_sample("a"), make_sample("b"), make_sample("c")]
    prompts, said = responses_to(samples, option_logprobs=(-0.1, -math.inf, -3.0, -4.0))
    with opened(tmp_path, MANIFEST, samples) as run:
        run.record(prompts[:2], said[:2])
        assert run.finished(prompts[0]) is None
    with opened(tmp_path, MANIFEST, samples) as run:
        assert [run.finished(prompt) for prompt in prompts] == [*said[:2], None]


def test_errors_are_kept_as_a_record_and_asked_again(tmp_path, make_sample):
    prompts, said = responses_to([make_sample("a"), make_sample("b")])
    failed = [said[0], Response.failed(prompts[1], "server down")]
    samples = [prompt.sample for prompt in prompts]
    with opened(tmp_path, MANIFEST, samples) as run:
        run.record(prompts, failed)
    assert "server down" in (tmp_path / "responses-000.jsonl").read_text()
    with opened(tmp_path, MANIFEST, samples) as run:
        assert [run.finished(prompt) for prompt in prompts] == [said[0], None]
        run.record(prompts[1:], said[1:])
    with opened(tmp_path, MANIFEST, samples) as run:
        assert [run.finished(prompt) for prompt in prompts] == said


def test_every_line_is_valid_json_of_one_response(tmp_path, make_sample):
    prompts, said = responses_to([make_sample("a"), make_sample("b")], text="line\nend\u2028“…”")
    with opened(tmp_path, MANIFEST, [prompt.sample for prompt in prompts]) as run:
        run.record(prompts, said)
    rows = [row for _, row in read_lines(tmp_path / "responses-000.jsonl")]
    assert [row["response"]["sample_id"] for row in rows] == ["a", "b"]
    assert [row["batch"] for row in rows] == [[0, 2], [1, 2]]


def test_writers_never_share_a_file(tmp_path, make_sample):
    prompts, said = responses_to([make_sample("a"), make_sample("b")])
    samples = [prompt.sample for prompt in prompts]
    with opened(tmp_path, MANIFEST, samples) as one, opened(tmp_path, MANIFEST, samples) as other:
        one.record(prompts[:1], said[:1])
        other.record(prompts[1:], said[1:])
        one.record(prompts[:1], said[:1])
    assert {path.name for path in tmp_path.glob("responses-*")} == {"responses-000.jsonl", "responses-001.jsonl"}
    with opened(tmp_path, MANIFEST, samples) as run:
        assert [run.finished(prompt) for prompt in prompts] == said


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1))
def test_only_an_incomplete_batch_is_dropped(tmp_path_factory, make_sample, cut):
    folder = tmp_path_factory.mktemp("run")
    prompts, said = responses_to([make_sample(name) for name in "abcd"], text="é" * 20)
    samples = [prompt.sample for prompt in prompts]
    with opened(folder, MANIFEST, samples) as run:
        run.record(prompts[:2], said[:2])
        whole = (folder / "responses-000.jsonl").stat().st_size
        run.record(prompts[2:], said[2:])
    path = folder / "responses-000.jsonl"
    written = path.read_bytes()
    kept = whole + round(cut * (len(written) - whole))
    path.write_bytes(written[:kept])
    expected = said if kept == len(written) else [*said[:2], None, None]
    with opened(folder, MANIFEST, samples) as run:
        assert [run.finished(prompt) for prompt in prompts] == expected
        run.record(prompts[2:], said[2:])
    with opened(folder, MANIFEST, samples) as run:
        assert [run.finished(prompt) for prompt in prompts] == said


def test_a_line_that_is_broken_in_the_middle_is_an_error_with_its_place(tmp_path, make_sample):
    prompts, said = responses_to([make_sample("a"), make_sample("b")])
    samples = [prompt.sample for prompt in prompts]
    with opened(tmp_path, MANIFEST, samples) as run:
        run.record(prompts, said)
    path = tmp_path / "responses-000.jsonl"
    path.write_bytes(b"{nonsense\n" + path.read_bytes())
    with pytest.raises(ValueError, match=r"responses-000\.jsonl, line 1: expected JSON, got b'{nonsense'"):
        opened(tmp_path, MANIFEST, samples)
    path.write_text('{"prompt": "x"}\n')
    with pytest.raises(ValueError, match=r"line 1: expected a response, got {'prompt': 'x'}"):
        opened(tmp_path, MANIFEST, samples)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": "Which shape?"}, r"sample 'a', field 'question': expected 'Which colour is the cube\?'"),
        ({"answer": 0}, "sample 'a', field 'answer': expected 1, as recorded in the run, got 0"),
        ({"distractor": 2}, r"sample 'a', field 'distractor': expected None, .* got 2"),
        ({"images": (b"other",)}, r"sample 'a', field 'images\[0\]'"),
        ({"images": (b"other", b"one")}, "sample 'a', field 'images'"),
        ({"texts": {"correct_caption": "Blue."}}, "sample 'a', field 'texts.correct_caption': expected nothing"),
    ],
)
def test_a_changed_sample_under_an_old_id_is_refused(tmp_path, make_sample, changes, message):
    opened(tmp_path, MANIFEST, [make_sample("a", images=(b"one",))]).close()
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, MANIFEST, [make_sample("a", **({"images": (b"one",)} | changes))])


def test_group_and_metadata_may_change_and_samples_may_join(tmp_path, make_sample):
    opened(tmp_path, MANIFEST, [make_sample("a")]).close()
    opened(tmp_path, MANIFEST, [make_sample("a", group="g", metadata={"x": 1}), make_sample("b")]).close()
    opened(tmp_path, MANIFEST, [make_sample("b")]).close()
    known = [row["id"] for path in sorted(tmp_path.glob("samples-*")) for _, row in read_lines(path)]
    assert known == ["a", "b"]


def test_an_image_found_later_is_not_a_change_but_is_recorded(tmp_path, make_sample):
    path = tmp_path / "late.png"
    samples = [make_sample("a", images=(path,))]
    opened(tmp_path / "run", MANIFEST, samples).close()
    path.write_bytes(b"first")
    opened(tmp_path / "run", MANIFEST, samples).close()
    path.write_bytes(b"second")
    with pytest.raises(ValueError, match=r"sample 'a', field 'images\[0\]'"):
        opened(tmp_path / "run", MANIFEST, samples)


def test_another_prompt_under_a_finished_key_is_refused(tmp_path, make_sample):
    prompts, said = responses_to([make_sample("a")])
    with opened(tmp_path, MANIFEST, [prompts[0].sample]) as run:
        run.record(prompts, said)
    with (
        opened(tmp_path, MANIFEST, [prompts[0].sample]) as run,
        pytest.raises(ValueError, match=r"draw 0, field .prompt.: expected .* use another"),
    ):
        run.finished(prompts[0].replace(question="Which shape?"))


def test_another_run_is_refused_and_the_old_one_left_alone(tmp_path, make_sample):
    opened(tmp_path, MANIFEST, [make_sample("a")]).close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="field 'seed': expected 0, as the run was started with, got 1; use another"):
        opened(tmp_path, MANIFEST.replace(seed=1), [make_sample("b")])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_responses_without_a_manifest_are_refused(tmp_path, make_sample):
    (tmp_path / "responses-000.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"expected manifest.json beside responses-000.jsonl, found none"):
        opened(tmp_path, MANIFEST, [make_sample("a")])


def test_an_atomic_write_leaves_no_draft(tmp_path):
    write_atomically(tmp_path / "x.json", "one")
    write_atomically(tmp_path / "x.json", "two")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"x.json": "two"}


def test_an_atomic_write_to_a_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, Path()):
        with pytest.raises(IsADirectoryError, match=r"^expected a file to write to, got the folder '.+'$"):
            write_atomically(folder, "one")
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_names_the_file(tmp_path):
    own = OwnFile(tmp_path, "responses")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*x\.json'$"):
            write_atomically(tmp_path / "x.json", "x" * 2000)
        with pytest.raises(OSError, match=r"File too large: '.*responses-000\.jsonl'$"):
            own.append(["x" * 2000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    own.append(["y"])
    own.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["responses-000.jsonl", "responses-001.jsonl"]
    with pytest.raises(OSError, match=r"^no image$"), atomic_draft(tmp_path / "x.json"):
        raise OSError("no image")


def test_an_atomic_write_makes_the_folders_that_are_not_there(tmp_path):
    path = tmp_path / "new" / "folder" / "x.json"
    write_atomically(path, "one")
    assert [found.name for found in path.parent.iterdir()] == ["x.json"]
    assert path.read_text() == "one"


def test_of_two_that_begin_a_run_at_once_one_creates_the_manifest_and_the_other_joins(tmp_path, monkeypatch):
    other = MANIFEST.replace(started="later", conditions={**MANIFEST.conditions, "new": {"class": "New"}})
    RunDirectory(tmp_path, MANIFEST).close()
    # The second has looked before the first had written.
    monkeypatch.setattr(RunDirectory, "_read_manifest", lambda self: None)
    with RunDirectory(tmp_path, other) as run:
        assert run.manifest.started == MANIFEST.started
        assert set(run.manifest.conditions) == {*MANIFEST.conditions, "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_directory_is_opened_as_it_was_begun_if_nothing_else_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a run, found none"):
        RunDirectory(tmp_path / "none")
    RunDirectory(tmp_path, MANIFEST).close()
    assert RunDirectory(tmp_path).manifest == MANIFEST


def test_files_are_read_in_the_order_in_which_they_were_begun_also_beyond_a_thousand(tmp_path, make_sample):
    prompts, _ = responses_to([make_sample("a")])
    for begun, index in enumerate((999, 1000)):
        failed = Response.failed(prompts[0], f"in file {index}")
        with opened(tmp_path, MANIFEST, [prompts[0].sample]) as run:
            run.record(prompts, [failed])
        (tmp_path / f"responses-{begun:03d}.jsonl").rename(tmp_path / f"responses-{index}.jsonl")
    with opened(tmp_path, MANIFEST, [prompts[0].sample]) as run:
        assert run.finished(prompts[0]) is None
        assert run.recorded(prompts[0]).error == "in file 1000"


def test_a_file_is_created_once(tmp_path):
    assert create_atomically(tmp_path / "x.json", "one")
    assert not create_atomically(tmp_path / "x.json", "two")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"x.json": "one"}


@pytest.mark.parametrize(
    ("content", "got"),
    [(b"", "an empty file"), (b"{}", r"2 bytes: \d validation errors"), (b"\0" * 9, "9 bytes: 1 validation error")],
)
def test_an_invalid_manifest_is_named(tmp_path, content, got):
    (tmp_path / "manifest.json").write_bytes(content)
    for asked in (MANIFEST, None):
        with pytest.raises(ValueError, match=rf"manifest\.json: expected the manifest of a run, got {got}"):
            RunDirectory(tmp_path, asked)


KILLED = """
import os, signal, sys
from pathlib import Path
from vlmrobust import jsonl
os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)
jsonl.write_atomically(Path(sys.argv[1]) / "report.jsonl", "half")
"""


def test_what_a_killed_process_left_of_a_file_is_cleared_away(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    [draft] = tmp_path.iterdir()
    assert draft.name.startswith(".report.jsonl.")
    key = "0123456789abcdef" * 2
    elsewhere, old, older = (
        tmp_path / f".report.jsonl.{rest}" for rest in (f"elsewhere.{os.getpid()}.{key}", key, f"other.1.{key}")
    )
    mine = tmp_path / f".summary.csv.{platform.node()}.{os.getpid()}.{key}"  # another thread of this process writes it
    theirs = tmp_path / ".gitignore"
    for path in (elsewhere, old, older, mine, theirs):
        path.touch()
    for path in (old, older):
        os.utime(path, (0, 0))
    write_atomically(tmp_path / "manifest.json", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"manifest.json", elsewhere.name, mine.name, theirs.name}
