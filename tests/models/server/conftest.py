"""Fixtures: a server with a toy language model of known distribution, and models that use it."""

import pytest
from openai_server import KEY, ChatServer, ToyModel

from vlmrobust import OpenAIModel


@pytest.fixture
def server():
    running = ChatServer(ToyModel())
    yield running
    running.stop()


@pytest.fixture
def model_at():
    made = []

    def make(server, **options):
        made.append(OpenAIModel("toy", server.url, KEY, **{"max_retries": 0, **options}))
        return made[-1]

    yield make
    for model in made:
        model._client.close()
