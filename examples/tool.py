"""A tool. Run `CHAT_AGENT=examples.tool:extend scripts/run.sh`, and ask how long it is until a day.

For a tool that is always there, no `extend` is needed: add it to chat_service/agent/tools.py."""

from datetime import UTC, date, datetime

from agents import function_tool

from chat_service.agent.agent import OurAgent


@function_tool
def days_until(day: date) -> int:
    """How many days it is until a day, like 2027-01-01; below 0 if it has passed."""
    return (day - datetime.now(UTC).date()).days


def extend(agent: OurAgent) -> OurAgent:
    return agent.clone(tools=[*agent.tools, days_until])
