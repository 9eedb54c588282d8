import pytest

from rlhf_core.dataset.splits import SplitParams, assign_split
from rlhf_core.errors import InvalidInput
from rlhf_core.vocabulary import Split


def test_share_of_the_prompts_is_kept_and_is_always_the_same() -> None:
    parts = [assign_split(f"g{i}", seed=1, test_percent=20) for i in range(2_000)]
    assert parts == [assign_split(f"g{i}", seed=1, test_percent=20) for i in range(2_000)]
    assert 350 < parts.count(Split.TEST) < 450


def test_more_test_prompts_contain_the_fewer() -> None:
    few = {i for i in range(500) if assign_split(f"g{i}", seed=1, test_percent=5) is Split.TEST}
    more = {i for i in range(500) if assign_split(f"g{i}", seed=1, test_percent=30) is Split.TEST}
    assert few < more


def test_without_a_share_all_is_training() -> None:
    parts = {assign_split(f"g{i}", seed=0, test_percent=0) for i in range(100)}
    assert parts == {Split.TRAIN}


def test_a_validation_part_leaves_the_test_as_it_was() -> None:
    names = [f"g{i}" for i in range(2_000)]
    alone = [assign_split(name, seed=3, test_percent=20) for name in names]
    both = [assign_split(name, seed=3, test_percent=20, validation_percent=10) for name in names]
    assert [part is Split.TEST for part in alone] == [part is Split.TEST for part in both]
    assert 150 < both.count(Split.VALIDATION) < 250


@pytest.mark.parametrize(
    ("test", "validation", "field"),
    [(-1, 0, "test_percent"), (0, 51, "validation_percent"), (45, 40, "validation_percent")],
)
def test_shares_that_leave_too_little_are_refused(
    test: float, validation: float, field: str
) -> None:
    with pytest.raises(InvalidInput, match=field) as refused:
        SplitParams(test, validation)
    assert refused.value.field == field
