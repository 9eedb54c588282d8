import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from rlhf_core.config import Settings, describe_settings, get_settings
from rlhf_core.errors import InvalidInput, Unavailable

ROOT = Path(__file__).resolve().parents[2]


def test_every_setting_stands_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    missing = [name for name, _, _ in describe_settings() if f"`{name}`" not in readme]
    assert not missing


def test_a_postgres_url_is_all_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLHF_DATABASE_URL", "postgresql://someone@db/rlhf")
    assert Settings().resolved_database_url == "postgresql+psycopg://someone@db/rlhf"


def test_without_a_url_the_database_is_sqlite_in_the_data_folder(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).resolved_database_url == f"sqlite:///{tmp_path / 'rlhf.db'}"


def test_a_port_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLHF_PORT", "70000")
    with pytest.raises(ValidationError, match="65535"):
        Settings()


def test_settings_cannot_be_changed_later() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_four_first_starts_at_once_make_one_key_that_only_the_owner_reads(tmp_path: Path) -> None:
    code = "from rlhf_core.config import Settings; print(Settings().read_secret_key().decode())"
    environment = {k: v for k, v in os.environ.items() if k != "RLHF_SECRET_KEY"}
    environment["RLHF_DATA_DIR"] = str(tmp_path)
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment, cwd=ROOT, stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    keys = {start.communicate(timeout=60)[0] for start in starts}
    assert len(keys) == 1
    assert len(keys.pop().strip()) == 64
    assert [p.name for p in tmp_path.iterdir()] == ["secret.key"]
    assert (tmp_path / "secret.key").stat().st_mode & 0o077 == 0


def test_a_setting_that_breaks_a_rule_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RLHF_PORT", "80a")
    get_settings.cache_clear()
    with pytest.raises(InvalidInput, match=r"^RLHF_PORT is '80a': .*integer"):
        get_settings()


def test_a_key_that_cannot_be_kept_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings(data_dir=tmp_path / "file", secret_key="")
    with pytest.raises(Unavailable, match=f"{tmp_path}/file/secret.key"):
        settings.read_secret_key()
