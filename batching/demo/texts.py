"""Who asks in the demo history, what they ask, and what they are told."""

import json
import random
from collections.abc import Sequence
from itertools import accumulate

from settings_app.models import Priority

USERNAME_PREFIX = "demo-"
MARK = "[demo] "
"""what every answer begins with: no model gave it"""

_NAMES = (
    *("support-desk", "newsletter", "anna", "ben", "catalogue", "nightly-report", "clara", "diego"),
    *("search-index", "emre", "fatima", "translations", "george", "hana", "ivan", "review-bot"),
    *("julia", "kofi", "lena", "invoice-reader", "marco", "nadia", "oskar", "priya"),
    *("quality-lab", "rosa", "samir", "training", "tove", "ulrich", "vera", "wei"),
    *("intern", "xenia", "yusuf", "zoe"),
)
USERNAMES = tuple(USERNAME_PREFIX + name for name in _NAMES)
_USES = tuple(accumulate(1 / rank**0.9 for rank in range(1, len(USERNAMES) + 1)))

_SUBJECTS = (
    *("a heat pump", "the water cycle", "compound interest", "a sourdough starter", "tides"),
    *("public-key encryption", "the French Revolution", "photosynthesis", "a balance sheet"),
    *("inflation", "a database index", "vaccination", "the offside rule", "plate tectonics"),
    *("a binary search", "jet lag", "crop rotation", "the electoral college", "black holes"),
    *("a rental contract", "supply and demand", "the immune system", "version control"),
    *("a wind turbine", "the Silk Road", "food allergies", "a parental leave policy", "jazz"),
    *("unit testing", "the ozone layer", "a mortgage", "habit formation", "machine translation"),
    *("a warranty claim", "glaciers", "time zones", "an energy bill", "the placebo effect"),
)
_PROMPTS = (
    "Explain {} to a ten-year-old.",
    "What is the most common mistake about {}?",
    "Summarise in three sentences what one must know about {}.",
    "Write a short introduction to {} for our newsletter.",
    "Give me five quiz questions about {}, with the answers.",
    "A customer asks about {}. Draft a friendly reply.",
    "List the pros and cons of what people usually say about {}.",
    "Which two books would you start with to learn about {}?",
    "How has {} changed over the last fifty years?",
    "Compare {} with something from everyday life.",
    "Is it worth knowing about {} in an office job? Why?",
    'Correct this sentence: "Me and him was talking about {} yesterday."',
    "Erkläre in zwei Sätzen: {}.",
    "Explique {} en français, simplement.",
    "Resume en español lo esencial sobre {}.",
    "「{}」について、一言で説明してください。",
)
_DETAILS = (
    *("", "", "", " Keep it under 100 words.", " Use plain language.", " No lists, please."),
    " I have read the first page of the encyclopedia article and did not get past the second"
    " paragraph, so assume that I know the words but not how they belong together.",
    " It is for a slide with room for about forty words.",
    " The reader works in accounting and has ten minutes.",
    "\n\nContext: we talked about this last week, and the team could not agree on where to begin.",
)
_OPENERS = (
    "On {}: this text was written beforehand, and no model was asked.",
    "A sample answer about {}, as long as a real one would be.",
    "Here a model would tell you about {}.",
    "What follows only has the shape of an answer about {}.",
)
_SENTENCES = (
    "The short version is that several small effects add up.",
    "It helps to begin with a concrete case and to generalise afterwards.",
    "Most explanations leave out the one step that makes the rest obvious.",
    "Two things are often confused here: the cause and the occasion.",
    "In practice the details matter less than the order in which they come.",
    "- first the parts,\n- then how they are connected,\n- then what happens when one is missing.",
    'The usual name is misleading; a better one would be "the slow part".',
    "A rough estimate is enough for most purposes, as long as its unit is written down.",
    "Nothing in this paragraph is advice; it fills a demo database.",
    "For comparison: an ordinary day has 86,400 seconds, and few of them are counted.",
    "The exception is well known and proves less than is said of it.",
    "Whoever wants to try it at home needs paper, a pencil and an hour of quiet.",
    "Critics object that the numbers are old; they are, and the newer ones agree with them.",
    "A naïve reading gets surprisingly far – up to the point where it suddenly does not.",
    "The table below would show it at a glance, if this were not a sample.",
    "Taken together, this leaves one open question, which is a good place to stop.",
)
_SENTENCE_COUNTS = {Priority.HIGH: (1, 3), Priority.MEDIUM: (3, 7), Priority.LOW: (8, 16)}


def draw_usernames(chance: random.Random, *, count: int) -> list[str]:
    """A few ask most of it."""
    return chance.choices(USERNAMES, cum_weights=_USES, k=count)


def draw_prompt(chance: random.Random) -> tuple[str, str]:
    """A prompt, and the subject that an answer has to take up."""
    subject = chance.choice(_SUBJECTS)
    return chance.choice(_PROMPTS).format(subject) + chance.choice(_DETAILS), subject


def draw_answer(chance: random.Random, *, subject: str, priority: int) -> str:
    least, most = _SENTENCE_COUNTS[Priority(priority)]
    count = least + int(chance.random() * (most - least + 1))
    # An odd step through sixteen sentences says none of them twice.
    first, step = chance.randrange(16), chance.randrange(1, 16, 2)
    sentences = [_SENTENCES[(first + step * n) % 16] for n in range(count)]
    return f"{MARK}{chance.choice(_OPENERS).format(subject)} {' '.join(sentences)}"


def write_reply(keys: Sequence[str], answers: Sequence[str], *, cut: bool) -> str:
    """As a model sends them; an empty answer is left out. `cut`: it never came to its end."""
    given = {key: answer for key, answer in zip(keys, answers, strict=True) if answer}
    reply = json.dumps(given, ensure_ascii=False)
    return reply[:-1] if cut else reply
