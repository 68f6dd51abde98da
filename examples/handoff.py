"""A handoff. Run `CHAT_AGENT=examples.handoff:extend scripts/run.sh`, and ask for a poem (with the
offline model: say `transfer_to_poet`).

The next message goes to the first agent again."""

from agents import Agent

from chat_service.agent.agent import OurAgent, RunContext

# No model is set, as all agents of a chat use the chat's model.
poet = Agent[RunContext](
    name="Poet",
    handoff_description="Answers in verse. Use it when asked for a poem.",
    instructions="Answer with a poem of eight lines at most.",
)


def extend(agent: OurAgent) -> OurAgent:
    return agent.clone(handoffs=[poet])
