"""Both services in one command: `daca-chat`, or `python -m daca_chat`."""
