"""The answers of the simulated model: the prompt again, and sentences that are hard to parse."""

import random
import re

# Every answer begins with this mark.
MARK = "[simulated] "

ECHO_CHARS = 300
MAX_WORDS = 50_000

_WORDS_MARKER = re.compile(r"\[\[words:(\d{1,6})\]\]")
_SENTENCES = (
    "No model was asked, so nothing here is true or false.",
    'It would say "it depends", and mean it.',
    "A façade of naïve café talk — déjà vu.",
    "Some emoji for the parser: 🌍🚀👩‍🔬.",
    "日本語の文もあります。",
    "A path such as C:\\temp\\new, and a tab:\t.",
    "- first point\n- second point",
    "Braces {like: these}, [these] and </these> mean nothing.",
    "Set GEMINI_API_KEY to hear from the real one.",
)
_WORDS = ("batch", "window", "queue", "answer", "prompt", "naïve", "日本", "🚀", "split", "due")


def answer_prompt(prompt: str, *, seed: int = 0) -> str:
    """The same prompt and seed have the same answer. `[[words:N]]` in a prompt asks for N words."""
    rng = random.Random(f"{seed}:{prompt.encode('utf-8', 'replace')!r}")
    marker = _WORDS_MARKER.search(prompt)
    if marker:
        count = min(int(marker[1]), MAX_WORDS)
        return MARK + " ".join(rng.choices(_WORDS, k=count))
    echo = prompt[:ECHO_CHARS].encode("utf-8", "replace").decode()
    return f"{MARK}You asked: {echo}\n" + " ".join(rng.sample(_SENTENCES, k=2))


def count_tokens(text: str) -> int:
    """One token per four characters: a rule of thumb, not the tokenizer of a model."""
    return (len(text) + 3) // 4
