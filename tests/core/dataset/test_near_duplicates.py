"""Near-duplicate prompts: found, order-independent, in little memory, and not everything."""

import json
import random
import tracemalloc
from pathlib import Path

from rlhf_core.dataset.near_duplicates import NUM_HASHES, PromptSketches
from rlhf_core.feedback.drafts import prompt_hash

RECIPE = (
    "Write down in detail how a person without any experience can bake a loaf of sourdough bread "
    "at home, from the starter to the cooled loaf, for an oven of {} degrees."
)
OTHER = "Explain to a child of ten years why the sky is blue at noon and red in the evening."


def find(prompts: list[str]) -> dict[str, str]:
    """The leader of each prompt's group, by prompt."""
    sketches = PromptSketches(is_comparing=True)
    places = [sketches.add(prompt_hash(prompt), prompt) for prompt in prompts]
    leaders = sketches.find_leaders()
    return {prompt: leaders[place] for prompt, place in zip(prompts, places, strict=True)}


def words(drawn: random.Random, number: int) -> str:
    return " ".join("".join(drawn.choices("abcdefghij", k=6)) for _ in range(number))


def test_prompts_that_differ_in_a_word_belong_together() -> None:
    first, second = RECIPE.format("220"), RECIPE.format("two hundred")
    found = find([first, OTHER, second, f"{OTHER}!"])
    assert found[first] == found[second]
    assert found[OTHER] == found[f"{OTHER}!"]
    assert found[first] != found[OTHER]


def test_short_questions_about_different_things_stay_apart() -> None:
    prompts = [f"What is {number} plus {number}?" for number in range(300)]
    assert len(set(find(prompts).values())) == 300


def test_near_duplicates_of_near_duplicates_belong_together() -> None:
    drawn = random.Random(1)
    chain = [words(drawn, 30)]
    for place in range(8):
        parts = chain[-1].split()
        parts[place * 3] = words(drawn, 1)
        chain.append(" ".join(parts))
    found = find([*chain, OTHER])
    assert len({found[prompt] for prompt in chain}) == 1
    assert found[OTHER] not in {found[prompt] for prompt in chain}


def test_groups_do_not_depend_on_the_order() -> None:
    drawn = random.Random(2)
    prompts = [f"{words(drawn, 25)} {number}" for number in range(20)]
    prompts += [f"{prompt} again" for prompt in prompts]
    found = find(prompts)
    for seed in range(3):
        shuffled = random.Random(seed).sample(prompts, len(prompts))
        assert find(shuffled) == found
    assert len(set(found.values())) == 20


def test_equal_prompts_are_one_and_odd_texts_are_no_trouble() -> None:
    sketches = PromptSketches(is_comparing=True)
    odd = ["", "a", "\ud800", "日本語の質問です", "x" * 100_000]
    places = [sketches.add(prompt_hash(repr(text)), text) for text in [*odd, *odd]]
    assert places == [*range(5), *range(5)]
    assert len(sketches) == len(sketches.find_leaders()) == 5


def test_without_comparing_every_prompt_is_on_its_own() -> None:
    sketches = PromptSketches(is_comparing=False)
    for prompt in (OTHER, f"{OTHER}!"):
        sketches.add(prompt_hash(prompt), prompt)
    assert len(set(sketches.find_leaders())) == 2
    assert sketches.summary is None


def test_memory_of_a_prompt_does_not_grow_with_its_length() -> None:
    drawn = random.Random(3)
    texts = [words(drawn, 400) for _ in range(200)]
    sketches = PromptSketches(is_comparing=True)
    sketches.add("first", texts[0])
    tracemalloc.start()
    for number, text in enumerate(texts):
        sketches.add(f"{number}", text)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 200 * (4 * NUM_HASHES + 400)


def test_real_puzzles_with_other_names_are_found(shared_data: Path) -> None:
    lines = (shared_data / "mr_gsm8k_part" / "steps.jsonl").read_text().splitlines()
    prompts = sorted({json.loads(line)["prompt"] for line in lines})
    found = find(prompts)
    together = [
        [p for p in prompts if found[p] == leader] for leader in sorted(set(found.values()))
    ]
    assert 5 <= sum(len(group) > 1 for group in together) <= 30
    assert max(map(len, together)) <= 3
