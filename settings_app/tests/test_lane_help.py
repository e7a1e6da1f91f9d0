"""The table of lanes and the sentences that explain their numbers."""

import re

import pytest

from settings_app.lane_help import EFFECTS, compare_fields, describe_lane
from settings_app.models import BatchScope, Lane

pytestmark = pytest.mark.django_db
LIST = "/admin/settings_app/lane/"


def test_sentences_contain_the_numbers_of_the_lane():
    lane = Lane(window_s=0.25, max_batch=7, tokens=12_000, latency_ms=650, max_queue=9000)
    words = " ".join(describe_lane(lane))
    for text in (
        "0.25 s",
        "At most 7 requests",
        "12,000 tokens",
        "650 ms",
        "9,000 requests",
        "50 %",
    ):
        assert text in words
    assert "different clients may share" in words
    lane.batch_scope, lane.hold_until_checked = BatchScope.USERNAME, True
    assert "of one username" in describe_lane(lane)[-2]
    assert "whole reply" in describe_lane(lane)[-1]


def test_list_shows_every_lane_side_by_side_with_units(admin_client):
    Lane.objects.filter(pk=2).update(window_s=0.35)
    page = admin_client.get(LIST).text
    row = re.search(r'<th scope="row">Window</th>(.*?)</tr>', page)
    assert re.findall(r"<td>(.*?)</td>", row[1]) == ["0.35", "1", "4", "s"]
    assert "A request waits at most 0.35 s for others" in page
    for priority in (2, 1, 0):
        assert f'href="{LIST}{priority}/change/"' in page
    assert len(compare_fields(list(Lane.objects.all()))) == 8


def test_form_explains_each_number_and_contains_the_sentences_for_the_script(admin_client):
    page = admin_client.get(f"{LIST}1/change/").text
    for name, sentence in EFFECTS.items():
        assert f'data-field="{name}"' in page
        assert f"{{{name}}}" in sentence
    assert "A request waits at most 1 s for others" in page
    assert "llmbatch/lane_help.js" in page


def test_form_does_not_show_the_sentences_of_another_lane(admin_client):
    admin_client.get(f"{LIST}0/change/")
    assert "waits at most 4 s" not in admin_client.get(f"{LIST}2/change/").text
