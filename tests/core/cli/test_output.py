"""What a user of the command line sees when something outside is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_core.config import SOURCE_ROOT

UPGRADE = ["db", "upgrade", "--json"]


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rlhf_core", *arguments],
        env={**os.environ, **variables},
        cwd=SOURCE_ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (UPGRADE, {"RLHF_PORT": "80a"}, "RLHF_PORT is '80a'"),
        (UPGRADE, {"RLHF_DATABASE_URL": "mysql://kim@db/rlhf"}, "SQLite and PostgreSQL"),
        (UPGRADE, {"RLHF_DATA_DIR": "{folder}/file"}, "{folder}/file"),
        (UPGRADE, {"RLHF_DATA_DIR": "{folder}/file/data"}, "{folder}/file/data"),
        (["db", "downgrade", "nonsense", "--yes", "--json"], {}, "'nonsense'"),
    ],
    ids=["port", "driver", "file in the way", "file above", "revision"],
)
def test_what_is_wrong_outside_is_one_sentence_and_exit_code_1(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], words: str
) -> None:
    (tmp_path / "file").touch()
    filled = {name: value.format(folder=tmp_path) for name, value in variables.items()}
    done = run(*arguments, **filled)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert words.format(folder=tmp_path) in line
