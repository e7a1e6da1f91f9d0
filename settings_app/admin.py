"""The admin of settings, lanes and API keys; it saves through the same services as the API."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.text import Truncator
from django.views.decorators.debug import sensitive_post_parameters
from rest_framework_api_key import admin as library_admin  # noqa: F401 - registers APIKey
from rest_framework_api_key.models import APIKey

from settings_app.access import admin as accounts  # noqa: F401 - registers users and groups
from settings_app.access.api_keys import change_api_key, delete_api_keys, store_api_key
from settings_app.admin_base import FixedRowsAdmin, ReadOnlyAdmin
from settings_app.forms import TIMESTAMP_INPUT, GatewaySettingsForm, describe_key
from settings_app.history import Author, find_author
from settings_app.lane_help import EFFECTS, compare_fields, describe_lane, format_effect
from settings_app.models import ApiClient, ApiKey, GatewaySettings, Lane, SettingsChange, Via
from settings_app.services import update_settings
from settings_app.snapshot import refresh_if_stale

MAX_LISTED_CHARACTERS = 80
EMPTY = "(empty)"


def author_of(request: HttpRequest) -> Author:
    return find_author(request.user.get_username(), Via.ADMIN)


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
        self, request: HttpRequest, obj: Any, form: GatewaySettingsForm, change: bool
    ) -> None:
        update_settings(api_key=form.new_key, **form.changes, by=author_of(request))


@admin.register(Lane)
class LaneAdmin(FixedRowsAdmin):
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

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> type["forms.ModelForm[Any]"]:
        """Explains each number beside its field; `lane_help.js` updates the text on input."""
        form = super().get_form(request, obj, change, **kwargs)
        for name, sentence in EFFECTS.items():
            if obj is not None and name in form.base_fields:
                words = format_effect(name, getattr(obj, name))
                form.base_fields[name].help_text = format_html(
                    '<span data-effect="{}" data-field="{}">{}</span>', sentence, name, words
                )
        return form

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        update_settings(lanes={obj.priority: changes}, by=author_of(request))


admin.site.unregister(APIKey)  # This is the library's own model, which is not used.


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Shows a new key once, after it was saved. Revoking a key cannot be undone."""

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

    formfield_overrides = {
        models.DateTimeField: {
            "form_class": forms.DateTimeField,
            "widget": TIMESTAMP_INPUT,
            "help_text": format_html(
                "The key is refused from this time on (<span data-zone>{}</span>). Empty: never.",
                "UTC",
            ),
        }
    }

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        if obj is None:
            return self.readonly_fields
        revoked = ("name", "revoked", "expiry_date") if obj.revoked else ()
        # With another client the key's chats would belong to that client.
        return (*self.readonly_fields, *revoked, "client")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            if not change_api_key(obj, form.changed_data, by=author_of(request)):
                messages.error(request, f"The API key of {obj.name} was deleted in the meantime.")
            return
        key = store_api_key(obj, by=author_of(request))
        messages.warning(
            request,
            f"The API key of {obj.name} is {key} - copy it now, it cannot be shown again.",
        )

    def delete_model(self, request: HttpRequest, obj: ApiKey) -> None:
        delete_api_keys(ApiKey.objects.filter(pk=obj.pk), by=author_of(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        delete_api_keys(queryset, by=author_of(request))


@admin.register(ApiClient)
class ApiClientAdmin(ReadOnlyAdmin):
    list_display = ("name", "created_at")


@admin.register(SettingsChange)
class SettingsChangeAdmin(ReadOnlyAdmin):
    """Lists the changes of settings and API keys."""

    list_display = ("changed_at", "by", "via", "subject", "field", "change")
    list_filter = ("via", "field")
    search_fields = ("by", "subject", "field", "before", "after")
    search_help_text = (
        "Part of a name, a field or a value. Of the model key only the mask is stored."
    )
    date_hierarchy = "changed_at"
    list_per_page = 50

    @admin.display(description="before → after")
    def change(self, row: SettingsChange) -> str:
        """Shows both values in one column, because two would make the list wider than a window."""
        ends = (
            Truncator(text).chars(MAX_LISTED_CHARACTERS) or EMPTY
            for text in (row.before, row.after)
        )
        return " → ".join(ends)
