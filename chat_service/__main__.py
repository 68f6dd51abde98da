"""Starts the chat service: `python -m chat_service`."""

from chat_service.app import run
from chat_service.settings import ChatSettings
from daca_shared.service import main

if __name__ == "__main__":
    main("chat_service", ChatSettings, run)
