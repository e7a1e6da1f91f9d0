import json

from batching.api.sse import format_frame


def test_frame_is_one_line_for_clients_that_know_all_of_unicodes_line_ends() -> None:
    text = "a\u2028b\u2029c\x85d\x0b\x0c\x1c\r\ne"
    frame = format_frame({"type": "text", "content": text}).decode()
    assert frame.endswith("\n\n")
    (line,) = frame.rstrip("\n").splitlines()
    assert json.loads(line.removeprefix("data: "))["content"] == text
