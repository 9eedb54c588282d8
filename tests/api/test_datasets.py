"""Datasets over HTTP: the list, and the same bytes as everywhere else."""

import io
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import Permission
from rlhf_core.dataset.export import export_version
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import DatasetFormat, DatasetPurpose, Split
from tests.core.dataset.frozen import fill, freeze
from tests.databases import only_sqlite

Bearer = Callable[..., dict[str, str]]


def test_list_holds_versions_with_their_cards(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    with store.writing() as db:
        fill(db, 4)
    version = freeze(store, DatasetPurpose.PREFERENCES)
    (found,) = client.get("/api/v1/datasets", headers=writer_headers).json()["versions"]
    assert found["dataset"] == "preferences"
    assert found["num_rows"] == version.num_rows
    assert found["card"] == version.card
    assert "artifact_path" not in found


@pytest.mark.parametrize("format", DatasetFormat)
@only_sqlite
def test_export_gives_the_bytes_of_the_version(
    client: TestClient, store: Store, writer_headers: dict[str, str], format: DatasetFormat
) -> None:
    with store.writing() as db:
        fill(db)
    version = freeze(store, DatasetPurpose.SCORES)
    for split in (None, Split.TEST):
        expected = io.BytesIO()
        export_version(version, format, expected, split=split)
        query = {"format": format.value} | ({"split": split.value} if split else {})
        response = client.get(
            "/api/v1/datasets/scores/1/export", params=query, headers=writer_headers
        )
        assert response.status_code == 200
        assert response.content == expected.getvalue()
        assert response.headers["content-disposition"].startswith("attachment;")


@only_sqlite
def test_what_is_not_there_is_said(
    client: TestClient, store: Store, writer_headers: dict[str, str], bearer: Bearer
) -> None:
    url = "/api/v1/datasets/{}/{}/export?format={}"
    for name in ("none", "%00", "a%0Ab", "%ED%A0%80"):
        response = client.get(url.format(name, 1, "csv"), headers=writer_headers)
        assert response.status_code == 404, response.text
    wrong = client.get(url.format("none", 1, "xlsx"), headers=writer_headers)
    assert wrong.status_code == 422
    both = bearer(Permission.EXPORT_DATA)
    response = client.get(url.format("none", 1, "csv"), headers=both)
    assert response.status_code == 403
    assert "manage datasets" in response.json()["error"]["message"]
