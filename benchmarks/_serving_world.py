"""A server with its inference process on a fresh folder, and versions of both models to serve."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOPICS = ("the dentist", "a course", "the tax office", "my interview", "a call", "the garden")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")


def prepare(folder: Path) -> dict[str, str]:
    """The settings of server and benchmark, on free ports and an empty database."""
    ports = [_free_port() for _ in range(2)]
    settings = {
        "RLHF_DATA_DIR": str(folder),
        "RLHF_PORT": str(ports[0]),
        "RLHF_INFERENCE_PORT": str(ports[1]),
        "RLHF_START_CHILDREN": "true",
        "RLHF_TENSORBOARD": "false",
    }
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RLHF_")}
    os.environ.clear()
    os.environ.update(kept | settings)
    from rlhf_core.store import migrate
    from rlhf_core.store.engine import get_store

    migrate.upgrade(get_store())
    return dict(os.environ)


def register(folder: Path, num: int) -> dict[str, list[uuid.UUID]]:
    """So many versions of both models; the first of each is promoted."""
    from rlhf_core.accounts.permissions import SYSTEM
    from rlhf_core.artifacts import write_artifact
    from rlhf_core.config import get_settings
    from rlhf_core.registry.service import (
        POLICY_MODEL,
        REWARD_MODEL,
        promote_version,
        register_version,
    )
    from rlhf_core.store.engine import get_store
    from rlhf_core.vocabulary import ModelKind

    made = {
        POLICY_MODEL: (ModelKind.POLICY, *make_policy(folder / "made" / "policy")),
        REWARD_MODEL: (ModelKind.REWARD_SBERT, *make_reward_model(folder / "made" / "reward")),
    }
    ids: dict[str, list[uuid.UUID]] = {name: [] for name in made}
    for name, (kind, source, report) in made.items():
        for _ in range(num):
            artifact = write_artifact(
                get_settings().artifact_dir / name / uuid.uuid4().hex,
                lambda to, source=source: shutil.copytree(source, to, dirs_exist_ok=True) and None,
            )
            with get_store().writing() as db:
                version = register_version(
                    db, actor=SYSTEM, model_name=name, kind=kind, report=report, artifact=artifact
                )
                ids[name].append(version.id)
        with get_store().writing() as db:
            promote_version(db, ids[name][0], actor=SYSTEM, reason="the first")
    return ids


def make_policy(folder: Path) -> tuple[Path, Any]:
    """A starter of the usual size, which has seen each generated interaction once."""
    from rlhf_core.examples import SftExample
    from rlhf_core.policies.starter import StarterParams, train_starter
    from rlhf_core.training import NoOpTracker

    rows = [
        SftExample(
            prompt=f"Book {topic} on {day}, please ({number}).",
            completion=f"Done: {topic} is booked for {day}. I will remind you {number} hours ahead "
            "and you can move it as often as you like.",
            group=f"{topic} {day} {number}",
        )
        for topic in TOPICS
        for day in DAYS
        for number in range(10)
    ]
    (folder / "model").mkdir(parents=True)
    report = train_starter(
        rows,
        params=StarterParams(epochs=1.0, precision="fp32"),
        out_dir=folder / "model",
        work_dir=folder / "work",
        tracker=NoOpTracker(),
    )
    return folder / "model", report


def make_reward_model(folder: Path) -> tuple[Path, Any]:
    from rlhf_core.encoder.model import load_encoder
    from rlhf_core.examples import ScoredCompletion
    from rlhf_core.rewards.sbert import SbertParams, train
    from rlhf_core.training import NoOpTracker

    rows = []
    for number, (topic, day) in enumerate((topic, day) for topic in TOPICS for day in DAYS):
        answers = {f"Done: {topic} is booked for {day}.": 5.0, "I cannot do that.": 1.0}
        rows += [
            ScoredCompletion(f"Book {topic} on {day}.", text, score, 1, str(number), f"{number}")
            for text, score in answers.items()
        ]
    folder.mkdir(parents=True)
    report = train(
        rows,
        params=SbertParams(folds=3, regularisation=(1.0,)),
        encoder=load_encoder("minilm"),
        out_dir=folder,
        tracker=NoOpTracker(),
    )
    return folder, report


@contextlib.contextmanager
def running_server(
    folder: Path, environment: dict[str, str]
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, ROOT / "server.py"],
            env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{environment['RLHF_PORT']}", process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def make_token() -> str:
    from rlhf_core.accounts import service, tokens
    from rlhf_core.accounts.permissions import SYSTEM, Permission
    from rlhf_core.store.engine import get_store
    from rlhf_core.vocabulary import Role

    with get_store().writing() as db:
        service.create_account(db, actor=SYSTEM, name="load", role=Role.ADMIN)
        scopes = (Permission.SCORE, Permission.WRITE_INTERACTIONS)
        return tokens.create_api_token(
            db, actor=SYSTEM, account_name="load", name="load", scopes=scopes
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
