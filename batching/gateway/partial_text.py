"""The text of an answer that is still being written, where its clients wait."""

from dataclasses import dataclass


@dataclass(slots=True)
class PartialText:
    """What one call has written for an item so far."""

    call_id: int
    text: str = ""
    generation: int | None = None

    def add(self, start: int, text: str) -> None:
        """Takes a piece where it joins on; behind a lost one nothing more, until the answer."""
        if start <= len(self.text) < start + len(text):
            self.text += text[len(self.text) - start :]
