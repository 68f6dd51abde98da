"""Starts the chat service: `python -m chat_service`."""

import gc

# What imports make is not garbage and stays for good. To look for garbage in it, during the imports
# and once afterwards, would take a quarter of the start.
gc.disable()

from chat_service.app import run  # noqa: E402
from chat_service.settings import ChatSettings  # noqa: E402
from daca_shared.service import main  # noqa: E402

gc.freeze()
gc.enable()

if __name__ == "__main__":
    main("chat_service", ChatSettings, run)
