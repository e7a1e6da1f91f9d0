"""Stored API keys."""

from asgiref.sync import sync_to_async

from settings_app.access.api_keys import create_api_key

make_key = sync_to_async(create_api_key)
