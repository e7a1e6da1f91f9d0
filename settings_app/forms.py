"""The admin's form of the settings that belong to no lane."""

from typing import Any

from django import forms

from settings_app.model_key import explain_bad_key, explain_bad_model, mask_key
from settings_app.models import GatewaySettings
from settings_app.snapshot import Snapshot, refresh_if_stale

COLUMNS = ("model", "retention_days", "store_prompts")


class MomentInput(forms.DateTimeInput):
    """UTC; `times.js` lets the viewer read and write it in the viewer's own zone."""

    input_type = "datetime-local"

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        shown = {"step": "1", "max": "9999-12-31T23:59:59", "data-utc": "", "autocomplete": "off"}
        super().__init__(attrs=shown | (attrs or {}), format="%Y-%m-%dT%H:%M:%S")


class GatewaySettingsForm(forms.ModelForm):
    """The key is never shown: an empty field keeps it, the box clears it."""

    api_key = forms.CharField(
        label="API key",
        required=False,
        strip=True,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "size": 60}),
    )
    clear_key = forms.BooleanField(label="Clear the stored key", required=False)

    class Meta:
        model = GatewaySettings
        fields = COLUMNS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        snapshot = refresh_if_stale()
        self.fields["api_key"].help_text = describe_key(snapshot)
        # What was shown goes back with the form: what was left alone is not written back.
        for name in COLUMNS:
            self.fields[name].show_hidden_initial = True
        self.fields["model"].help_text = f"Empty means the default. In use: {snapshot.model}"

    def clean_api_key(self) -> str:
        key = self.cleaned_data["api_key"]
        if not key or key == mask_key(refresh_if_stale().api_key):
            return ""
        problem = explain_bad_key(key)
        if problem:
            raise forms.ValidationError(problem)
        return key

    def clean_model(self) -> str:
        name = self.cleaned_data["model"]
        problem = explain_bad_model(name) if name else ""
        if problem:
            raise forms.ValidationError(problem)
        return name

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("clear_key") and cleaned.get("api_key"):
            raise forms.ValidationError("Enter a new key or clear the stored one, not both.")
        return cleaned

    @property
    def changes(self) -> dict[str, Any]:
        """What was edited, beside the key."""
        edited = [name for name in COLUMNS if name in self.changed_data]
        return {name: self.cleaned_data[name] for name in edited}

    @property
    def new_key(self) -> str | None:
        """What `services.update_settings` takes: None leaves the key alone."""
        if self.cleaned_data["clear_key"]:
            return ""
        return self.cleaned_data["api_key"] or None


def describe_key(snapshot: Snapshot) -> str:
    if snapshot.key_problem:
        return snapshot.key_problem
    mask = mask_key(snapshot.api_key)
    match snapshot.key_source:
        case "stored":
            return f"Now {mask}, stored here. Leave the field empty to keep it."
        case "environment":
            return f"Now {mask}, from GEMINI_API_KEY. A key entered here takes its place."
    return "No key is set."
