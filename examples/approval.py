"""A tool that needs approval. Run `CHAT_AGENT=examples.approval:extend scripts/run.sh`, and ask for
a refund.

Here a rule approves or rejects each call. The model is told of a rejection, and tells the user."""

from typing import Any

from agents import RunContextWrapper, function_tool

from chat_service.agent.agent import OurAgent, RunContext

_TRUSTED = ("alice",)


async def needs_approval(
    context: RunContextWrapper[RunContext], arguments: dict[str, Any], call_id: str
) -> bool:
    return context.context.user_id not in _TRUSTED


@function_tool(needs_approval=needs_approval)
def refund(order: int) -> str:
    """Pay back what an order, by its number, has cost."""
    return f"order {order} is paid back"


def extend(agent: OurAgent) -> OurAgent:
    return agent.clone(tools=[*agent.tools, refund])
