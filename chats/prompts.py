"""Prompts that are not kept once their request has ended.

A digest stays, so that the same request id is still told from another request's. It is keyed with
the secret: a short prompt cannot be found by trying.
"""

import hmac
from collections.abc import Sequence

from django.utils.crypto import salted_hmac

from chats.bulk_sql import BulkUpdate
from chats.models import FINAL_STATUSES, Chat
from settings_app.snapshot import current_snapshot

_BLANK = BulkUpdate(Chat, assign=["prompt", "prompt_digest"], where=["id", "prompt"])


def drop_prompts(ids: Sequence[int]) -> None:
    """Follows the setting: prompts of chats that have just ended stay, or are blanked."""
    if ids and not current_snapshot().store_prompts:
        blank_prompts(ids)


def blank_prompts(ids: Sequence[int]) -> int:
    """Of those that have ended; gives how many there were."""
    ended = Chat.objects.filter(pk__in=ids, status__in=FINAL_STATUSES).exclude(prompt="")
    rows = list(ended.values_list("pk", "prompt"))
    _BLANK.run([("", digest_prompt(prompt), pk, prompt) for pk, prompt in rows])
    return len(rows)


def digest_prompt(prompt: str) -> str:
    return salted_hmac("chats.prompt", prompt, algorithm="sha256").hexdigest()


def is_prompt_of(chat: Chat, prompt: str) -> bool:
    """Whether the chat was asked with this prompt, kept or not."""
    if not chat.prompt_digest:
        return chat.prompt == prompt
    return hmac.compare_digest(chat.prompt_digest, digest_prompt(prompt))
