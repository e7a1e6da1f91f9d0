from django.urls import path

from chats.views import ChatListView

urlpatterns = [path("v1/chat", ChatListView.as_view(), name="chat-list")]
