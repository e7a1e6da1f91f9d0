"""Tenants take turns in a lane: the clients or, under open access, the usernames."""

from collections import defaultdict

from django.db.models import Case, Count, F, Value, When

from batching.engine.lanes import Priority
from chats.models import Chat, Status
from settings_app.models import OPEN_ACCESS_CLIENT_ID

# Identifies the tenant in SQL, together with `client_id`.
TENANT_NAME = Case(When(client_id=OPEN_ACCESS_CLIENT_ID, then=F("username")), default=Value(""))


def find_tenant(client_id: int, username: str) -> str:
    return f"{client_id}:{username}" if client_id == OPEN_ACCESS_CLIENT_ID else f"{client_id}"


def count_queued() -> dict[Priority, dict[str, int]]:
    """The queued requests of all processes, by lane and tenant."""
    queued = Chat.objects.filter(status=Status.QUEUED).order_by()
    columns = queued.values_list("priority", "client_id", TENANT_NAME)
    found: defaultdict[Priority, dict[str, int]] = defaultdict(dict)
    for priority, client_id, name, number in columns.annotate(Count("pk")):
        found[Priority(priority)][find_tenant(client_id, name)] = number
    return dict(found)
