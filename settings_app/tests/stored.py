"""What the settings' tests compare."""

from typing import Any

from settings_app.models import GatewaySettings, Lane

KEY = "AIzaSyFirst-key-of-the-tests-wxyz"
OTHER_KEY = "AIzaSySecond-key-of-the-tests-1234"


def everything_stored() -> Any:
    return list(GatewaySettings.objects.values()), list(Lane.objects.values())
