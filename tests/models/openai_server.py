"""An HTTP server with OpenAI's chat schema, in front of a toy language model of known distribution.

The model is a function from the rendered text to a distribution of the next token: what it writes after its own
beginning is the rest of what it would have written, as with any language model, and every probability can be summed by
hand.
"""

import base64
import hashlib
import io
import json
import math
import os
import random
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace as Obj
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    import pytest

    from vlmrobust import Prompt

Steps = list[tuple[str, dict[str, float]]]

END = "<|end|>"
WORDS = [
    f" {word}"
    for word in ("I", "see", "a", "red", "cube", "and", "two", "blue", "balls", "near", "some", "tall", "lamp")
]
TOKENS = re.compile(r"<\|\w+\|>|</?think>|</?answer|>|\s?\w+|\s|[^\w\s]")

KEY = "very-secret-key"

# What `/tokenize` makes of a text: a letter may be one token with what stands in front of it.
CUTS = re.compile(r'[>(\["][A-Z]\b|' + TOKENS.pattern)
MOST_IDS = 128


class Vocabulary:
    """Numbers tokens in the order in which they are first seen; every server has its own."""

    def __init__(self) -> None:
        self.tokens = ["!", "the", "a", "of", "and"]

    def number(self, token: str) -> int:
        if token not in self.tokens:
            self.tokens.append(token)
        return self.tokens.index(token)

    def cut(self, text: str, tag_is_token: bool = False) -> list[int]:
        pattern = f"<answer>|{CUTS.pattern}" if tag_is_token else CUTS
        return [self.number(token) for token in re.findall(pattern, text)]


class ToyModel:
    """Writes a thought and an answer.

    Args:
        tag_is_token: `<answer>` is one token; otherwise `>` may merge with the letter behind it.
        thinks: begins with a thought of its own.
    """

    def __init__(self, *, tag_is_token: bool = False, thinks: bool = True) -> None:
        self.tag_is_token, self.thinks = tag_is_token, thinks

    def tokens(self, text: str) -> list[str]:
        found = TOKENS.findall(text)
        return re.findall("<answer>|" + TOKENS.pattern, text) if self.tag_is_token else found

    def next(self, text: str) -> dict[str, float]:
        """Return the distribution of the token after a rendered text."""
        asked, turn = text.rsplit("<|assistant|>", 1)
        letters = re.findall(r"^([A-Z])\. ", asked.partition("<|user|>")[2], re.MULTILINE)
        opened, closed = "<think>" in turn, "</think>" in turn
        if turn.endswith("</answer>") or len(TOKENS.findall(turn)) > 200:
            return {END: 1.0}
        if "</answer" in turn:
            return {">": 1.0}
        if letters and "letter of the correct option only." in asked and not turn:
            return self._letter(text, letters)
        if letters and not opened and not turn and self.thinks:
            return {"<think>": 0.9, **_scaled(_words(text), 0.1)}
        if letters and opened and not closed:
            ends = _number(text) % 4 == 0 and not turn.endswith("<think>")
            return {"</think>": 1.0} if ends else _words(text)
        if not letters:
            return {END: 1.0} if len(TOKENS.findall(turn)) > 60 else _words(text)
        if turn.endswith("<answer>"):
            return self._letter(text, letters)
        if turn.endswith("<answer"):
            merged = {f">{letter}": share for letter, share in _shares(asked + turn, letters).items()}
            return {">": 0.25, **_scaled(merged, 0.7), "ther": 0.05}
        if re.search(r"<answer>.?[A-Z]\Z", turn):
            return {"</answer": 0.9, ".": 0.1}
        return {"<answer>" if self.tag_is_token else "<answer": 1.0}

    def letters(self, text: str) -> dict[str, float]:
        """Return the probability of each letter after `…<answer>`, over all ways to write it."""
        found: Counter[str] = Counter()
        before = text.removesuffix(">")
        first = {text: 1.0} if self.tag_is_token else self.next(before)
        for token, share in first.items():
            if re.fullmatch(">[A-Z]", token):
                found[token[1]] += share
            elif token in (">", text):
                for other, part in self.next(text).items():
                    if letter := re.fullmatch(r"\W?([A-Z])", other):
                        found[letter[1]] += share * part
        return dict(found)

    def _letter(self, text: str, letters: list[str]) -> dict[str, float]:
        shares = _shares(text, letters)
        forms = {"": 0.8, " ": 0.12, "(": 0.05}
        return {f"{form}{letter}": share * part for form, share in forms.items() for letter, part in shares.items()} | {
            "The": 0.03
        }

    def write(self, text: str, limit: int, seed: int | None) -> tuple[Steps, str]:
        """Return the tokens that are written, each with its distribution, and why writing ended."""
        drawn = None if seed is None else random.Random(seed)
        steps: Steps = []
        while len(steps) < limit:
            shares = self.next(text)
            token = max(shares, key=shares.__getitem__)
            if drawn is not None:
                token = drawn.choices([*shares], [*shares.values()])[0]
            steps.append((token, shares))
            if token == END:
                return steps, "stop"
            text += token
        return steps, "length"


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _words(text: str) -> dict[str, float]:
    order = sorted(WORDS, key=lambda word: _number(text + word))
    return _scaled({word: 0.6**place for place, word in enumerate(order)}, 1.0)


def _shares(text: str, letters: list[str]) -> dict[str, float]:
    return _scaled({letter: math.exp(_number(text + letter) % 1000 / 200) for letter in letters}, 1.0)


def _scaled(weights: dict[str, float], total: float) -> dict[str, float]:
    return {name: total * weight / sum(weights.values()) for name, weight in weights.items()}


class ChatServer(ThreadingHTTPServer):
    """Serves a toy model.

    Attributes:
        prefill: what it makes of a last message by the assistant: "flag" (goes on if `continue_final_message` says so),
            "always", "never" (opens another turn), "refused", "dropped" (a closed thought is cut out), "echoed".
        logprobs, with_bytes, counts, reasoning: whether it returns log-probabilities, their bytes, token counts, the
            thought apart.
        parser: makes the thought that is shown apart and the content of what was written; None = nothing is parsed.
        ends_shown: whether the token that ended the turn is among the log-probabilities, as on vLLM.
        exact: whether `logprob_token_ids` is heeded and `/tokenize` answered, as on vLLM.
        sampled_first: whether the sampled token stands first and pushes the last of the top k out, as on vLLM.
        context: how many tokens it says a chat may have; None = it does not say.
        pages: what else paths hold, as text: of JSON if it begins so, of HTML otherwise.
        named: the model's name in its replies; None = the one it was asked for.
        fault: called with the number of the request and its body; what it returns is the reply: status, headers, text.
        seen, keys, images: bodies, keys and decoded images of all requests.
        most: the largest number of requests at a time.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, model: ToyModel, port: int = 0) -> None:
        self.model = model
        self.prefill, self.logprobs, self.with_bytes, self.counts, self.reasoning = "flag", True, True, True, False
        self.parser: Callable[[str], tuple[str | None, str | None]] | None = None
        self.ends_shown = True
        self.named: str | None = None
        self.exact = self.sampled_first = False
        self.context: int | None = None
        self.pages: dict[str, str] = {}
        self.vocabulary = Vocabulary()
        self.fault: Callable[[int, dict[str, Any]], tuple[int, dict[str, str], str] | None] = lambda number, body: None
        self.seen: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.images: list[Image.Image] = []
        self.now = self.most = 0
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def stop(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()

    def render(self, body: dict[str, Any]) -> tuple[str, str]:
        """Return the text that the model goes on from, and what of it was the last message."""
        *messages, last = body["messages"]
        if last["role"] != "assistant":
            return "".join(map(self._rendered, (*messages, last))) + "<|assistant|>", ""
        text = last["content"]
        if self.prefill == "dropped":
            text = re.sub(r"<think>.*</think>", "", text, flags=re.DOTALL)
        goes_on = self.prefill in ("always", "dropped", "echoed")
        if self.prefill == "flag":
            goes_on = body.get("continue_final_message", False) and not body.get("add_generation_prompt", True)
        before = "".join(map(self._rendered, messages)) + "<|assistant|>" + text
        return (before if goes_on else f"{before}{END}<|assistant|>"), text

    def _rendered(self, message: dict[str, Any]) -> str:
        parts = []
        for part in message["content"]:
            if part["type"] == "image_url":
                kind, _, data = part["image_url"]["url"].partition(";base64,")
                content = base64.b64decode(data, validate=True)
                image = Image.open(io.BytesIO(content))
                assert kind == f"data:{Image.MIME[image.format]}"
                with self.lock:
                    self.images.append(image.convert("RGB"))
                parts.append(f"[{hashlib.sha256(image.convert('RGB').tobytes()).hexdigest()[:8]}]")
            else:
                parts.append(part["text"])
        return f"<|{message['role']}|>{''.join(parts)}{END}"

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        text, begun = self.render(body)
        limit = body.get("max_tokens", body.get("max_completion_tokens", 16))
        steps, finish = self.model.write(text, limit, body.get("seed") if body.get("temperature", 1) else None)
        written = "".join(token for token, _ in steps if token != END)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": (begun if self.prefill == "echoed" else "") + written,
        }
        if self.reasoning and "</think>" in written:
            thought, _, rest = written.partition("</think>")
            message |= {"content": rest, "reasoning": thought.removeprefix("<think>")}
        if self.parser is not None:
            thought, content = self.parser(written)
            message |= {"content": content, "reasoning": thought}
        reply = self.schema(body, message, steps, finish)
        if self.exact and "prompt_logprobs" in body:
            reply["prompt_logprobs"] = self.forced(text)
        prompt, count = len(self.model.tokens(text)), len(steps)
        usage = {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count,
                 "prompt_tokens_details": {"cached_tokens": prompt // 2}}  # fmt: skip
        return reply | {"usage": usage if self.counts else None}

    def forced(self, text: str) -> list[dict[str, Any] | None]:
        """Return the prompt's tokens with their log-probabilities, as vLLM does; the first has none."""
        found: list[dict[str, Any] | None] = []
        for number in self.vocabulary.cut(text, self.model.tag_is_token):
            token = self.vocabulary.tokens[number]
            found.append({str(number): {"logprob": self.given(token), "rank": 1, "decoded_token": token}})
        return [None, *found[1:]]

    def given(self, token: str) -> float:
        """Return a token's log-probability, whatever stands before it; the toy model writes no options' texts."""
        return -0.01 * (1 + len(token)) - 0.001 * self.vocabulary.number(token)

    def schema(self, body: dict[str, Any], said: str | dict[str, Any], steps: Steps, finish: str) -> dict[str, Any]:
        """Return a reply: what was said, and the top of each step's distribution."""
        message = {"role": "assistant", "content": said} if isinstance(said, str) else said
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "message": message}
        if self.logprobs and body.get("logprobs"):
            shown = [step for step in steps if self.ends_shown or step[0] != END]
            choice["logprobs"] = {"content": [self._entry(*step, body) for step in shown]}
        name = self.named or body["model"]
        return {"id": "1", "object": "chat.completion", "created": 0, "model": name, "choices": [choice]}

    def _entry(self, token: str, shares: dict[str, float], body: dict[str, Any]) -> dict[str, Any]:
        def shown(token: str) -> dict[str, Any]:
            data = list(token.encode()) if self.with_bytes else None
            share = shares.get(token, 0.0)
            return {"token": token, "logprob": math.log(share) if share else -9999.0, "bytes": data}

        top = sorted(shares, key=shares.__getitem__, reverse=True)[: body["top_logprobs"]]
        if self.sampled_first:
            top = [token, *(other for other in top if other != token)][: body["top_logprobs"]]
        if self.exact and "logprob_token_ids" in body:
            top = list(
                dict.fromkeys([token, *(self.vocabulary.tokens[number] for number in body["logprob_token_ids"])])
            )
        return {**shown(token), "top_logprobs": [shown(other) for other in top]}

    def refusal(self, body: dict[str, Any]) -> str | None:
        """Return why a request is a 400."""
        ids = body.get("logprob_token_ids", [])
        if self.exact and len(ids) > MOST_IDS:
            return f"expected at most {MOST_IDS} ids, got {len(ids)}"
        if self.exact and any(number >= len(self.vocabulary.tokens) for number in ids):
            return "an id is not in the vocabulary"
        return None


class Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        if self.path in ("/tokenize", "/detokenize"):
            self.tokens(body)
            return
        with server.lock:
            server.seen.append(body)
            server.keys.add(self.headers["Authorization"])
            server.now += 1
            server.most = max(server.most, server.now)
            number = len(server.seen)
        try:
            fault = server.fault(number, body)
            if fault is None and server.prefill == "refused" and body["messages"][-1]["role"] == "assistant":
                fault = 400, {}, "the conversation must end with the user's message"
            if fault is None and (refusal := server.refusal(body)) is not None:
                fault = 400, {}, refusal
            if fault is None:
                answer = 200, {}, server.completion(body)
            else:
                status, headers, text = fault
                answer = status, headers, {"error": {"message": text, "type": "error"}}
        finally:  # before the reply: whoever has it may send the next request at once
            with server.lock:
                server.now -= 1
        self.reply(*answer)

    def do_GET(self) -> None:
        if (page := self.server.pages.get(self.path)) is not None:
            kind = "application/json" if page[0] in "[{" else "text/html"
            self.reply(200, {"Content-Type": kind}, page)
            return
        entry = {"id": "toy", "object": "model"} | (
            {} if self.server.context is None else {"max_model_len": self.server.context}
        )
        found = self.path == "/v1/models"
        self.reply(200 if found else 404, {}, {"object": "list", "data": [entry]} if found else {"error": "not found"})

    def tokens(self, body: dict[str, Any]) -> None:
        vocabulary = self.server.vocabulary
        if not self.server.exact:
            self.reply(404, {}, {"error": {"message": "not found"}})
        elif self.path == "/tokenize":
            with self.server.lock:
                self.reply(200, {}, {"tokens": vocabulary.cut(body["prompt"], self.server.model.tag_is_token)})
        else:
            self.reply(200, {}, {"prompt": "".join(vocabulary.tokens[number] for number in body["tokens"])})

    def reply(self, status: int, headers: dict[str, str], body: dict[str, Any] | str) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        try:
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(data)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        except OSError:  # the client has given up
            self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


def main(port: int, log: str, die_after: int) -> None:
    """Serve until killed, and write down each request; the one after `die_after` ends the process in its middle."""
    with Path(log).open("a", buffering=1, encoding="utf-8") as file:

        def fault(number: int, body: dict[str, Any]) -> None:
            if die_after and number > die_after:
                os._exit(1)
            user, *begun = body["messages"]
            asked = [user["content"][-1]["text"], *(turn["content"] for turn in begun)]
            file.write(json.dumps(asked) + "\n")

        server = ChatServer(ToyModel(), port)
        server.fault = fault
        print("ready", flush=True)
        server.thread.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))


def make_entry(
    token: bytes, logprob: float = -0.1, top: Sequence[tuple[bytes, float]] = (), with_bytes: bool = True
) -> Obj:
    """Return an entry of `logprobs.content` as the official client has it."""

    def shown(data: bytes, value: float) -> Obj:
        return Obj(token=data.decode(errors="replace"), logprob=value, bytes=list(data) if with_bytes else None)

    return Obj(**vars(shown(token, logprob)), top_logprobs=[shown(*other) for other in top])


def sample_bodies(server: ChatServer) -> list[dict[str, Any]]:
    """Return the bodies of requests about samples; those that test the server have no image."""
    return [body for body in server.seen if len(body["messages"][0]["content"]) > 1]


def answer_distribution(server: ChatServer, prompt: "Prompt") -> tuple[str, dict[str, float]]:
    """Return the token of the answer's letter, and the distribution from which it was generated."""

    def is_sent_for(body: dict[str, Any]) -> bool:
        first, last = body["messages"][0], body["messages"][-1]
        assistant = last["content"] if last["role"] == "assistant" else ""
        return (first["content"][-1]["text"], assistant) == (prompt.text, prompt.prefill)

    text, _ = server.render(next(filter(is_sent_for, server.seen)))
    written = ""
    for token, shares in server.model.write(text, 512, None)[0]:
        written += token
        if re.search(r"<answer>\W?[A-Z]\Z", written):
            return token, shares
    raise AssertionError(written)


def probabilities_by_letter(shares: dict[str, float]) -> Counter[str]:
    """Sum the probabilities of each letter's tokens in a plain loop."""
    found: Counter[str] = Counter()
    for token, share in shares.items():
        core = token.strip(' (>["')
        if len(core) == 1 and core.isupper():
            found[core] += share
    return found


def change_replies(server: ChatServer, monkeypatch: "pytest.MonkeyPatch", change: Callable[[Any, Any], None]) -> None:
    """Make a server change its replies; `change` gets the body of a request and the reply."""
    completion = server.completion

    def changed(body: Any) -> Any:
        reply = completion(body)
        change(body, reply)
        return reply

    monkeypatch.setattr(server, "completion", changed)


def change_choices(server: ChatServer, monkeypatch: "pytest.MonkeyPatch", change: Callable[[Any, Any], None]) -> None:
    """Make a server change the choices of its replies; `change` gets the body of a request and the choice."""
    change_replies(server, monkeypatch, lambda body, reply: change(body, reply["choices"][0]))
