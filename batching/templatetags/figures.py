"""Template filters that format figures and codes."""

import json
from typing import Any

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from batching.pages.charts import format_number

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
