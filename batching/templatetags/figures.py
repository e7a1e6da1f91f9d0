"""Numbers in pages as they stand in the JSON document."""

import json
from typing import Any

from django import template

register = template.Library()


@register.filter(name="json")
def write_json(value: Any) -> str:
    return json.dumps(value)
