"""Template tags for every page: links to the other pages, notices, and timestamps."""

from datetime import UTC, datetime
from typing import Any

from django import template
from django.template.context import RequestContext
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from batching.process.runtime import current_capacity
from batching.store.model_status import list_notices
from chats.timestamps import format_time
from settings_app.access.page_access import may_read

register = template.Library()


@register.simple_tag(takes_context=True)
def page_link(context: RequestContext, name: str, label: str) -> str:
    match = getattr(context.get("request"), "resolver_match", None)
    is_current = match is not None and match.view_name == name
    current = SafeString(' aria-current="page"') if is_current else ""
    return format_html('<a href="{}"{}>{}</a>', reverse(name), current, label)


@register.inclusion_tag("notices.html", takes_context=True)
def banner(context: RequestContext) -> dict[str, Any]:
    """Shown only to viewers who may read the pages: a notice may quote the model service."""
    request = context.get("request")
    is_reader = request is not None and may_read(request)
    return {"notices": list_notices(current_capacity()) if is_reader else []}


@register.simple_tag
def timestamp(value: datetime | None) -> str:
    """UTC to the second; `times.js` shows it in the viewer's zone."""
    if value is None:
        return "–"
    text = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<time datetime="{}">{}</time>', format_time(value), text)
