"""Starts the chat service: `python -m chat_service`."""

import gc
import signal

if __name__ == "__main__":
    # Until there is a `stop_signal`, Ctrl-C ends us at once, even during these slow imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# Objects that imports make stay for good. Searching them for garbage, during the imports and once
# afterwards, would take a quarter of the start-up time.
gc.disable()

from daca_shared.settings import ignore_foreign_variables

ignore_foreign_variables()

from chat_service.app import run
from chat_service.settings import ChatSettings
from daca_shared.service import main

gc.freeze()
gc.enable()

if __name__ == "__main__":
    main("chat_service", ChatSettings, run)
