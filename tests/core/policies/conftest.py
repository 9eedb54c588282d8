"""One tiny policy for all tests of this folder; one thread, so that sums have one order."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.core.policies.tiny_policies import make_policy


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("tiny"))
