"""Estimates how much information of other prompts a text holds: a rough count of bits.

Text that occurs in the reader's own prompt, in several prompts or in `COMMON_TEXT` has no
information. Frequent words have little, above all in code; numbers, names and rare words have much.
"""

import re
from collections.abc import Iterator, Sequence

from batching.engine.common_text import COMMON_TEXT, COMMON_WORDS

# Chinese and Japanese write no spaces between words, so each character is a token, and so is each
# pictogram.
_CHARACTERS = r"\u2600-\u27bf\u3040-\u30ff\u3400-\u9fff\U0001f300-\U0001faff"
_TOKENS = re.compile(rf"[{_CHARACTERS}]|\d+|[^\W\d_{_CHARACTERS}]+")
_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")
_ROUND_NUMBER = re.compile(r"0*\d0*")
# Consecutive tokens that make a phrase: so many in the same order are no coincidence.
PHRASE_TOKENS = 3
# A line is code or data if it is short and begins like code, or if it has a larger share of
# symbols; but not if it holds words that only sentences hold.
_CODE_LINE = re.compile(
    r"\s{2}|\t|#|//|(?:import|from|return|const|let|var|def|class|public|private|package|using"
    r"|try|else|end|select|where|join|group|order|having|insert|update|create)\b",
    re.IGNORECASE,
)
MAX_CODE_WORDS = 8
_SYMBOLS = re.compile(r"""[(){}\[\]<>=;:_*/\\|"#$&+@]|(?<=\w)\.(?=\w)""")
CODE_SHARE = 0.04
_SENTENCE_WORDS = re.compile(
    r"\b(?:my|me|you|your|we|our|he|she|her|they|the|that|what|who|was|were|have|has|are|am|will"
    r"|would|because|ich|mein\w*|wir|sie|ihr\w*|der|die|das|und|nicht|ist|sind|je|vous|nous|les"
    r"|que|est|mon|ma|yo|el|los|mi|es|está)\b",
    re.IGNORECASE,
)
MIN_SENTENCE_WORDS = 2

BITS_PER_LETTER = 1.5
BITS_PER_DIGIT = 3.0
MAX_TOKEN_BITS = 24.0
# Tokens of at most so many characters are frequent.
SHORT_TOKEN = 2
# A frequent or short word of prose, and a word that the reader's own prompt holds.
COMMON_WORD_BITS = 3.0
KNOWN_WORD_BITS = 1.0
# A rare word of code. Its frequent words have no information: everybody's code holds them.
CODE_WORD_BITS = 1.5

# What is private even in code: pairs of capitalized words (names), and passwords, keys and ids,
# which are long words that mix digits with other characters.
_NAMES = re.compile(r"\b[A-ZÀ-Þ][a-zß-ÿ]+ [A-ZÀ-Þ][a-zß-ÿ]+\b")
_INNER_NAMES = re.compile(rf"(?<=[^\W_A-ZÀ-Þ] ){_NAMES.pattern}")
_LONG_WORDS = re.compile(r"(?!v\d)[^\W_]{8,}")
_ALTERNATIONS = re.compile(r"\d+|\D+")
KEY_ALTERNATIONS = 4
KEY_BITS = 36.0

# A prompt that asks for a translation, in the languages that most requests are written in.
_TRANSLATE = (
    *("translat", "übersetz", "traduc", "tradui", "tradur", "tradut", "traduz"),
    *(
        "vertaal",
        "vertal",
        "översätt",
        "oversett",
        "oversæt",
        "tłumacz",
        "перевед",
        "перевод",
        "çevir",
    ),
    *("翻译", "翻譯", "翻訳", "訳して", "번역", "ترجم", "अनुवाद"),
)
_LANGUAGE = (
    "(?:english|german|french|spanish|italian|dutch|portuguese|polish|russian|chinese|japanese"
    "|korean|turkish|arabic|swedish|danish|norwegian|czech|deutsche?|englische?|französische?"
    "|spanische?|italienische?|anglais|allemand|français|espagnol|español|inglés|alemán|francés)"
)
_INTO_LANGUAGE = re.compile(
    rf"\b(?:into|ins|(?<!answer )(?<!reply )(?<!respond )(?<!antworte )(?:in|auf))\s+{_LANGUAGE}\b"
    rf"|(?:->|=>|→|\bto)\s*{_LANGUAGE}\b"
)
_FROM_TO_CODES = re.compile(r"\b[A-Z][A-Z]\s*[-=]?[->→]\s*[A-Z][A-Z]\b")
# The request for a translation is within so many characters of either end of the prompt.
REQUEST_CHARS = 300
# Texts that are translations of each other differ in their bytes by at most this factor.
MAX_LENGTH_RATIO = 1.75
# So many words that look like new names may be nouns, which German capitalizes.
MAX_NEW_NAMES = 2


def split_tokens(text: str) -> list[str]:
    return _TOKENS.findall(_CAMEL_CASE.sub(" ", text).lower())


def list_phrases(tokens: Sequence[str]) -> list[str]:
    starts = range(len(tokens) - PHRASE_TOKENS + 1)
    return [" ".join(tokens[start : start + PHRASE_TOKENS]) for start in starts]


_COMMON_PHRASES = frozenset(list_phrases(split_tokens(COMMON_TEXT)))
_COMMON_WORDS = frozenset(split_tokens(COMMON_WORDS))


class Information:
    """Estimates for the prompts of one call; a prompt is prepared when it is first needed."""

    def __init__(self, prompts: Sequence[str]) -> None:
        self._prompts = prompts
        self._words: dict[int, str] = {}
        self._phrases: dict[int, frozenset[str]] = {}
        self._translated: dict[int, bool] = {}

    def measure(
        self, text: str, *, reader: int, source: int, common: bool = True
    ) -> dict[str, float]:
        """The bits of each token of a text from the prompt `source` for the item `reader`.

        `common`: what is common has little information: code, and phrases of `COMMON_TEXT` or of a
        third prompt.
        """
        self._prepare(reader)
        own, known = self._words[reader], [self._phrases[reader]]
        if common:
            two = {self._prompts[reader], self._prompts[source]}
            third = [index for index, prompt in enumerate(self._prompts) if prompt not in two]
            known += [_COMMON_PHRASES, *(self._prepare(index) for index in third)]
        tokens: list[str] = []
        values: list[float] = []
        for line in text.splitlines():
            code = common and _is_code(line)
            names = split_tokens(" ".join(_NAMES.findall(line))) if code else ()
            for token in split_tokens(line):
                tokens.append(token)
                values.append(_estimate_bits(token, code=code and token not in names))
        free = set(_list_known_positions(tokens, known))
        bits = {
            token: KNOWN_WORD_BITS if _holds_word(own, token) else values[position]
            for position, token in enumerate(tokens)
            if position not in free
        }
        keys = (word for word in _list_keys(text) if word not in self._prompts[reader])
        return bits | dict.fromkeys(keys, KEY_BITS)

    def is_translation(self, text: str, *, reader: int, source: int) -> bool:
        """Whether the text of the prompt `source` may be a translation of what the reader sent.

        Both ask for a translation, of texts with similar lengths, and most of the numbers and names
        are the same. A text that holds the request itself is no translation.
        """
        if not (self._is_translated(reader) and self._is_translated(source)):
            return False
        if _asks_for_translation(text):
            return False
        own, other = self._prompts[reader], self._prompts[source]
        lengths = sorted(len(prompt.encode("utf-8", "replace")) for prompt in (own, other))
        return lengths[1] <= MAX_LENGTH_RATIO * lengths[0] and (
            self._knows_most(reader, _list_numbers(text))
            and self._knows_most(reader, _list_names(text), except_for=MAX_NEW_NAMES)
        )

    def _knows_most(self, reader: int, tokens: set[str], *, except_for: int = 0) -> bool:
        self._prepare(reader)
        unknown = sum(f" {token} " not in self._words[reader] for token in tokens)
        return unknown <= except_for or 2 * unknown <= len(tokens)

    def _is_translated(self, index: int) -> bool:
        if index not in self._translated:
            self._translated[index] = _asks_for_translation(self._prompts[index])
        return self._translated[index]

    def _prepare(self, index: int) -> frozenset[str]:
        """The phrases of a prompt; its words are kept with a space around each."""
        if index not in self._phrases:
            tokens = split_tokens(self._prompts[index])
            self._words[index] = f" {' '.join(tokens)} "
            self._phrases[index] = frozenset(list_phrases(tokens))
        return self._phrases[index]


def _list_known_positions(tokens: Sequence[str], known: Sequence[frozenset[str]]) -> Iterator[int]:
    for start, phrase in enumerate(list_phrases(tokens)):
        for phrases in known:
            if phrase in phrases:
                yield from range(start, start + PHRASE_TOKENS)
                break


def _holds_word(text: str, word: str) -> bool:
    """Whether the words of a text hold a word, or a longer one that begins with it: a plural."""
    return f" {word.removesuffix('s')}" in text


def _estimate_bits(token: str, *, code: bool) -> float:
    if token in _COMMON_WORDS or len(token) <= SHORT_TOKEN or _ROUND_NUMBER.fullmatch(token):
        return 0.0 if code else COMMON_WORD_BITS
    if token.isdigit():
        return min(BITS_PER_DIGIT * len(token), MAX_TOKEN_BITS)
    return CODE_WORD_BITS if code else min(BITS_PER_LETTER * len(token), MAX_TOKEN_BITS)


def _list_keys(text: str) -> Iterator[str]:
    for word in _LONG_WORDS.findall(text):
        if len(_ALTERNATIONS.findall(word)) >= KEY_ALTERNATIONS:
            yield word


def _is_code(line: str) -> bool:
    if len(_SENTENCE_WORDS.findall(line)) >= MIN_SENTENCE_WORDS:
        return False
    if len(_SYMBOLS.findall(line)) > CODE_SHARE * len(line):
        return True
    return bool(_CODE_LINE.match(line)) and len(line.split()) <= MAX_CODE_WORDS


def _list_numbers(text: str) -> set[str]:
    """The numbers that a translation keeps; small ones may be written as words."""
    tokens = [token for token in split_tokens(text) if token.isdigit()]
    return {t for t in tokens if len(t) > SHORT_TOKEN and not _ROUND_NUMBER.fullmatch(t)}


def _list_names(text: str) -> set[str]:
    return set(split_tokens(" ".join(_INNER_NAMES.findall(text)))) - _COMMON_WORDS


def _asks_for_translation(prompt: str) -> bool:
    ends = f"{prompt[:REQUEST_CHARS]}\n{prompt[-REQUEST_CHARS:]}"
    lower = ends.lower()
    return (
        any(stem in lower for stem in _TRANSLATE)
        or bool(_INTO_LANGUAGE.search(lower))
        or bool(_FROM_TO_CODES.search(ends))
    )
