"""Fills in and saves the admin's forms of settings and lanes."""

from typing import Any

from django.test import Client
from django.urls import reverse

from settings_app.models import GatewaySettings, Lane


def save_settings(staff: Client, **fields: Any) -> Any:
    """Sends the form as a browser does; `store_prompts=""` clears the checkbox."""
    row = GatewaySettings.objects.get(pk=1)
    shown = {"model": row.model, "retention_days": row.retention_days}
    form = {"api_key": "", **shown, "store_prompts": "on" if row.store_prompts else ""}
    form |= {f"initial-{name}": value for name, value in shown.items()}
    form["initial-store_prompts"] = str(row.store_prompts)
    form |= fields
    if not form["store_prompts"]:
        del form["store_prompts"]
    return staff.post(SETTINGS_PAGE, form, follow=True)


def save_lane(staff: Client, priority: int, **fields: Any) -> Any:
    columns = ("window_s", "max_batch", "tokens", "latency_ms", "max_queue", "queue_share")
    columns += ("batch_scope", "style")
    row = Lane.objects.values(*columns).get(priority=priority)
    return staff.post(lane_page(priority), row | fields, follow=True)


SETTINGS_PAGE = "/admin/settings_app/gatewaysettings/1/change/"


def lane_page(priority: int) -> str:
    return reverse("admin:settings_app_lane_change", args=(priority,))
