"""Starts the chat service: `python -m chat_service`."""

import gc

# Next to nothing that imports make is garbage: looking for it takes a seventh of the start.
gc.disable()

from chat_service.app import run  # noqa: E402
from chat_service.settings import ChatSettings  # noqa: E402
from daca_shared.service import main  # noqa: E402

gc.enable()

if __name__ == "__main__":
    main("chat_service", ChatSettings, run)
