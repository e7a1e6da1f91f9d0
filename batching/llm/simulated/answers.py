"""The answers of the simulated model: short, about the prompt, and hard to parse."""

import random
import re

# Every answer begins with this mark.
MARK = "[simulated] "

ECHO_CHARS = 300
MAX_WORDS = 50_000

_WORDS_MARKER = re.compile(r"\[\[words:(\d{1,6})\]\]")
# They suit every prompt, and hold what is hard to parse: quotes, brackets, lines, other scripts.
_STATEMENTS = (
    "there is one main cause, and a few conditions under which it holds.",
    'the usual answer is "it depends", and two things decide on what.',
    "most explanations agree, although they name the parts differently.",
    "in short (簡単に言えば), less is involved than one would think.",
)
_DETAILS = (
    "The essential points:\n- what happens first\n- what follows from it",
    "As a formula: {cause} → {effect} [with exceptions].",
    "An expert 👩‍🔬 would add examples 🌍 and a source.",
    "A naïve reading — common, even in cafés — misses the second point.",
    'The opposite ("it is always so") is a common mistake.',
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
    return f'{MARK}On "{echo}": {rng.choice(_STATEMENTS)} {rng.choice(_DETAILS)}'


def count_tokens(text: str) -> int:
    """One token per four characters: a rule of thumb, not the tokenizer of a model."""
    return (len(text) + 3) // 4
