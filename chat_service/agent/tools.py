"""The tools that the agent may use."""

from datetime import UTC, datetime

import agents


@agents.function_tool
def get_current_time() -> str:
    """The current date and time in UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


TOOLS: list[agents.Tool] = [get_current_time]
