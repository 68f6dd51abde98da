"""The tools that the agent may use: all that are in this module. A model decides by a tool's name
and docstring when to call it, and with what."""

from datetime import UTC, datetime

from agents import function_tool


@function_tool
def get_current_time() -> str:
    """The current date and time in UTC, in ISO 8601. Use it when asked for the time or the date."""
    return datetime.now(UTC).isoformat(timespec="seconds")
