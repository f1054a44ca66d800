"""What is secret, where it is hidden, and what is left as it is."""

import base64
import gc
import logging
from typing import Any

import pytest

from vlmrobust.secrecy import (
    Secrets,
    error_message,
    error_text,
    is_secret_name,
    keep_out_of_logs,
    may_hold_a_secret,
    variable_shown,
    without_secrets,
)

KEY = "sk-MARKED/0123+xyz="


@pytest.mark.parametrize(
    "name",
    ["api_key", "apiKey", "API-KEY", "X-Api-Key", "key", "accessToken", "auth_token", "Authorization", "client_secret",
     "password", "db.password", "Cookie", "credentials", "subscription-key", "openai_apikey", "secrets", "sig"],
)  # fmt: skip
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["max_tokens", "eos_token", "stop_token", "api_key_env", "model",
      "top_k", "tokenizer", "keyboard", "keys_only", ""]
)  # fmt: skip
def test_names_that_tell_nothing(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"a": [{"token": "x"}, {"b": 1}]}, {"a": [{}, {"b": 1}]}),
        ({"heads": [["X-Api-Key", KEY], ["Accept", "json"]]}, {"heads": [["X-Api-Key", "[key]"], ["Accept", "json"]]}),
        ({"headers": [{"name": "Authorization", "value": KEY}]}, {"headers": [{"name": "Authorization"}]}),
        ("https://me:pass@host:8000/v1", "https://host:8000/v1"),
        ("https://host/v1?a=b&api-key=x&c=", "https://host/v1?a=b&c="),
        ("https://host/v1?a=%20b", "https://host/v1?a=%20b"),
        ("call https://host/v1?sig=abc now", "call https://host/v1?sig=[key] now"),
        ({"n": 3, "f": 0.5, "none": None, "flag": True}, {"n": 3, "f": 0.5, "none": None, "flag": True}),
        ("http://[broken", "http://[broken"),
    ],
)  # fmt: skip
def test_secrets_are_removed_from_settings(settings: Any, left: Any) -> None:
    assert without_secrets(settings) == left


WAYS = {
    "plain": f"Incorrect API key provided: {KEY}.",
    "in a word": f"x{KEY}y",
    "URL-encoded": "GET /v1?k=sk-MARKED%2F0123%2Bxyz%3D HTTP/1.1",
    "in lower case": "sk-marked%2f0123%2bxyz%3d",
    "escaped for HTML": f"<b>{KEY}</b>",
    "a header": f"Illegal header value b'Bearer {KEY}'",
    "JSON in JSON": '{"error": "{\\"api_key\\": \\"' + KEY + '\\"}"}',
    "URL-encoded twice": "next=%2Fv1%3Fk%3Dsk-MARKED%252F0123%252Bxyz%253D",
    "cut off": f"expected a completion, got ChatCompletion(error='{KEY[:-3]}",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_key_is_hidden_in_all_spellings(way: str) -> None:
    hidden = Secrets.of(KEY).hidden(WAYS[way])
    assert "MARKED" not in hidden.upper()
    assert "[key]" in hidden


@pytest.mark.parametrize(
    "key",
    ["EMPTY", "x", "any", "None", "dummy", "token-abc123", "sk-no-key-required", "key", "abc", "", None],
)
def test_placeholders_are_not_secrets(key: str | None) -> None:
    text = "expected any token-abc123 for EMPTY x, got None: a dummy key, sk-no-key-required, abc"
    assert Secrets.of(key).hidden(text) == text


def test_a_short_key_is_hidden_only_as_a_word() -> None:
    secrets = Secrets.of("pect")
    assert secrets.hidden("expected pect, got pect%26a=pect") == "expected [key], got [key]%26a=[key]"
    assert secrets.hidden("k=%26pect \\npect") == "k=%26[key] \\n[key]"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("POST https://u:p@host/v1 failed", "POST https://[key]@host/v1 failed"),
        ("at /v1/chat?api-key=abc123&x=1", "at /v1/chat?api-key=[key]&x=1"),
        ("at %3Fapi-key%3Dabc123%26x", "at %3Fapi-key%3D[key]%26x"),
        ("Authorization: Bearer abc-123-def", "Authorization: Bearer [key]"),
        ("{'api_key': 'abcdefgh'}", "{'api_key': '[key]'}"),
        ("field 'api_key': expected an environment variable", "field 'api_key': expected an environment variable"),
        ("is the answer key: 'B'?", "is the answer key: 'B'?"),
        ("options='api_key=sk-abc-XY1'", "options='api_key=[key]'"),
        ("token 'Basic Ym9iOnN3b3JkMQ==' unknown", "token 'Basic [key]' unknown"),
        ("a basic explanation of 3dimensional shapes", "a basic explanation of 3dimensional shapes"),
        ("mail me@host, or https://host/a?b=c", "mail me@host, or https://host/a?b=c"),
    ],
)
def test_secrets_are_hidden_by_position_in_errors(text: str, told: str) -> None:
    assert error_text(ValueError(text)) == f"ValueError: {told}"


def test_secrets_are_found_in_settings() -> None:
    settings = {
        "headers": {"Authorization": "Bearer marked-1111"},
        "body": [{"provider": {"api_key": ["marked-2222"]}}],
        "address": "https://user:marked-3333@host/v1?subscription-key=marked%2F4444&version=2",
    }
    assert Secrets.of(settings=settings).values == {
        "marked-1111", "marked-2222", "marked-3333", "user:marked-3333", "marked/4444",
    }  # fmt: skip


def test_the_cause_of_an_error_is_shown_without_secrets() -> None:
    error = ConnectionError("no connection")
    error.__cause__ = OSError(f"refused {KEY}")
    assert Secrets.of(KEY).error_text(error) == "ConnectionError: no connection (refused [key])"


def test_held_secrets_are_hidden_by_whoever_tells_an_error() -> None:
    with Secrets.of("another-marked-key").held(), Secrets.of(KEY).held():
        assert error_message(ValueError(f"{KEY} and another-marked-key")) == "[key] and [key]"
    assert error_message(ValueError("another-marked-key")) == "another-marked-key"


def test_an_error_that_cannot_be_shown() -> None:
    class Silent(Exception):  # noqa: N818 - a name is no matter here
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert error_text(Silent()) == "Silent: (its text cannot be shown: RuntimeError)"


def test_secrets_are_kept_out_of_logs_while_held(caplog: pytest.LogCaptureFixture) -> None:
    secrets = Secrets.of(KEY)
    keep_out_of_logs(secrets)
    logger = logging.getLogger(f"a_client_of_{id(secrets)}.http2")  # made later, under a name that nobody knows
    with caplog.at_level(logging.DEBUG):
        logger.info("HTTP Request: POST %s", f"http://host?k={KEY}")
        try:
            raise ValueError(KEY)
        except ValueError:
            logger.exception("failed")
    assert "MARKED" not in caplog.text
    assert caplog.text.count("[key]") == 2
    del secrets
    gc.collect()
    caplog.clear()
    logger.error("%s", KEY)
    assert KEY in caplog.text


@pytest.mark.parametrize("name", ["sk-0123", "AKIAIOSFODNN7EXAMPLE", "0123456789abcdef", "my_key"])
def test_a_key_in_the_place_of_its_variable_is_not_repeated(name: str) -> None:
    assert name not in variable_shown(name)
    assert variable_shown("TEAM_API_KEY") == "'TEAM_API_KEY'"


def test_each_of_two_equal_secrets_is_kept_out_of_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Two clients with one key: the one that stays is watched when the other is gone."""
    first, second = Secrets.of(KEY), Secrets.of(KEY)
    keep_out_of_logs(first)
    keep_out_of_logs(second)
    del first
    gc.collect()
    logging.getLogger("somebody").error("sent %s", KEY)
    assert caplog.messages == ["sent [key]"]
    assert second.values == {KEY}


def test_other_logs_are_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    secrets = Secrets.of(KEY)
    keep_out_of_logs(secrets)
    logging.getLogger("somebody").error("token=%s of %d", "theirs-1234", 3)
    [record] = caplog.records
    assert (record.msg, record.args) == ("token=%s of %d", ("theirs-1234", 3))
    assert secrets.values


def test_a_log_that_was_made_otherwise_is_watched_too(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody else sets how records are made; the next client sees to it."""
    before = logging.getLogRecordFactory()
    try:
        logging.setLogRecordFactory(logging.LogRecord)
        secrets = Secrets.of(KEY)
        keep_out_of_logs(secrets)
        keep_out_of_logs(secrets)
        assert logging.getLogRecordFactory().make is logging.LogRecord  # type: ignore[attr-defined]
        logging.getLogger("somebody").error(KEY)
    finally:
        logging.setLogRecordFactory(before)
    assert caplog.messages == ["[key]"]


HEADERS = {
    "of the address": "Bad credentials: Basic {}",
    "without its scheme": "unknown user {}",
    "in a sentence": "token Basic {} unknown",
    "quoted": "header Authorization was 'Basic {}'",
    "within more base64": "{more}",
    "cut off": "got {cut}…",
}


@pytest.mark.parametrize("way", HEADERS)
def test_what_a_client_makes_of_the_address_is_hidden(way: str) -> None:
    """The client sends a user and a password of the address as `Basic` and their base64."""
    pair = "bobby:sword-MARKED-fishy"
    coded = base64.b64encode(pair.encode()).decode()
    more = base64.b64encode(f"authorization={pair}; x".encode()).decode()
    hidden = Secrets.of(settings=f"https://{pair}@host/v1").hidden(
        HEADERS[way].format(coded, more=more, cut=coded[:-6])
    )
    assert coded[8:-6] not in hidden
    assert "[key]" in hidden
    for shift in range(3):  # nothing of the middle of the password is left, wherever it stood
        assert base64.b64encode(b"0" * shift + b"ord-MARKED-fis")[4:16].decode() not in hidden


def test_a_header_of_ones_own_is_known_by_what_it_says() -> None:
    coded = base64.b64encode(b"bobby:sword-MARKED").decode()
    found = Secrets.of(settings={"Authorization": f"Basic {coded}"})
    assert found.values == {coded, "bobby:sword-MARKED", "sword-MARKED"}
    assert Secrets.of(settings={"Authorization": "Basic no base64!"}).values == {"no base64!"}


@pytest.mark.parametrize("word", ["vllm", "password", "1234", "secret", "model"])
def test_everyday_words_for_a_key_are_left_in_sentences(word: str) -> None:
    text = f"expected the {word} of a server, got none"
    assert Secrets.of(word).hidden(text) == text


def test_names_under_which_a_key_may_be_given_by_mistake() -> None:
    given = ("api_key_env", "api-key-env", "apikeyenv", "api_key", "env", "model")
    assert [may_hold_a_secret(name) for name in given] == [True, True, True, True, False, False]


def test_pydantics_links_are_left_out() -> None:
    from pydantic import TypeAdapter, ValidationError

    with pytest.raises(ValidationError) as refused:
        TypeAdapter(list[int]).validate_python(["a", "b"])
    told = error_text(refused.value)
    assert told.count("Input should be a valid integer") == 2
    assert "errors.pydantic.dev" not in told
