from rlhf_core.dataset.splits import assign_split
from rlhf_core.vocabulary import Split


def test_prompt_keeps_its_part_whatever_else_there_is() -> None:
    parts = [assign_split(f"g{i}", seed=1, test_percent=20) for i in range(2_000)]
    assert parts == [assign_split(f"g{i}", seed=1, test_percent=20) for i in range(2_000)]
    assert 340 < parts.count(Split.TEST) < 460


def test_more_percent_keep_what_fewer_took() -> None:
    few = {i for i in range(500) if assign_split(f"g{i}", seed=1, test_percent=5) is Split.TEST}
    more = {i for i in range(500) if assign_split(f"g{i}", seed=1, test_percent=30) is Split.TEST}
    assert few < more


def test_without_a_share_nothing_is_kept_back() -> None:
    parts = {assign_split(f"g{i}", seed=0, test_percent=0) for i in range(100)}
    assert parts == {Split.TRAIN}
