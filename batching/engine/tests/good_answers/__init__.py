"""Realistic prompts of twelve kinds, each with a good answer; made up for these tests.

A file holds `@@ask` and `@@good` texts. `@@part NAME` names a text that the following ones use as
`{NAME}`. `@@each a; b` has one row of fields on each line; each following prompt is used with every
row: the same instruction with other data.
"""

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
KINDS = (
    "classification",
    "coding",
    "extraction",
    "legal",
    "mails",
    "maths",
    "products",
    "recipes",
    "sql",
    "summaries",
    "support",
    "translation",
)
# What a batch holds: requests of one kind, of all kinds, of neighbours that ask about the same
# code, or of translations of the same text in both directions or into several languages.
MIXES = (*KINDS, "everything", "same code", "both directions", "same text")
LANGUAGES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish"}
# How people ask for a translation; each is used in turn.
TRANSLATE = (
    "Translate into {0}:\n\n{1}",
    "Please translate the following text to {0}. Only output the translation.\n\n{1}",
    "{1}\n\nTranslate this to {0}, please.",
    'What is the {0} translation of "{1}"?',
    "You are a professional translator. Give me a natural {0} version of this text:\n---\n{1}\n---",
    "Übersetze den folgenden Text in die Sprache mit dem englischen Namen {0}:\n{1}",
    "Traduis ce texte (langue : {0}) :\n{1}",
)


@dataclass(frozen=True, slots=True)
class Example:
    """`topic`: the row of data or the text that it is made of."""

    kind: str
    topic: int
    prompt: str
    answer: str


@cache
def read_examples(kind: str) -> tuple[Example, ...]:
    text = (FOLDER / f"{kind}.txt").read_text(encoding="utf-8")
    return tuple(_read_translations(text) if kind == "translation" else _read(kind, text))


@cache
def read_all() -> tuple[Example, ...]:
    return tuple(itertools.chain.from_iterable(map(read_examples, KINDS)))


def _read(kind: str, text: str) -> Iterator[Example]:
    parts: dict[str, str] = {}
    rows: list[dict[str, str]] = [{}]
    ask, first_topic = "", 0
    for head, body in re.findall(r"^@@(\w+.*)\n((?:(?!@@).*\n)*)", text, flags=re.MULTILINE):
        command, _, rest = head.partition(" ")
        body = body.rstrip("\n")
        if command == "part":
            parts[rest] = body
        elif command == "each":
            names, first_topic = rest.split("; "), first_topic + len(rows)
            rows = [
                dict(zip(names, line.split("; ", len(names) - 1), strict=True))
                for line in body.splitlines()
            ]
        elif command == "ask":
            ask = body
        else:
            first_topic += 1 if len(rows) == 1 else 0
            for topic, row in enumerate(rows, start=first_topic):
                yield Example(kind, topic, _fill(ask, row, parts), _fill(body, row, parts))


def _fill(template: str, *replacements: dict[str, str]) -> str:
    for values in replacements:
        for name, value in values.items():
            template = template.replace("{" + name + "}", value.replace("\\n", "\n"))
    return template


def _read_translations(text: str) -> Iterator[Example]:
    templates = itertools.cycle(TRANSLATE)
    for topic, block in enumerate(text.strip().split("\n\n")):
        texts = dict(line.split(": ", 1) for line in block.splitlines())
        for source, target in itertools.permutations(("de", "en", "fr"), 2):
            prompt = next(templates).format(LANGUAGES[target], texts[source])
            yield Example("translation", topic, prompt, texts[target])
        for source, target in (("en", "es"), ("es", "en")):
            prompt = next(templates).format(LANGUAGES[target], texts[source])
            yield Example("translation", topic, prompt, texts[target])


def draw_batches(mix: str, *, count: int) -> Iterator[Sequence[Example]]:
    """The same batches each time, of two to six different examples."""
    rng = random.Random(mix)
    for _ in range(count):
        yield _draw(mix, rng, size=rng.randint(2, 6))


def _draw(mix: str, rng: random.Random, *, size: int) -> Sequence[Example]:
    if mix == "same code":
        coding = read_examples("coding")  # Questions about the same code follow each other.
        starts = rng.sample(range(0, len(coding) - 1, 2), (size + 1) // 2)
        return [example for at in starts for example in coding[at : at + 2]]
    if mix == "same text":
        topic = rng.choice(read_examples("translation")).topic
        return rng.sample([e for e in read_examples("translation") if e.topic == topic], size)
    if mix == "both directions":
        firsts = rng.sample(read_examples("translation"), (size + 1) // 2)
        return list(dict.fromkeys(itertools.chain.from_iterable(map(_find_way_back, firsts))))
    return _draw_topics(read_all() if mix == "everything" else read_examples(mix), rng, size)


def _find_way_back(way: Example) -> tuple[Example, Example]:
    for back in read_examples("translation"):
        if way.answer in back.prompt and back.answer in way.prompt:
            return way, back
    raise LookupError(way.prompt)


def _draw_topics(pool: Sequence[Example], rng: random.Random, size: int) -> Sequence[Example]:
    """Leaves out a second example of a topic: its prompt may be made of the first one's answer."""
    batch: dict[tuple[str, int], Example] = {}
    while len(batch) < size:
        example = rng.choice(pool)
        batch.setdefault((example.kind, example.topic), example)
    return list(batch.values())
