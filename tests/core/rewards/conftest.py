"""One real encoder with one cache for all tests of this folder."""

import pytest

from rlhf_core.encoder.cache import CachedEncoder
from rlhf_core.encoder.model import load_encoder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> CachedEncoder:
    return CachedEncoder(load_encoder(), tmp_path_factory.mktemp("embeddings"))
