"""A served run against the same requests sent all at once, and against another build. Not a test: timings depend.

    python tests/benchmarks/queue_served.py serve --port 8001                      a stand-in server, uneven lengths
    python tests/benchmarks/queue_served.py bare --url http://127.0.0.1:8001/v1    a bare asyncio client, in turn
    python tests/benchmarks/queue_served.py builds --url … --other FOLDER          another checkout, in turn

Any server will do: `--url` and `--name` of vLLM, for instance. Every run is a process of its own, timed from the call
of `Evaluator.run` to the last reply, the report not counted. The bare client sends what that run has sent, all of it at
once, and reads no more than JSON. They take turns (one, other, other, one, …), and the median of the pairs' ratios is
shown.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEP = 0.05  # seconds that the stand-in takes for a token of all its slots


# --- the stand-in server ----------------------------------------------------------------------------------------------


def reply_to(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return how many tokens the stand-in writes, and what: lengths are drawn by the request, 15 to 120, mean 42."""
    drawn = random.Random(json.dumps([body["messages"][-1]["content"], body.get("seed")])[-2000:])
    count = min(max(int(drawn.lognormvariate(3.6, 0.6)), 15), 120, body["max_tokens"])
    words = ["A"] if count < 5 else ["<think>", *[" so"] * (count - 4), "</think>", "<answer>", "B"]
    top = [{"token": letter, "logprob": -0.1 - place, "bytes": list(letter.encode())} for place, letter in
           enumerate("ABCDEFGHIJKLMNOPQRST")]  # fmt: skip
    content = [{"token": word, "logprob": -0.1, "bytes": list(word.encode()), "top_logprobs": top} for word in words]
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "".join(words)},
        "logprobs": {"content": content},
    }
    usage = {"prompt_tokens": 100, "completion_tokens": count, "total_tokens": 100 + count}
    return count, {"id": "1", "object": "chat.completion", "created": 0, "model": "demo", "choices": [choice],
                   "usage": usage}  # fmt: skip


async def serve(port: int, slots: int) -> None:
    """Answer `slots` requests at a time, the others wait in line."""
    free = asyncio.Semaphore(slots)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
                body = await reader.readexactly(length)
                if "/chat/completions " not in head.partition("\r\n")[0]:  # what the check of a server looks for
                    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                    continue
                count, reply = reply_to(json.loads(body))
                async with free:
                    await asyncio.sleep(count * STEP)
                data = json.dumps(reply).encode()
                header = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
                writer.write(header.encode() + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port, limit=2**26, backlog=2048)
    print("ready", flush=True)
    await server.serve_forever()


# --- one run ----------------------------------------------------------------------------------------------------------


def run_once(given: argparse.Namespace) -> None:
    """Run the evaluator once, and print as JSON how long it took and what it has sent."""
    import vlmrobust as vr
    from vlmrobust.metrics import Accuracy

    options: dict[str, Any] = {} if given.prefill is None else {"prefill": given.prefill}
    if given.concurrency:
        options["concurrency"] = given.concurrency
    model = vr.OpenAIModel(given.name, given.url, "any", **options)
    samples = vr.demo.samples(given.samples, seed=0)
    sent: list[dict[str, Any]] = []
    last = [0.0]
    send = model._client._client.send

    def timed(request: Any, **options: Any) -> Any:
        response = send(request, **options)
        last[0] = time.perf_counter()
        if given.record and request.url.path.endswith("/chat/completions") and response.status_code == 200:
            sent.append(json.loads(request.content))
        return response

    model._client._client.send = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as out:
        begun, used = time.perf_counter(), time.process_time()
        report = vr.Evaluator(model, vr.paper_conditions(), [Accuracy()]).run(samples, out=out)
        whole, used = time.perf_counter() - begun, time.process_time() - used
    if given.record:
        given.record.write_text(json.dumps(sent))
    errors = int((report.frame["status"] == "error").sum())
    said = {"seconds": last[0] - begun, "with report": whole, "cpu": used, "rows": len(report), "errors": errors}
    print(json.dumps(said | {"requests": model.usage.requests, "package": str(Path(vr.__file__).parent)}))


async def send_all(url: str, bodies: list[dict[str, Any]]) -> float:
    """Send requests all at once; return the seconds until the last reply."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(3600)) as session:

        async def ask(body: dict[str, Any]) -> None:
            async with session.post(f"{url}/chat/completions", json=body) as reply:
                reply.raise_for_status()
                await reply.json()

        begun = time.perf_counter()
        await asyncio.gather(*map(ask, bodies))
        return time.perf_counter() - begun


# --- in turn ----------------------------------------------------------------------------------------------------------


def started(given: argparse.Namespace, *more: str, package: Path | None = None) -> float:
    """Run the evaluator in a process of its own, of this or another checkout; return the seconds that it took."""
    command = [sys.executable, __file__, "once", "--url", given.url, "--name", given.name]
    command += ["--samples", str(given.samples), *more]
    if given.prefill is not None:
        command += ["--prefill", given.prefill]
    if given.concurrency:
        command += ["--concurrency", str(given.concurrency)]
    root = package or Path(__file__).parents[2]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(root)}
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["errors"] == 0, said
    assert Path(said["package"]).parent == root.resolve(), said
    print(f"  {said}", flush=True)
    return float(said["seconds"])


def in_turn(one: Callable[[], float], other: Callable[[], float], pairs: int) -> None:
    """Time two ways in turn and print the median of how many times as long the other takes."""
    ratios = []
    for pair in range(pairs):
        if pair % 2:
            theirs, ours = other(), one()
        else:
            ours, theirs = one(), other()
        ratios.append(theirs / ours)
        print(f"pair {pair + 1}: {ours:.2f} s, the other {theirs:.2f} s, ratio {ratios[-1]:.3f}", flush=True)
    print(f"ratio: median of {pairs} {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def compare(given: argparse.Namespace) -> None:
    """Warm the server up, then take turns."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "sent.json"
        started(given, "--record", str(record))  # and fills the server's caches
        if given.what == "builds":
            in_turn(lambda: started(given), lambda: started(given, package=given.other), given.pairs)
            return
        bodies = json.loads(record.read_text())
        print(f"{len(bodies)} requests")
        asyncio.run(send_all(given.url, bodies))
        in_turn(lambda: started(given), lambda: asyncio.run(send_all(given.url, bodies)), given.pairs)


def main() -> None:
    """Serve, run once, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["serve", "once", "bare", "builds"])
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--slots", type=int, default=128, help="of the stand-in")
    parser.add_argument("--url", default="http://127.0.0.1:8001/v1")
    parser.add_argument("--name", default="demo")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--prefill", help="of OpenAIModel; the stand-in takes continue_final_message")
    parser.add_argument("--concurrency", type=int, help="of OpenAIModel, if not its own")
    parser.add_argument("--other", type=Path, help="another checkout")
    parser.add_argument("--record", type=Path)
    given = parser.parse_args()
    if given.what == "serve":
        asyncio.run(serve(given.port, given.slots))
    elif given.what == "once":
        run_once(given)
    else:
        compare(given)


if __name__ == "__main__":
    main()
