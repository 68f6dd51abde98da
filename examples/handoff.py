"""A handoff: `CHAT_AGENT=examples.handoff:extend scripts/run.sh`, and ask for a poem.

The next message is the first agent's again."""

from agents import Agent

from chat_service.agent.agent import OurAgent, RunContext

# It has no model: all agents of a chat have the chat's.
poet = Agent[RunContext](
    name="Poet",
    handoff_description="Answers in verse. Use it when asked for a poem.",
    instructions="Answer with a poem of eight lines at most.",
)


def extend(agent: OurAgent) -> OurAgent:
    return agent.clone(handoffs=[poet])
