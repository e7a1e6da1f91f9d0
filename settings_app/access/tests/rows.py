"""Creates API keys for tests."""

from typing import Any

from asgiref.sync import sync_to_async

from settings_app.access.api_keys import store_api_key
from settings_app.history import COMMAND
from settings_app.models import ApiKey


def create_api_key(**columns: Any) -> tuple[ApiKey, str]:
    """Returns the stored row and the key."""
    row = ApiKey(**columns)
    return row, store_api_key(row, by=COMMAND)


create_api_key_async = sync_to_async(create_api_key)
