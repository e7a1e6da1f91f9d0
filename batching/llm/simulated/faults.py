"""What a scripted fault may change in a simulated reply. The faults themselves belong to tests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batching.llm.simulated.calls import SimulatedCall
from batching.llm.simulated.wire import Event, Reply


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the answer object; `value` is JSON source, well-formed or not."""

    key: str
    value: str


Members = list[Member]


def _keep(stage: Any, call: SimulatedCall) -> Any:
    return stage


@dataclass(frozen=True, slots=True)
class Fault:
    """Edits a reply at four stages; `first | second` applies both faults at each stage."""

    name: str
    members: Callable[[Members, SimulatedCall], Members] = _keep
    text: Callable[[str, SimulatedCall], str] = _keep
    events: Callable[[list[Event], SimulatedCall], list[Event]] = _keep
    reply: Callable[[Reply, SimulatedCall], Reply] = _keep

    def __or__(self, other: "Fault") -> "Fault":
        return Fault(
            f"{self.name}|{other.name}",
            members=lambda stage, call: other.members(self.members(stage, call), call),
            text=lambda stage, call: other.text(self.text(stage, call), call),
            events=lambda stage, call: other.events(self.events(stage, call), call),
            reply=lambda stage, call: other.reply(self.reply(stage, call), call),
        )


NO_FAULT = Fault("")

# Chooses the fault of a call; None for no fault.
Script = Callable[[SimulatedCall], Fault | None]
