"""Key, model and lanes for staff; a save goes the way of the API and applies at once."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.text import Truncator
from django.views.decorators.debug import sensitive_post_parameters
from rest_framework_api_key.admin import APIKeyModelAdmin
from rest_framework_api_key.models import APIKey

from settings_app.access import admin as accounts  # noqa: F401 - registers the accounts
from settings_app.access.api_keys import change_api_key, delete_api_keys, store_api_key
from settings_app.admin_base import FixedRowsAdmin
from settings_app.forms import GatewaySettingsForm, MomentInput, describe_key
from settings_app.history import Author, find_author
from settings_app.lane_help import EFFECTS, compare_fields, describe_lane, format_effect
from settings_app.models import ApiClient, ApiKey, GatewaySettings, Lane, SettingsChange, Via
from settings_app.services import update_settings
from settings_app.snapshot import refresh_if_stale

LISTED_CHARS = 80
EMPTY = "(empty)"


def author_of(request: HttpRequest) -> Author:
    return find_author(request.user, Via.ADMIN)


@admin.register(GatewaySettings)
class GatewaySettingsAdmin(FixedRowsAdmin):
    form = GatewaySettingsForm
    fields = (
        "key_in_use",
        "api_key",
        "clear_key",
        "model",
        "retention_days",
        "store_prompts",
        "updated_at",
    )
    readonly_fields = ("key_in_use", "updated_at")

    @admin.display(description="Key in use")
    def key_in_use(self, row: GatewaySettings) -> str:
        return describe_key(refresh_if_stale())

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:settings_app_gatewaysettings_change", args=(1,)))

    @method_decorator(sensitive_post_parameters("api_key"))
    def change_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().change_view(*args, **kwargs)

    def save_model(
        self, request: HttpRequest, obj: GatewaySettings, form: ModelForm, change: bool
    ) -> None:
        update_settings(api_key=form.new_key, **form.changes, by=author_of(request))


@admin.register(Lane)
class LaneAdmin(FixedRowsAdmin):
    list_display = (
        "__str__",
        "window_s",
        "max_batch",
        "tokens",
        "latency_ms",
        "max_queue",
        "batch_scope",
        "hold_until_checked",
        "updated_at",
    )
    readonly_fields = ("updated_at",)

    class Media:
        js = ("llmbatch/lane_help.js",)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        lanes = list(Lane.objects.all())
        shown = {
            "lanes": [{"row": lane, "words": describe_lane(lane)} for lane in lanes],
            "lane_fields": compare_fields(lanes),
            "title": "Lanes",
        }
        return super().changelist_view(request, (extra_context or {}) | shown)

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> type[ModelForm]:
        """What each number means stands beside it, and follows what is typed."""
        form = super().get_form(request, obj, **kwargs)
        for name, sentence in EFFECTS.items():
            if obj is not None and name in form.base_fields:
                words = format_effect(name, getattr(obj, name))
                form.base_fields[name].help_text = format_html(
                    '<span data-effect="{}" data-field="{}">{}</span>', sentence, name, words
                )
        return form

    def formfield_for_dbfield(self, *args: Any, **kwargs: Any) -> forms.Field | None:
        """With the value it was shown with: what the editor left alone is not written back."""
        field = super().formfield_for_dbfield(*args, **kwargs)
        if field is not None:
            field.show_hidden_initial = True
        return field

    def save_model(self, request: HttpRequest, obj: Lane, form: ModelForm, change: bool) -> None:
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        update_settings(lanes={obj.priority: changes}, by=author_of(request))


admin.site.unregister(APIKey)  # the library's own model, which nothing here uses


@admin.register(ApiKey)
class ApiKeyAdmin(APIKeyModelAdmin):
    """A new key is shown once, after it was saved. Revoking cannot be undone."""

    list_display = (
        "prefix",
        "name",
        "owner",
        "client",
        "is_staff",
        "requests_per_minute",
        "last_used_at",
        "expiry_date",
        "revoked",
    )
    list_filter = ("revoked", "is_staff")
    list_select_related = ("client",)
    search_fields = ("name", "prefix", "owner")
    readonly_fields = ("prefix", "last_used_at")

    def formfield_for_dbfield(
        self, db_field: models.Field, request: HttpRequest, **kwargs: Any
    ) -> forms.Field | None:
        if db_field.name != "expiry_date":
            return super().formfield_for_dbfield(db_field, request, **kwargs)
        words = format_html(
            "From this moment on (<span data-zone>{}</span>) the key is refused. Empty: never.",
            "UTC",
        )
        label = str(db_field.verbose_name).capitalize()
        return forms.DateTimeField(label=label, required=False, widget=MomentInput, help_text=words)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        moved = () if obj is None else ("client",)  # its chats would change hands
        return (*super().get_readonly_fields(request, obj), "last_used_at", *moved)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ModelForm, change: bool) -> None:
        if change:
            if not change_api_key(obj, form.changed_data, by=author_of(request)):
                messages.error(request, f"The API key of {obj.name} was deleted meanwhile.")
            return
        key = store_api_key(obj, by=author_of(request))
        messages.warning(
            request,
            f"The API key of {obj.name} is {key} - keep it now, it cannot be shown again.",
        )

    def delete_model(self, request: HttpRequest, obj: ApiKey) -> None:
        delete_api_keys(ApiKey.objects.filter(pk=obj.pk), by=author_of(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        delete_api_keys(queryset, by=author_of(request))


@admin.register(ApiClient)
class ApiClientAdmin(FixedRowsAdmin):
    list_display = ("name", "created_at")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(SettingsChange)
class SettingsChangeAdmin(FixedRowsAdmin):
    """Written by the changes themselves; nobody edits it."""

    list_display = ("changed_at", "by", "via", "subject", "field", "change")
    list_filter = ("via", "field")
    search_fields = ("by", "subject", "field", "before", "after")
    search_help_text = "Part of a name, a field or a value; of the model key only the mask is kept."
    date_hierarchy = "changed_at"
    list_per_page = 50

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="before → after")
    def change(self, row: SettingsChange) -> str:
        """In one column, or the list would be wider than a window."""
        ends = (Truncator(text).chars(LISTED_CHARS) or EMPTY for text in (row.before, row.after))
        return " → ".join(ends)
