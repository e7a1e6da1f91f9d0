"""What every page carries: the way to the other pages, the banner, moments in the viewer's zone."""

from datetime import UTC, datetime
from typing import Any

from django import template
from django.template.context import RequestContext
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html

from batching.process.runtime import find_capacity
from batching.store.model_status import list_notices
from chats.timestamps import format_time
from settings_app.access.page_access import may_read

register = template.Library()


@register.simple_tag(takes_context=True)
def page_link(context: RequestContext, name: str, label: str) -> str:
    """Nothing where no page has the name, so a line of `nav.html` may come before its page."""
    try:
        address = reverse(name)
    except NoReverseMatch:
        return ""
    match = getattr(context.get("request"), "resolver_match", None)
    is_here = match is not None and match.view_name == name
    current = ' aria-current="page"' if is_here else ""
    return format_html('<a href="{}"' + current + ">{}</a>", address, label)


@register.inclusion_tag("notices.html", takes_context=True)
def banner(context: RequestContext) -> dict[str, Any]:
    """For those who may read the pages: a notice may quote what the model service said."""
    request = context.get("request")
    return {
        "notices": list_notices(find_capacity())
        if request is not None and may_read(request)
        else []
    }


@register.simple_tag
def moment(value: datetime | None) -> str:
    """UTC to the second; `times.js` writes it in the viewer's zone."""
    if value is None:
        return "–"
    text = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<time datetime="{}">{}</time>', format_time(value), text)
