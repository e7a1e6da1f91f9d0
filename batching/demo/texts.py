"""Usernames, prompts and answers of the demo history."""

import random

from batching.llm.simulated.answers import MARK, answer_prompt

USERNAME_PREFIX = "demo-"
# Every demo answer begins with this, because no model wrote it.
ANSWER_MARK = "[demo] "
NAMES = (
    *("support-desk", "newsletter", "anna", "ben", "catalogue", "nightly-report", "clara", "diego"),
    *("search-index", "emre", "fatima", "translations", "hana", "ivan", "review-bot", "zoe"),
    *("julia", "kofi", "lena", "invoice-reader", "marco", "nadia", "quality-lab", "priya"),
)
# The first names send most of the requests.
NAME_WEIGHTS = [1 / rank for rank in range(1, len(NAMES) + 1)]
SUBJECTS = (
    *("a heat pump", "the water cycle", "compound interest", "a sourdough starter", "tides"),
    *("encryption", "photosynthesis", "a balance sheet", "inflation", "vaccination", "jet lag"),
)
PROMPTS = (
    "Explain {} to a ten-year-old.",
    "What is the most common mistake about {}?",
    "Give me five quiz questions about {}, with the answers.",
    "A customer asks about {}. Draft a friendly reply.",
    "Erkläre in zwei Sätzen: {}.",
    "「{}」について、一言で説明してください。",
)
DETAILS = ("", " Keep it short.", " Use plain words.", " No lists.", "\n\nI have ten minutes.")


def draw_usernames(chance: random.Random, count: int) -> list[str]:
    return [USERNAME_PREFIX + name for name in chance.choices(NAMES, NAME_WEIGHTS, k=count)]


def draw_prompt(chance: random.Random) -> str:
    return chance.choice(PROMPTS).format(chance.choice(SUBJECTS)) + chance.choice(DETAILS)


def draw_answer(chance: random.Random, prompt: str) -> str:
    answer = answer_prompt(prompt, seed=chance.getrandbits(32)).removeprefix(MARK)
    return f"{ANSWER_MARK}{answer} I know {chance.randint(2, 9)} sources."
