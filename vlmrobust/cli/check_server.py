"""Implement `vlmrobust check-server`: find out what a server supports before a run."""

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
    """Check what an OpenAI-compatible server supports: prefilled thoughts, letters, images, seeds, context.

    Exit codes: 0 the server does not change the experiment; 3 it does, and warnings say how; 2 the server does not
    respond, or its tokens differ from the tokenizer's.
    """
    with refusals(context):
        from ..catalogue import secret
        from ..models import OpenAIModel

        generation = {"max_tokens": max_new_tokens, "temperature": temperature or 0}
        key = secret(api_key_env, "--api-key-env")
        result = OpenAIModel(model, base_url, key, generation=generation, tokenizer=tokenizer).check(named_style(style))
        if json:
            show_data(as_json(result.model_dump(mode="json")))
        else:
            for name, text in result.rows():
                show(text, f"{name:<20}  ")
        for warning in result.warnings:
            say(f"Warning: {warning}")
    raise typer.Exit(ExitCode.GATE_FAILED if result.warnings else ExitCode.FINISHED)
