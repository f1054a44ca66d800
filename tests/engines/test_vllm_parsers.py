"""With vLLM's parsers of thoughts the bundled model says what it says in this process."""

from collections.abc import Callable

import pytest
from agreement import agree, ask_served
from serving import Server

from vlmrobust import Report

pytestmark = [
    pytest.mark.engines,
    pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision"),
]

NATS = 1e-3


@pytest.fixture(scope="module", params=["qwen3", "deepseek_r1"])
def server(request: pytest.FixtureRequest, serve_vllm: Callable[..., Server]) -> Server:
    return serve_vllm("--reasoning-parser", request.param)


def test_the_same_is_said(server: Server, expected: Report) -> None:
    agree(ask_served(server), expected, nats=NATS)


def test_the_parser_is_at_work(server: Server) -> None:
    """Otherwise that nothing differs with it would say nothing."""
    from openai import OpenAI

    with OpenAI(base_url=server.url, api_key="key", max_retries=0) as client:
        reply = client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "Which colour?"}], max_tokens=96, temperature=0
        )
    message = reply.choices[0].message.to_dict()
    assert message["reasoning"]
    assert "think>" not in f"{message['reasoning']}{message['content']}"
