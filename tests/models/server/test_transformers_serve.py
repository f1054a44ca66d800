"""The bundled model behind `transformers serve`, a real server, answers as it does in process."""

import socket
import threading
from pathlib import Path

import pytest

from vlmrobust import OpenAIModel, demo, expand
from vlmrobust.perturbations import StopThink, WrongCaption, WrongThink
from vlmrobust.rl import continue_prefill

pytest.importorskip("transformers.cli.serve", reason="transformers serve came with transformers 5")

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision")

WEIGHTS = Path(demo.__file__).parent / "weights"
TOKENS = 64


@pytest.fixture(scope="module")
def url():
    """Serve in this process, which has done the imports already."""
    import uvicorn
    from transformers.cli.serve import Serve

    up = threading.Event()
    startup = uvicorn.Server.startup

    async def tell(self, *arguments, **options):
        await startup(self, *arguments, **options)
        up.set()

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.Server, "startup", tell)
        serve = Serve(host="127.0.0.1", port=port, device="cpu", dtype="float32", non_blocking=True, log_level="error")
        assert up.wait(60)
    yield f"http://127.0.0.1:{port}/v1"
    serve.kill_server()


@pytest.fixture(scope="module")
def prompts():
    return list(expand(demo.samples(2), [WrongThink(), StopThink(), WrongCaption()], seed=0))


@pytest.fixture(scope="module")
def expected(prompts):
    return demo.model(generation={"max_new_tokens": TOKENS}).respond(prompts)


def ask(url, name, prompts):
    model = OpenAIModel(str(name), url, "key", generation={"max_tokens": TOKENS}, concurrency=2, max_retries=0)
    responses = model.respond(prompts)
    model._client.close()
    return responses


def test_prompts_without_prefill_have_the_same_responses(url, prompts, expected):
    for prompt, response, other in zip(prompts, ask(url, WEIGHTS, prompts), expected, strict=True):
        assert response.status != "error", response.error
        assert response.carrier == ("user_text" if prompt.prefill else "assistant_prefill")
        if not prompt.prefill:
            assert (response.text, response.answer, response.status) == (other.text, other.answer, other.status)
            assert response.n_tokens == other.n_tokens
        assert response.option_logprobs is None  # the server returns none


def test_with_a_template_that_leaves_the_turn_open_prefilled_responses_are_the_same(url, prompts, expected, tmp_path):
    for file in WEIGHTS.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "chat_template.jinja").unlink()
    from transformers import AutoProcessor

    wrapped = continue_prefill(AutoProcessor.from_pretrained(WEIGHTS))
    (tmp_path / "chat_template.jinja").write_text(wrapped.chat_template)
    for prompt, response, other in zip(prompts, ask(url, tmp_path, prompts), expected, strict=True):
        assert response.status != "error", response.error
        assert response.carrier == "assistant_prefill"
        assert (response.answer, response.status) == (other.answer, other.status)
        if prompt.condition != "stop_think":  # without log-probabilities, its answer is generated
            assert response.text == other.text
            assert response.think == other.think
