"""Template filters that format figures, codes and texts."""

import json
from typing import Any

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from batching.pages.figures import format_number

# Longer texts are cut on the page of a batch.
MAX_SHOWN_CHARACTERS = 20_000

register = template.Library()


@register.filter(name="json")
def format_json(value: Any) -> str:
    return json.dumps(value)


@register.filter
def breakable(name: str) -> str:
    """Allows a line break after each underscore of a code."""
    return format_html_join(SafeString("_<wbr>"), "{}", ([part] for part in name.split("_")))


@register.filter
def amount(value: float | None, unit: str = "") -> str:
    """1,234 ms; a dash for None."""
    return format_number(value, unit=unit)


@register.filter
def shorten(text: str) -> str:
    left = len(text) - MAX_SHOWN_CHARACTERS
    if left <= 0:
        return text
    return f"{text[:MAX_SHOWN_CHARACTERS]}\n… {left:,} more characters; its record has them all"
