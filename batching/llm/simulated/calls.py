"""Parses the REST requests that the simulated model receives."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

_PATH = re.compile(r"/models(?:/(?P<model>[^/:]+))?(?::(?P<action>\w+))?$")


@dataclass(slots=True)
class SimulatedCall:
    """One request.

    `action` is `get` or `list` for a request about models, and "" for an unknown path. `headers`
    have lower-case names. `problem` says why Gemini would refuse the request; "" if it would not.
    `keys` are the members that the response schema demands, and `prompts` holds the prompt of each
    key; without a schema there are no keys, and the key of the only prompt is "". `state` becomes
    `complete`, `broken` by a fault, or `abandoned` by the client.
    """

    number: int
    path: str
    model: str
    action: str
    headers: dict[str, str]
    body: dict[str, Any]
    problem: str
    keys: tuple[str, ...] = ()
    prompts: dict[str, str] = field(default_factory=dict)
    system: str = ""
    max_output_tokens: int | None = None
    fault: str = ""
    started: float = 0.0
    ended: float | None = None
    state: str = "running"

    @property
    def generates(self) -> bool:
        return self.action == "streamGenerateContent"

    def end(self, state: str, now: float) -> None:
        """Only the first end counts."""
        if self.ended is None:
            self.ended = now
            self.state = state


def parse_call(
    number: int, *, target: str, headers: Mapping[str, str], content: bytes
) -> SimulatedCall:
    """Parses whatever was sent; `target` is the path with its query. Never raises."""
    path = unquote(urlsplit(target).path)
    match = _PATH.search(path)
    model = (match["model"] if match else None) or ""
    action = (match["action"] if match else None) or ("get" if model else "list")
    body = _parse_object(content or b"{}")
    call = SimulatedCall(
        number=number,
        path=path,
        model=model,
        action=action if match else "",
        headers={name.lower(): value for name, value in headers.items()},
        body=body or {},
        problem="Invalid JSON payload received." if body is None else "",
    )
    if call.generates:
        try:
            _parse_request(call)
        except (KeyError, IndexError, TypeError, AttributeError):
            call.problem = call.problem or "Request contains an invalid argument."
    return call


def _parse_object(text: str | bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _parse_request(call: SimulatedCall) -> None:
    """Completes the call from its body; a body of another form raises an error of any kind."""
    text = _join_texts(call.body["contents"][-1])
    system = call.body.get("systemInstruction")
    call.system = _join_texts(system) if system else ""
    generation = call.body.get("generationConfig", {})
    limit = generation.get("maxOutputTokens")
    if not (limit is None or (type(limit) is int and limit > 0)):
        call.problem = "max_output_tokens must be positive."
    call.max_output_tokens = limit
    schema = generation.get("responseJsonSchema")
    if schema is None:
        call.prompts = {"": text}
        return
    if generation.get("responseMimeType") != "application/json":
        call.problem = "A response schema needs the response MIME type application/json."
    call.keys = tuple(schema.get("required") or schema["properties"])
    given = _parse_object(text) or {}
    # The whole text is the prompt of a key that it lacks.
    call.prompts = {key: str(given.get(key, text)) for key in call.keys}


def _join_texts(content: Any) -> str:
    return "".join(part.get("text", "") for part in content["parts"])
