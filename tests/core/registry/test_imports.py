"""Folders from elsewhere: only plain data comes in, proved by opening it."""

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.artifacts import MANIFEST, open_artifact
from rlhf_core.config import get_settings
from rlhf_core.errors import Forbidden, InvalidInput
from rlhf_core.jobs.model_exchange import import_model
from rlhf_core.registry.files import stream_zip
from rlhf_core.registry.imports import FOLDER, import_root, list_importable, stage_folder
from rlhf_core.registry.service import list_versions
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import ModelKind, Role
from tests.builders import make_actor
from tests.core.registry.world import make_version
from tests.databases import only_sqlite
from tests.learning.tiny_models import make_llama

TEXTS = ModelKind.REWARD_TRANSFORMER


def make_weights(folder: Path) -> Path:
    """A file as safetensors has it, and a configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (folder / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + bytes(4)
    )
    (folder / "config.json").write_text("{}")
    return folder


def left_over() -> list[Path]:
    return list((get_settings().artifact_dir / FOLDER).glob("*"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("pytorch_model.bin", pickle.dumps({"w": 1}), "may run code"),
        ("model.pkl", b"\x80\x04", "may run code"),
        ("modeling_x.py", b"import os", "may run code"),
        ("lib.so", b"\x7fELF", "may run code"),
        ("sub/head.joblib", b"x", "may run code"),
        ("no_suffix", b"x", "may run code"),
        ("other.safetensors", pickle.dumps({"w": 1}), "does not hold what its name says"),
        ("other.safetensors", b"short", "does not hold what its name says"),
        ("head.skops", pickle.dumps({"w": 1}), "does not hold what its name says"),
        ("vocab.txt", pickle.dumps(["a"]), "does not hold what its name says"),
        ("spiece.model", pickle.dumps(["a"]), "does not hold what its name says"),
        ("broken.json", b"{", "does not hold what its name says"),
        ("config.json", b'{"auto_map": {"AutoModel": "x.Y"}}', "names code of its own"),
    ],
)
def test_what_may_run_code_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    folder = make_weights(tmp_path / "m")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=said) as caught:
        stage_folder(folder, kind=TEXTS)
    assert name in str(caught.value)
    assert left_over() == []


def test_links_empty_folders_and_foreign_places_are_refused(tmp_path: Path) -> None:
    folder = make_weights(tmp_path / "root" / "m")
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "empty").mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "config.json").symlink_to(folder / "config.json")
    outside = tmp_path / "root" / ".." / "outside"
    make_weights(outside)
    for wanted, said in [
        (tmp_path / "link", "is a link"),
        (tmp_path / "linked", "is a link"),
        (tmp_path / "empty", "is empty"),
        (tmp_path / "nowhere", "There is no folder"),
        (outside, "lies outside the import folder"),
        (get_settings().artifact_dir, "There is no folder"),
    ]:
        with pytest.raises(InvalidInput, match=said):
            stage_folder(wanted, kind=TEXTS, inside=tmp_path / "root" if "out" in said else None)
    assert left_over() == []


def test_manifest_is_made_where_there_is_none_and_verified_where_there_is(tmp_path: Path) -> None:
    folder = make_weights(tmp_path / "m")
    (folder / "README.md").write_text("# of the hub")
    made = stage_folder(folder, kind=TEXTS)
    open_artifact(made.artifact.path, made.artifact.manifest_sha256)
    assert not (made.artifact.path / "README.md").exists()
    (folder / MANIFEST).write_bytes((made.artifact.path / MANIFEST).read_bytes())
    again = stage_folder(folder, kind=TEXTS)
    assert again.artifact.manifest_sha256 == made.artifact.manifest_sha256
    (folder / "config.json").write_text('{"other": 1}')
    (folder / "vocab.txt").write_text("more")
    with pytest.raises(InvalidInput, match=r"config\.json is not the file that"):
        stage_folder(folder, kind=TEXTS)
    (folder / MANIFEST).write_text("[]")
    with pytest.raises(InvalidInput, match="is no manifest"):
        stage_folder(folder, kind=TEXTS)
    assert len(left_over()) == 2


def test_only_the_configured_folder_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (import_root(), list_importable()) == (None, [])
    make_weights(tmp_path / "in" / "team" / "m")
    (tmp_path / "in" / "notes").mkdir()
    monkeypatch.setenv("RLHF_MODEL_IMPORT_DIR", str(tmp_path / "in"))
    get_settings.cache_clear()
    assert list_importable() == ["team/m"]
    for name in ("a", ".hidden/b", "c"):
        make_weights(tmp_path / "in" / name)
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if Path(path).name == "c":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read every folder
    assert list_importable() == ["a", "team/m"]
    assert list_importable(limit=1) == ["a"]


@only_sqlite
def test_a_policy_is_opened_copied_and_registered(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    save_policy(folder)
    version = import_model(
        store, folder, actor=SYSTEM, kind=ModelKind.POLICY, model_name="assistant", notes="of May"
    )
    assert (version.name, version.aliases) == ("assistant v1", ())
    open_artifact(version.folder, version.manifest_sha256)
    assert version.details["imported_from"] == "tiny"
    with pytest.raises(InvalidInput, match="is the name of a policy"):
        import_model(store, folder, actor=SYSTEM, kind=TEXTS, model_name="assistant")
    with store.writing() as db:
        analyst = make_actor(db, Role.ANALYST)
    with pytest.raises(Forbidden):
        import_model(store, folder, actor=analyst, kind=ModelKind.POLICY, model_name="assistant")
    taken_out = tmp_path / "out"
    with zipfile.ZipFile(_write(tmp_path / "z.zip", b"".join(stream_zip(version, card="c")))) as z:
        z.extractall(taken_out)
    again = import_model(
        store, taken_out / "assistant-v1", actor=SYSTEM, kind=ModelKind.POLICY,
        model_name="assistant",
    )  # fmt: skip
    assert again.manifest_sha256 == version.manifest_sha256


@only_sqlite
def test_what_cannot_be_opened_is_not_registered(store: Store, tmp_path: Path) -> None:
    folder = make_weights(tmp_path / "m")
    for kind in (ModelKind.POLICY, ModelKind.REWARD_SBERT, ModelKind.REWARD_ENSEMBLE):
        with pytest.raises(InvalidInput, match=r"m (is no model of kind|cannot be opened as)"):
            import_model(store, folder, actor=SYSTEM, kind=kind, model_name="new")
    with pytest.raises(InvalidInput, match="add-remote"):
        import_model(store, folder, actor=SYSTEM, kind=ModelKind.POLICY_REMOTE, model_name="new")
    with store.writing() as db:
        make_version(db)
    with pytest.raises(InvalidInput, match="is the name of a reward model"):
        import_model(store, folder, actor=SYSTEM, kind=ModelKind.POLICY, model_name="reward")
    assert left_over() == []
    with store.reading() as db:
        assert [one.name for one in list_versions(db, actor=SYSTEM)] == ["reward v1"]


def save_policy(folder: Path) -> None:
    """A causal model of 32 units that answers nonsense."""
    import torch
    from transformers import AutoConfig, LlamaForCausalLM

    make_llama(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
