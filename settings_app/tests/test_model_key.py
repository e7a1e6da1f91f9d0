"""The mask of the model key, and valid keys and model names."""

import pytest
from django.core.exceptions import ValidationError

from settings_app.model_key import mask_key, validate_key, validate_model


@pytest.mark.parametrize(
    ("key", "mask"),
    [
        (None, None),
        ("", None),
        ("a", "***"),
        ("abcdefg", "***"),
        ("abcdefgh", "***efgh"),
        ("AIzaSy0123456789", "***6789"),
    ],
)
def test_mask_shows_four_characters_of_a_key_of_eight_or_more(
    key: str | None, mask: str | None
) -> None:
    assert mask_key(key) == mask


@pytest.mark.parametrize("key", ["!", "~", "AIza-_9", "x" * 200])
def test_visible_ascii_is_a_key(key: str) -> None:
    validate_key(key)


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "a\x7f", "ä", "x" * 201, "***", "***abcd"])
def test_key_that_cannot_be_sent_in_a_header_is_refused(key: str) -> None:
    with pytest.raises(ValidationError, match=r"\.'\]$"):
        validate_key(key)


@pytest.mark.parametrize("name", ["a", "gemini-3.8-flash", "models/x", "a.b/c_d", "x" * 100])
def test_model_name_may_contain_letters_digits_and_some_punctuation(name: str) -> None:
    validate_model(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a..b", "a/", "/a", "a//b", "a/./b", "a?b", "a#b", "a%2e", "a\n"]
)
def test_model_name_that_would_change_the_path_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=r"\.'\]$"):
        validate_model(name)
