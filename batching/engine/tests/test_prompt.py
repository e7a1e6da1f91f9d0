import itertools
import json

from batching.engine.lanes import TokenBudget
from batching.engine.prompt import KEY_OVERHEAD_TOKENS, CombinedPrompt, combine

DEFAULT_BUDGET = TokenBudget(input=1000, output=10_000, thinking=500)


def combine_all(prompts: list[str], output_tokens: int = 100) -> CombinedPrompt:
    numbers = itertools.count(10)
    return combine(
        prompts,
        model="gemini-x",
        style="In verse.",
        output_tokens=output_tokens,
        draw=lambda: f"r{next(numbers)}",
        budget=DEFAULT_BUDGET,
    )


def test_each_prompt_is_data_under_its_own_key() -> None:
    prompts = ['say "hi"', "\x1b[2J {}", "zwölf 🎉\n", '"}, "1_r11": "x']
    prompt = combine_all(prompts)
    assert prompt.keys == ("0_r10", "1_r11", "2_r12", "3_r13")
    assert list(json.loads(prompt.contents).items()) == list(zip(prompt.keys, prompts, strict=True))
    assert "zwölf 🎉" in prompt.contents, "escapes would cost tokens"
    assert prompt.model == "gemini-x"


def test_schema_demands_exactly_the_keys_in_order_as_strings() -> None:
    prompt = combine_all(["a", "b"])
    assert prompt.schema["required"] == ["0_r10", "1_r11"]
    assert prompt.schema["propertyOrdering"] == ["0_r10", "1_r11"]
    assert list(prompt.schema["properties"].items()) == [
        ("0_r10", {"type": "string"}),
        ("1_r11", {"type": "string"}),
    ]
    assert prompt.schema["additionalProperties"] is False
    assert prompt.schema["type"] == "object"


def test_system_instruction_holds_style_and_rules_but_no_prompt() -> None:
    prompt = combine_all(["secret question"])
    assert prompt.system.endswith("In verse.")
    assert "same keys" in prompt.system
    assert "secret question" not in prompt.system
    assert str(prompt) == f"{prompt.system}\n\n{prompt.contents}"


def test_output_limit_is_the_sum_of_answers_keys_and_thinking() -> None:
    prompt = combine_all(["a", "b", "c"], output_tokens=300)
    assert prompt.max_output_tokens == 300 + 3 * KEY_OVERHEAD_TOKENS + 500


def test_output_limit_never_exceeds_the_limit_of_the_model() -> None:
    assert combine_all(["a"], output_tokens=9_990).max_output_tokens == 10_000
