"""Numbers in pages as they stand in the JSON document."""

import json
from typing import Any

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from batching.pages.charts import format_number

register = template.Library()


@register.filter(name="json")
def write_json(value: Any) -> str:
    return json.dumps(value)


@register.filter
def breakable(name: str) -> str:
    """A code may go on in the next line behind an underscore."""
    return format_html_join(SafeString("_<wbr>"), "{}", ([part] for part in name.split("_")))


@register.filter
def amount(value: float | None, unit: str = "") -> str:
    """1,234 ms; a dash for nothing."""
    return format_number(value, unit=unit)
