from django.urls import path, re_path

from chats import pages
from chats.views import ChatListView

urlpatterns = [
    path("v1/chat", ChatListView.as_view(), name="chat-list"),
    path("chats", pages.chat_list, name="chats"),
    re_path(r"^chats/export\.(?P<form>csv|json)$", pages.export_chats, name="chats-export"),
]
