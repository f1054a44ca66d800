"""What is secret, where it is hidden, and what is left as it is."""

import logging
from typing import Any

import pytest

from vlmrobust.secrecy import Secrets, error_message, error_text, is_secret_name, variable_shown, without_secrets

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
def test_settings_lose_what_is_secret(settings: Any, left: Any) -> None:
    assert without_secrets(settings) == left


WAYS = {
    "plain": f"Incorrect API key provided: {KEY}.",
    "in a word": f"x{KEY}y",
    "URL-encoded": "GET /v1?k=sk-MARKED%2F0123%2Bxyz%3D HTTP/1.1",
    "in lower case": "sk-marked%2f0123%2bxyz%3d",
    "escaped for HTML": f"<b>{KEY}</b>",
    "a header": f"Illegal header value b'Bearer {KEY}'",
    "JSON in JSON": '{"error": "{\\"api_key\\": \\"' + KEY + '\\"}"}',
    "cut off": f"expected a completion, got ChatCompletion(error='{KEY[:-3]}",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_key_is_hidden_however_it_is_written(way: str) -> None:
    hidden = Secrets.of(KEY).hidden(WAYS[way])
    assert "MARKED" not in hidden.upper()
    assert "[key]" in hidden


@pytest.mark.parametrize(
    "key",
    ["EMPTY", "x", "any", "None", "dummy", "token-abc123", "sk-no-key-required", "key", "abc", "", None],
)
def test_placeholders_are_no_secrets(key: str | None) -> None:
    text = "expected any token-abc123 for EMPTY x, got None: a dummy key, sk-no-key-required, abc"
    assert Secrets.of(key).hidden(text) == text


def test_a_short_key_is_hidden_as_a_word_alone() -> None:
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
        ("mail me@host, or https://host/a?b=c", "mail me@host, or https://host/a?b=c"),
    ],
)
def test_what_stands_where_secrets_do_is_hidden_in_every_error(text: str, told: str) -> None:
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


def test_the_cause_of_an_error_is_told_without_them() -> None:
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


def test_logs_have_none_as_long_as_they_are_held(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("marked_client.http")
    secrets = Secrets.of(KEY)
    secrets.keep_out_of_logs("marked_client")
    with caplog.at_level(logging.DEBUG):
        logger.info("HTTP Request: POST %s", f"http://host?k={KEY}")
        try:
            raise ValueError(KEY)
        except ValueError:
            logger.exception("failed")
    assert "MARKED" not in caplog.text
    assert caplog.text.count("[key]") == 2
    del secrets
    caplog.clear()
    logger.error("%s", KEY)
    assert KEY in caplog.text


@pytest.mark.parametrize("name", ["sk-0123", "AKIAIOSFODNN7EXAMPLE", "0123456789abcdef", "my_key"])
def test_a_key_in_the_place_of_its_variable_is_not_repeated(name: str) -> None:
    assert name not in variable_shown(name)
    assert variable_shown("TEAM_API_KEY") == "'TEAM_API_KEY'"
