"""Opens the admin's lists and records with a test client."""

from django.urls import reverse


def open_list(client, name: str, query: str = "") -> str:
    response = client.get(reverse(f"admin:{name}_changelist") + query)
    assert response.status_code == 200
    return response.text


def open_record(client, row) -> str:
    name = f"{row._meta.app_label}_{row._meta.model_name}"
    response = client.get(reverse(f"admin:{name}_change", args=[row.pk]))
    assert response.status_code == 200
    return response.text
