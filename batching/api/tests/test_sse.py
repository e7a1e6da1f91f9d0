import json

from batching.api.sse import format_frame


def test_frame_contains_no_line_separator_of_unicode() -> None:
    text = "a\u2028b\u2029c\x85d\x0b\x0c\x1c\r\ne"
    frame = format_frame({"type": "text", "content": text}).decode()
    assert frame.endswith("\n\n")
    (line,) = frame.rstrip("\n").splitlines()
    assert json.loads(line.removeprefix("data: "))["content"] == text
