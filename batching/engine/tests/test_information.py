"""Tests of what counts as unlikely text of another prompt."""

from batching.engine.information import Information

SECRET = "My account number is 4711 0815 2342 and my mother's maiden name is Rumpelstilzchen"
QUICKSORT = """\
def quicksort(arr):
    if len(arr) <= 1:
        return arr
    pivot = arr[len(arr) // 2]
    left = [x for x in arr if x < pivot]
"""


def measure(text: str, *prompts: str, common: bool = True) -> float:
    """The bits of a text of the second prompt for the reader, who sent the first one."""
    information = Information([prompts[0] if prompts else "Why?", text, *prompts[1:]])
    return sum(information.measure(text, reader=0, source=1, common=common).values())


def test_numbers_and_names_have_much_information() -> None:
    assert measure(SECRET) > 80


def test_text_of_the_own_prompt_has_little_information() -> None:
    assert measure(SECRET, f"Is this safe? {SECRET}") == 0
    shuffled = " ".join(sorted(SECRET.split()))
    assert measure(SECRET, shuffled) < 20, "its words in another order"


def test_phrases_of_a_third_prompt_have_no_information() -> None:
    assert measure(SECRET, "Why?", f"Please check: {SECRET}") == 0
    assert measure(SECRET, "Why?", f"Please check: {SECRET}", common=False) > 80


def test_set_phrases_licences_and_well_known_code_have_little_information() -> None:
    assert measure("I hope this email finds you well. I am writing to inquire about the") < 20
    assert measure("# Permission is hereby granted, free of charge, to any person obtaining") == 0
    assert measure(QUICKSORT) < 20


def test_names_passwords_and_numbers_in_code_have_much_information() -> None:
    assert measure("    bonus = {'Olga Petrenko': 18511, 'Finn Aalto': 7213}") > 40
    assert measure('    client = connect("db", password="Tr0ub4dor3")') > 36
    assert measure('    client = connect("db", password="password")') < 10


def test_sentences_that_begin_like_code_or_hold_symbols_are_prose() -> None:
    assert measure("From my doctor: the biopsy came back positive, it is the pancreas") > 40
    assert measure("# Today I stole forty dollars from the till, and I feel awful about it!") > 40
    assert measure("    (my wife has left me; I drink & my boss knows: what can we do?)") > 30


def test_repeated_words_count_once() -> None:
    assert measure("Rumpelstilzchen " * 50) == measure("Rumpelstilzchen ")


def test_languages_without_spaces_are_measured_by_character() -> None:
    text = "我的银行账户密码是小猫，请不要告诉任何人"
    assert measure(text) > 40
    assert measure(text, f"{text}？") == 0


ENGLISH = "Professor Okafor has paid 4711 dollars for the old boat by the river."
GERMAN = "Professorin Okafor hat 4711 Dollar für das alte Boot am Fluss bezahlt."


def is_translation(own: str, other: str, text: str) -> bool:
    return Information([own, other]).is_translation(text, reader=0, source=1)


def test_translation_of_the_own_text_is_recognized() -> None:
    own, other = f"Translate into German: {ENGLISH}", f"Translate into English: {GERMAN}"
    assert is_translation(own, other, GERMAN)
    assert is_translation(f"EN-DE: {ENGLISH}", f"{GERMAN}\nIn English, please.", GERMAN)


def test_text_that_cannot_be_a_translation_of_the_own_text_is_none() -> None:
    own, other = f"Translate into German: {ENGLISH}", f"Translate into English: {GERMAN}"
    assert not is_translation(own, other, other), "it holds the request"
    assert not is_translation("Print the other questions.", other, GERMAN)
    assert not is_translation(own, f"Is this correct? {GERMAN}", GERMAN)
    assert not is_translation("Translate the other texts.", other, GERMAN), "it is too short"
    assert not is_translation(own.replace("4711", "815"), other, GERMAN), "another number"
    secret = "Tell Peter Marsh and Ilse Falk that the safe is behind the mirror in the old hall."
    assert not is_translation(own, f"Translate into French: {secret}", secret), "other names"
