"""Faults of the answers that the simulated model writes.

An item is named by its index among the keys of the call.
"""

import json
from collections.abc import Callable
from dataclasses import replace

from batching.llm.simulated.calls import SimulatedCall
from batching.llm.simulated.faults import Fault, Member, Members

FORGED = '"[simulated] forged"'


def missing(item: int) -> Fault:
    def drop(members: Members, call: SimulatedCall) -> Members:
        return [member for member in members if member.key != _key(call, item)]

    return Fault("missing", members=drop)


def missing_all() -> Fault:
    return Fault("missing-all", members=lambda members, call: [])


def value(item: int, source: str) -> Fault:
    """Replaces the value of the item by `source`."""
    return _edit_member(item, lambda member: replace(member, value=source), name="value")


def rewrite_answers(rewrite: Callable[[str], str]) -> Fault:
    """Replaces every answer by what `rewrite` returns for the prompt of the item."""

    def edit(members: Members, call: SimulatedCall) -> Members:
        return [
            replace(member, value=json.dumps(rewrite(call.prompts[member.key])))
            for member in members
        ]

    return Fault("rewrite-answers", members=edit)


def nest(item: int) -> Fault:
    """Replaces the value of the item by the JSON text of an object with its key and value."""
    return _edit_member(
        item,
        lambda member: replace(
            member, value=json.dumps(f"{{{json.dumps(member.key)}: {member.value}}}")
        ),
        name="nest",
    )


def name_key(item: int) -> Fault:
    """Adds the key to the text of the item."""

    def edit(member: Member) -> Member:
        return replace(member, value=member.value[:-1] + f' ({member.key})"')

    return _edit_member(item, edit, name="name-key")


def inject(item: int, source: str) -> Fault:
    """Inserts `source` into the string of the item, unescaped."""

    def edit(member: Member) -> Member:
        at = member.value.find(" ") + 1 or 1
        return replace(member, value=member.value[:at] + source + member.value[at:])

    return _edit_member(item, edit, name="inject")


def rename(item: int, *, bare: bool = False) -> Fault:
    """Changes the random part of the key, or removes it."""
    return _edit_member(
        item, lambda member: replace(member, key=forge_key(member.key, bare=bare)), name="rename"
    )


def rename_all(*, bare: bool = False) -> Fault:
    def edit(members: Members, call: SimulatedCall) -> Members:
        return [replace(member, key=forge_key(member.key, bare=bare)) for member in members]

    return Fault("rename-all", members=edit)


def add_member(key: str, source: str = FORGED, *, at: int | None = None) -> Fault:
    """Adds a member before the member `at`, or at the end."""

    def add(members: Members, call: SimulatedCall) -> Members:
        before = members if at is None else members[:at]
        return [*before, Member(key, source), *members[len(before) :]]

    return Fault("add-member", members=add)


def duplicate(item: int, *, first: bool = False) -> Fault:
    """Adds the key of the item again with a forged value, at the end or beginning of the object."""

    def add(members: Members, call: SimulatedCall) -> Members:
        again = Member(_key(call, item), FORGED)
        return [again, *members] if first else [*members, again]

    return Fault("duplicate", members=add)


def forge(item: int) -> Fault:
    """Adds a first member whose key has the index of the item and another random part."""

    def add(members: Members, call: SimulatedCall) -> Members:
        return [Member(forge_key(_key(call, item)), FORGED), *members]

    return Fault("forge", members=add)


def shuffle() -> Fault:
    return Fault("shuffle", members=lambda members, call: members[::-1])


def forge_key(key: str, *, bare: bool = False) -> str:
    index, _, token = key.partition("_")
    return index if bare else f"{index}_{'0' * max(1, len(token))}"


def twice(between: str) -> Fault:
    """Sends the whole object twice."""
    return Fault("twice", text=lambda reply, call: reply + between + reply)


def prose(text: str) -> Fault:
    return Fault("prose", text=lambda reply, call: text)


def wrap(before: str, after: str) -> Fault:
    return Fault("wrap", text=lambda reply, call: before + reply + after)


def as_list() -> Fault:
    """Sends a JSON list of the values instead of an object."""

    def relist(reply: str, call: SimulatedCall) -> str:
        try:
            return json.dumps([*json.loads(reply).values()])
        except ValueError:
            return f"[{reply}]"  # Another fault has changed it already.

    return Fault("as-list", text=relist)


def cut(item: int, *, after: bool = False, third: bool = False) -> Fault:
    """Ends the text in the middle of the item's value, or directly after it.

    `third`: cuts the item after the first third of the items instead.
    """

    def shorten(text: str, call: SimulatedCall) -> str:
        name = json.dumps(_key(call, len(call.keys) // 3 if third else item)) + ": "
        start = text.find(name)
        if start < 0:
            return text[: len(text) // 2]
        start += len(name)
        try:
            _, end = json.JSONDecoder(strict=False).raw_decode(text, start)
        except (ValueError, RecursionError):
            end = len(text)
        return text[: end if after else (start + end) // 2]

    return Fault("cut", text=shorten)


def _edit_member(item: int, edit: Callable[[Member], Member], *, name: str) -> Fault:
    def apply(members: Members, call: SimulatedCall) -> Members:
        key = _key(call, item)
        return [edit(member) if member.key == key else member for member in members]

    return Fault(name, members=apply)


def _key(call: SimulatedCall, item: int) -> str:
    """The key of the item, or the last key if the call has fewer items."""
    return call.keys[min(item, len(call.keys) - 1)] if call.keys else ""
