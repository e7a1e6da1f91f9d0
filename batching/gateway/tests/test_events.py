"""A client receives every character of its answer once."""

from batching.gateway.events import SentText
from batching.gateway.waiters import PartialText


def test_no_character_is_sent_twice() -> None:
    sent = SentText()
    assert list(sent.catch_up(PartialText(1, "ab"))) == [{"type": "text", "content": "ab"}]
    assert list(sent.catch_up(PartialText(1, "ab"))) == []
    assert list(sent.catch_up(PartialText(1, "abc"))) == [{"type": "text", "content": "c"}]
    assert list(sent.complete("abcd")) == [{"type": "text", "content": "d"}]


def test_another_text_begins_with_a_restart() -> None:
    sent = SentText()
    assert list(sent.catch_up(PartialText(1))) == []
    assert list(sent.catch_up(PartialText(2))) == [], "nothing was sent that could be void"
    list(sent.catch_up(PartialText(2, "ab")))
    again = list(sent.catch_up(PartialText(3, "ab")))
    assert again == [{"type": "restart"}, {"type": "text", "content": "ab"}]
    assert list(sent.complete("xy")) == [{"type": "restart"}, {"type": "text", "content": "xy"}]
