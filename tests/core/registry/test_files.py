"""Files of versions: taken out whole, and never opened when a byte is not as it was."""

import io
import zipfile
from pathlib import Path

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.artifacts import open_artifact, read_manifest, write_artifact
from rlhf_core.errors import Forbidden, InvalidInput, RlhfError
from rlhf_core.registry import files
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role
from tests.builders import make_actor
from tests.core.registry.world import make_version
from tests.databases import only_sqlite

pytestmark = only_sqlite


@pytest.fixture
def version(store: Store) -> ModelVersionView:
    with store.writing() as db:
        return make_version(db)


def test_zip_holds_the_files_as_they_are_and_is_the_same_each_time(
    version: ModelVersionView, tmp_path: Path
) -> None:
    first = b"".join(files.stream_zip(version, card="# card"))
    assert first == b"".join(files.stream_zip(version, card="# card"))
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    folder = tmp_path / "reward-v1"
    (folder / files.CARD_FILE).unlink()
    open_artifact(folder, version.manifest_sha256)


def test_a_large_file_leaves_in_pieces(version: ModelVersionView, tmp_path: Path) -> None:
    artifact = write_artifact(
        tmp_path / "large", lambda to: (to / "w.bin").write_bytes(bytes(5 * 2**20)) and None
    )
    large = ModelVersionView(
        **{**vars(version), "artifact_path": str(artifact.path),
           "manifest_sha256": artifact.manifest_sha256},
    )  # fmt: skip
    sizes = [len(chunk) for chunk in files.stream_zip(large, card="c")]
    assert sum(sizes) > 5 * 2**20
    assert max(sizes) < 2 * files.CHUNK_BYTES


def test_damaged_files_give_no_zip(version: ModelVersionView, tmp_path: Path) -> None:
    (version.folder / "head.json").write_text("weightS")
    target = tmp_path / "out.zip"
    with pytest.raises(InvalidInput, match=r"head\.json"):
        files.write_zip(version, target, card="c")
    assert list(tmp_path.glob("out*")) == []


def test_download_is_for_those_who_may_export(store: Store, version: ModelVersionView) -> None:
    with store.writing() as db:
        rater = make_actor(db, Role.RATER)
        with pytest.raises(Forbidden):
            files.begin_download(db, version, actor=rater, how="page")


def test_storage_is_counted_by_model_without_what_is_deleted(store: Store) -> None:
    from rlhf_core.registry.deletion import delete_version

    with store.writing() as db:
        kept, gone = make_version(db), make_version(db)
        other = make_version(db, model_name="other")
        delete_version(db, gone.id, actor=SYSTEM, reason="old")
    with store.reading() as db:
        found = files.get_storage(db, actor=SYSTEM)
    by_name = {one.model_name: one for one in found.models}
    assert (by_name["reward"].num_versions, by_name["reward"].num_deleted) == (1, 1)
    assert by_name["reward"].num_bytes == kept.num_bytes
    assert found.num_bytes == kept.num_bytes + other.num_bytes
    assert found.free_bytes is None or found.free_bytes > 0


def test_crash_between_copying_and_pointing_leaves_the_old_version_live(
    store: Store, tmp_path: Path
) -> None:
    from rlhf_core.registry import service

    with store.writing() as db:
        old = make_version(db)
        service.promote_version(db, old.id, actor=SYSTEM, reason="first")

    class Died(BaseException):
        """The process was killed."""

    def die_before_the_commit() -> None:
        with store.writing() as db:
            fresh = make_version(db)  # its files are on the disk
            service.promote_version(db, fresh.id, actor=SYSTEM, reason="second")
            raise Died

    with pytest.raises(Died):
        die_before_the_commit()
    with store.reading() as db:
        live = service.find_production(db)
        assert live is not None
        assert live.id == old.id
        assert [one.number for one in service.list_versions(db, actor=SYSTEM)] == [1]
        assert len(service.alias_history(db, "reward", actor=SYSTEM)) == 1
    open_artifact(live.folder, live.manifest_sha256)


def test_a_missing_folder_is_a_sentence(version: ModelVersionView) -> None:
    version.folder.rename(version.folder.with_name("away"))
    with pytest.raises(RlhfError, match="no artifact folder"):
        files.check_files(version)
    assert len(read_manifest(version.folder.with_name("away"), version.manifest_sha256)) == 1
