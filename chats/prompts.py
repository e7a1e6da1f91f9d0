"""Deletes the prompts of ended requests where the settings say so, and keeps a digest of each.

With the digest a repeated request is still recognised. It is an HMAC with the secret key, so that
nobody can find a short prompt by trying all.
"""

import hmac
from collections.abc import Sequence

from django.utils.crypto import salted_hmac

from chats.bulk_sql import BulkUpdate
from chats.models import FINAL_STATUSES, Chat
from settings_app.snapshot import current_snapshot

_BLANK = BulkUpdate(Chat, assign=["prompt", "prompt_digest"], where=["id", "prompt"])


def drop_prompts(ids: Sequence[int]) -> None:
    """Blanks the prompts of chats that have just ended, unless the settings keep prompts."""
    if ids and not current_snapshot().store_prompts:
        blank_prompts(ids)


def blank_prompts(ids: Sequence[int]) -> int:
    """Blanks the prompts of those chats that have ended; returns their number."""
    ended = Chat.objects.filter(pk__in=ids, status__in=FINAL_STATUSES).exclude(prompt="")
    rows = list(ended.values_list("pk", "prompt"))
    _BLANK.run([("", digest_prompt(prompt), pk, prompt) for pk, prompt in rows])
    return len(rows)


def digest_prompt(prompt: str) -> str:
    return salted_hmac("chats.prompt", prompt, algorithm="sha256").hexdigest()


def is_prompt_of(chat: Chat, prompt: str) -> bool:
    """Whether the chat was sent with this prompt, even if the prompt was blanked since."""
    if not chat.prompt_digest:
        return chat.prompt == prompt
    return hmac.compare_digest(chat.prompt_digest, digest_prompt(prompt))
