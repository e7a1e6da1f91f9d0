"""Key, model and lanes for staff; a save goes the way of the API and applies at once."""

from typing import Any

from django.contrib import admin
from django.forms import Field, ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from settings_app.forms import GatewaySettingsForm, describe_key
from settings_app.models import ApiClient, GatewaySettings, Lane
from settings_app.services import update_settings
from settings_app.snapshot import refresh_if_stale


class FixedRowsAdmin(admin.ModelAdmin):
    """Rows that exist from the first migration on: none is added, none deleted."""

    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


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
        update_settings(api_key=form.new_key, **form.changes, by=request.user.get_username())


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
        "updated_at",
    )
    readonly_fields = ("updated_at",)

    def formfield_for_dbfield(self, *args: Any, **kwargs: Any) -> Field | None:
        """With the value it was shown with: what the editor left alone is not written back."""
        field = super().formfield_for_dbfield(*args, **kwargs)
        if field is not None:
            field.show_hidden_initial = True
        return field

    def save_model(self, request: HttpRequest, obj: Lane, form: ModelForm, change: bool) -> None:
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        update_settings(lanes={obj.priority: changes}, by=request.user.get_username())


@admin.register(ApiClient)
class ApiClientAdmin(FixedRowsAdmin):
    list_display = ("name", "created_at")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
