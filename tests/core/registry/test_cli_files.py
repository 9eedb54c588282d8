"""`models lineage | trained-on | card | tags | check | download | import | delete | live`."""

import json
import zipfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.main import main
from rlhf_core.clock import new_id
from rlhf_core.errors import Conflict, InvalidInput, NotFound, Unavailable
from rlhf_core.registry import service
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction
from tests.core.registry.world import make_frozen, make_version
from tests.databases import only_sqlite

pytestmark = only_sqlite


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments])


def answer(*arguments: str) -> dict[str, object]:
    done = call(*arguments, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture
def version(store: Store) -> ModelVersionView:
    with store.writing() as db:
        return make_version(db, dataset_version_id=make_frozen(db).id)


def test_lineage_goes_both_ways(store: Store, version: ModelVersionView) -> None:
    found = answer("lineage", "1", "--rows", "2")
    assert found["version"] == "reward v1"
    assert "rater  Kim  3 judgements" in call("lineage", "1").stdout
    with store.reading() as db:
        item = db.scalars(sa.select(Interaction.id)).first()
    said = call("trained-on", str(item)).stdout
    assert said.startswith("reward v1  ratings v1 row ")
    assert isinstance(call("trained-on", "x").exception, InvalidInput)
    assert isinstance(call("trained-on", str(new_id())).exception, NotFound)


def test_card_and_labels(version: ModelVersionView, tmp_path: Path) -> None:
    assert call("card", "1").stdout.startswith("# reward v1\n")
    assert call("card", "1", "--out", str(tmp_path / "card.md")).exit_code == 0
    assert (tmp_path / "card.md").read_text().startswith("# reward v1\n")
    assert call("tags", "1", "Stable", "May").stdout == "reward v1: stable, may\n"
    assert call("notes", "1", "of May").exit_code == 0
    assert "#stable #may" in call("list", "--tag", "may").stdout
    assert "no model version" in call("list", "--tag", "june").stdout


def test_files_are_checked_taken_out_and_deleted(
    store: Store, version: ModelVersionView, tmp_path: Path
) -> None:
    assert "as it was registered" in call("check").stdout
    target = tmp_path / "out.zip"
    assert answer("download", "1", "--out", str(target))["num_bytes"] == target.stat().st_size
    with zipfile.ZipFile(target) as archive:
        assert "reward-v1/head.json" in archive.namelist()
        archive.extractall(tmp_path)
    refused = call("import", str(tmp_path / "reward-v1"), "--kind", "reward_sbert")
    assert isinstance(refused.exception, InvalidInput), "these weights are no model"
    with store.writing() as db:
        service.promote_version(db, version.id, actor=SYSTEM, reason="first")
    assert isinstance(call("delete", "1", "--reason", "old").exception, Conflict)
    with store.writing() as db:
        make_version(db)
    assert "reward v2 is deleted" in call("delete", "2", "--reason", "old").stdout
    assert "(1 deleted)" in call("storage").stdout
    (version.folder / "head.json").write_text("weightS")
    checked = call("check", "1")
    assert checked.exit_code == 1
    assert "head.json is not the file" in checked.stdout


def test_what_was_live_is_said(store: Store, version: ModelVersionView) -> None:
    assert "nothing was promoted yet" in call("live").stdout
    with store.writing() as db:
        service.promote_version(db, version.id, actor=SYSTEM, reason="first")
    assert "UTC: reward v1" in call("live").stdout
    assert "nothing was promoted yet" in call("live", "--at", "2020-01-01").stdout


def test_a_push_that_is_not_configured_is_a_sentence(version: ModelVersionView) -> None:
    assert isinstance(call("push", "1", "--to", "hub").exception, InvalidInput)
    assert isinstance(call("push", "1", "--to", "mlflow").exception, Unavailable)
