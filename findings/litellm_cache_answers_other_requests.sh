#!/usr/bin/env bash
# litellm 1.110.2: its cache answers a request with the reply to another one that differs in `extra_body`.
#
# The key is made of the parameters that litellm knows (messages, model, temperature, seed, …). What it does not know it
# sends to the server and leaves out of the key: `extra_body`, `min_p`, `repetition_penalty`, `chat_template_kwargs`,
# `continue_final_message`: with vLLM or SGLang just what a comparison of settings varies. With the cache on, the second
# setting gets the first one's texts, at no cost and without a warning, and the comparison finds no difference.
# Seen against a server that counts what it is asked: three settings of the thinking mode, one request. With
# `litellm.enable_caching_on_provider_specific_optional_params = True`, which is off by default, three.
# (A hit also imports fastapi, orjson and soundfile, which `pip install litellm` does not bring.)
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "litellm==1.110.2" "fastapi==0.165.0" "orjson==3.13.0" "soundfile==0.14.0"
export LITELLM_LOCAL_MODEL_COST_MAP=True
"$folder/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import litellm
from litellm.caching.caching import Cache

asked = []


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        message = {"role": "assistant", "content": json.dumps(asked[-1].get("chat_template_kwargs"))}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "demo", "choices": [choice]}
        body = json.dumps(reply | {"usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = {"model": "hosted_vllm/demo", "api_base": f"http://127.0.0.1:{server.server_port}/v1", "api_key": "none"}


def replies(**settings):
    messages = [{"role": "user", "content": "Which one is larger?"}]
    return litellm.completion(messages=messages, caching=True, **address, **settings).choices[0].message.content


def compared():
    litellm.cache = Cache(type="local")
    asked.clear()
    modes = ({}, {"enable_thinking": True}, {"enable_thinking": False})
    return [replies(extra_body={"chat_template_kwargs": mode}) for mode in modes], len(asked)


by_default = compared()
seeds = [replies(seed=seed) for seed in (1, 2)], len(asked)
litellm.enable_caching_on_provider_specific_optional_params = True
told = compared()
print("by default (replies, requests):", by_default)
print("two seeds more:", seeds)
print("with provider-specific parameters in the key:", told)
same = len(set(by_default[0])) == 1 and by_default[1] == 1
raise SystemExit(0 if same and seeds[1] == 3 and len(set(told[0])) == 3 and told[1] == 3 else 1)
PYTHON
