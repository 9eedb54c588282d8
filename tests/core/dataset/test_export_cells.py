import pytest

from rlhf_core.dataset.export import make_inert


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_active_starts_get_an_apostrophe(start: str) -> None:
    assert make_inert(f"{start}1") == f"'{start}1"


@pytest.mark.parametrize("cell", ["a=b", "", None, -1, 2.5, True, "1", " text"])
def test_harmless_cells_stay_as_they_are(cell: object) -> None:
    assert make_inert(cell) is cell
