"""The pages of `chats`; its endpoint is in `llmbatch/routes.py`."""

from django.urls import path, re_path

from chats import pages

urlpatterns = [
    path("chats", pages.chat_list, name="chats"),
    re_path(r"^chats/export\.(?P<form>csv|json)$", pages.export_chats, name="chats-export"),
]
