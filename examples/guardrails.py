"""Guardrails for input and output. Run `CHAT_AGENT=examples.guardrails:extend scripts/run.sh`, and
tell it the number of a credit card, or have it tell you an email address.

Neither message is kept or counted. The output guardrail decides only at the end of a reply, when a
streaming client has already seen it: use guardrails for tools if that matters."""

import re
from typing import Any

from agents import GuardrailFunctionOutput, RunContextWrapper, input_guardrail, output_guardrail

from chat_service.agent.agent import OurAgent, RunContext

_CARD = re.compile(r"\b(?:\d[ -]?){13,16}\b")
_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+\.\w+")


# It runs before the model, not in parallel as by default: a refusal then costs no model call.
@input_guardrail(run_in_parallel=False)
def no_card_numbers(
    context: RunContextWrapper[RunContext], agent: Any, items: Any
) -> GuardrailFunctionOutput:
    # The items are the conversation so far. This message is the last.
    return _tripped(_CARD, items[-1]["content"])


@output_guardrail
def no_addresses(
    context: RunContextWrapper[RunContext], agent: Any, reply: str
) -> GuardrailFunctionOutput:
    return _tripped(_EMAIL, reply)


def _tripped(pattern: re.Pattern[str], text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(None, tripwire_triggered=bool(pattern.search(text)))


def extend(agent: OurAgent) -> OurAgent:
    return agent.clone(input_guardrails=[no_card_numbers], output_guardrails=[no_addresses])
