"""The admin's form for the settings that belong to no lane."""

from typing import Any

from django import forms

from settings_app.model_key import mask_key, validate_key, validate_model
from settings_app.models import GatewaySettings
from settings_app.snapshot import Snapshot, refresh_if_stale

COLUMNS = ("model", "retention_days", "store_prompts")


# Holds a timestamp in UTC; `times.js` shows it in the time zone of the viewer.
TIMESTAMP_INPUT = forms.DateTimeInput(
    attrs={
        "type": "datetime-local",
        **{"step": "1", "max": "9999-12-31T23:59:59", "data-utc": "", "autocomplete": "off"},
    },
    format="%Y-%m-%dT%H:%M:%S",
)


class GatewaySettingsForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """Never shows the key: an empty field keeps it, and the checkbox clears it."""

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
        self.fields["model"].help_text = f"Empty means the default. In use: {snapshot.model}"
        self.fields["model"].validators.append(validate_model)

    def clean_api_key(self) -> str:
        key: str = self.cleaned_data["api_key"]
        if not key or key == mask_key(refresh_if_stale().api_key):
            return ""
        validate_key(key)
        return key

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("clear_key") and cleaned.get("api_key"):
            raise forms.ValidationError("Enter a new key or clear the stored one, not both.")
        return cleaned

    @property
    def changes(self) -> dict[str, Any]:
        """The edited values except the key."""
        return {name: self.cleaned_data[name] for name in COLUMNS if name in self.changed_data}

    @property
    def new_key(self) -> str | None:
        """The argument of `update_settings`: None keeps the key, "" clears it."""
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
            return f"Now {mask}, from GEMINI_API_KEY. A key entered here replaces it."
    return "No key is set."
