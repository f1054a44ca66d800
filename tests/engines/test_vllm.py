"""The bundled model behind vLLM says what it says in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from agreement import agree, ask_served, goes_on_after_a_kill
from serving import Server

from vlmrobust import Report

pytestmark = [
    pytest.mark.engines,
    pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision"),
]

PLAIN = ""
PARSERS = ("qwen3", "deepseek_r1")
NATS = 1e-3


@pytest.fixture(scope="module", params=[PLAIN, *PARSERS], ids=lambda parser: parser or "plain")
def server(
    request: pytest.FixtureRequest,
    python_of: Callable[[str], Path],
    weights: Path,
    serving: Callable[..., Server],
) -> Server:
    options = {
        "--model": weights,
        "--served-model-name": "demo",
        "--host": "127.0.0.1",
        "--port": "{port}",
        "--dtype": "float32",
        "--max-model-len": "4096",
        "--generation-config": "vllm",
        "--block-size": "32",
        **({"--reasoning-parser": request.param} if request.param else {}),
    }
    flags = ["--enforce-eager", "--enable-prompt-tokens-details"]
    env = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    settings = [part for option in options.items() for part in option]
    return serving([python_of("vllm"), "-m", "vllm.entrypoints.openai.api_server", *settings, *flags], env)


def test_the_same_is_said(server: Server, expected: Report) -> None:
    agree(ask_served(server), expected, nats=NATS)


@pytest.mark.parametrize("server", PARSERS, indirect=True)
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


@pytest.mark.parametrize("server", [PLAIN], indirect=True, ids=["plain"])
def test_a_run_goes_on_after_the_server_was_killed(server: Server, tmp_path: Path) -> None:
    goes_on_after_a_kill(server, tmp_path, nats=NATS)
