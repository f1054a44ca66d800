"""`vlmrobust check-server`: what a server can and cannot do, before it is asked about any sample."""

import typer

from ..catalogue import named_style
from . import options
from .app import ExitCode, refusals
from .output import as_json, say, show, show_data

__all__ = ["check_server"]


def check_server(
    context: typer.Context,
    *,
    model: options.Model,
    base_url: options.BaseUrl = None,
    api_key_env: options.ApiKeyEnv = None,
    tokenizer: options.Tokenizer = None,
    style: options.QuestionStyle = "think",
    max_new_tokens: options.MaxNewTokens = 512,
    temperature: options.Temperature = None,
    json: options.Json = False,
) -> None:
    """Ask an OpenAI-compatible server what it can do: prefilled thoughts, letters, images, seeds, context.

    Exit codes: 0 nothing of it changes the experiment; 3 something does, and a warning says what; 2 the server does not
    answer, or its tokens are not those of the tokenizer.
    """
    with refusals(context):
        from ..catalogue import secret
        from ..models import OpenAIModel

        generation = {"max_tokens": max_new_tokens, "temperature": temperature or 0}
        key = secret(api_key_env, "--api-key-env")
        found = OpenAIModel(model, base_url, key, generation=generation, tokenizer=tokenizer).check(named_style(style))
        if json:
            show_data(as_json(found.model_dump(mode="json")))
        else:
            for name, said in found.rows():
                show(said, f"{name:<20}  ")
        for warning in found.warnings:
            say(f"Warning: {warning}")
    raise typer.Exit(ExitCode.GATE_FAILED if found.warnings else ExitCode.FINISHED)
