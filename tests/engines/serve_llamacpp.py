"""Serves a converted model; runs in the engine's environment: `python serve_llamacpp.py FOLDER PORT`."""

import sys
import threading
from pathlib import Path

import xllamacpp

IMAGE_TOKENS = 4  # of the bundled model's pictures; llama.cpp would not go below 8 by itself
SLOTS = 4

if __name__ == "__main__":
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    params = xllamacpp.CommonParams()
    params.model.path = str(folder / "model.gguf")
    params.mmproj.path = str(folder / "mmproj.gguf")
    params.image_min_tokens = params.image_max_tokens = IMAGE_TOKENS
    params.verbosity = 2  # warnings and errors
    params.model_alias = {"demo"}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * 4096  # shared by the slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # threads wait for one another in busy loops
    # Half precision would turn a text where two tokens are almost alike.
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    threading.Event().wait()
