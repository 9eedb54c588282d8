"""Agreement on the real files, imported: the figures that were computed independently of them."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.agreement import AspectAgreement, Question, compute_agreement
from rlhf_core.analytics.scope import Scope
from rlhf_core.interchange.importers import import_file
from rlhf_core.interchange.mapping import load_mapping
from rlhf_core.queues.service import create_queue
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction
from rlhf_core.vocabulary import ImportFormat, QueueSubject

MAPPINGS = Path(__file__).resolve().parents[2] / "mappings"
TOLERANCE = 0.005
COHERE_TASKS = ("score_only", "errors_and_overall")


@pytest.fixture(scope="module")
def facts(shared_data: Path) -> dict[str, Any]:
    known: dict[str, Any] = json.loads((shared_data / "FACTS.json").read_text())
    return known


@pytest.fixture(scope="module")
def real_store(
    shared_data: Path, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """One database with all six files; the two tasks of cohere_hf as a source each."""
    folder = tmp_path_factory.mktemp("real")
    shutil.copy(sqlite_template, folder / "rlhf.db")
    store = Store(f"sqlite:///{folder / 'rlhf.db'}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLHF_SECRET_KEY", "test-key")
        for name in ("pandalm", "tulu1", "qags", "grade", "popquorn_offensiveness"):
            _import(store, shared_data / name, name)
        for task in COHERE_TASKS:
            _import(store, _pick_task(shared_data, folder, task), "cohere_hf", source=task)
    yield store
    store.close()


def _import(store: Store, folder: Path, mapping: str, **options: Any) -> None:
    report = import_file(
        store,
        folder,
        format=ImportFormat.TABLE,
        actor=SYSTEM,
        mapping=load_mapping(MAPPINGS / f"{mapping}.json"),
        num_workers=1,
        **options,
    )
    assert report.rejected == 0


def _pick_task(shared_data: Path, folder: Path, task: str) -> Path:
    part = folder / task
    part.mkdir()
    shutil.copy(shared_data / "cohere_hf" / "responses.jsonl", part)
    with (shared_data / "cohere_hf" / "ratings.jsonl").open() as file:
        lines = [line for line in file if json.loads(line)["task"] == task]
    (part / "ratings.jsonl").write_text("".join(lines))
    return part


def agreement_of(
    store: Store, question: Question, scope: Scope, *, with_repeats: bool = True
) -> AspectAgreement:
    with store.reading() as db:
        found = compute_agreement(db, actor=SYSTEM, scope=scope, with_repeats=with_repeats)
    return next(one for one in found if one.question is question)


def check_alpha(found: AspectAgreement, known: float) -> None:
    alpha = found.agreement.alpha
    assert alpha is not None
    assert alpha.value == pytest.approx(known, abs=TOLERANCE)
    assert alpha.low < alpha.value < alpha.high


@pytest.mark.parametrize("task", COHERE_TASKS)
def test_cohere_hf(real_store: Store, facts: dict[str, Any], task: str) -> None:
    found = agreement_of(real_store, Question.RATING, Scope(source=task))
    known = facts["cohere_hf"][f"alpha_{task}"]
    assert found.agreement.num_units == known["units>=2"]
    check_alpha(found, known["ordinal"])


def test_who_rates_twice_agrees_with_themselves_unless_left_out(real_store: Store) -> None:
    scope = Scope(source="errors_and_overall")
    alphas = [
        agreement_of(real_store, Question.RATING, scope, with_repeats=wanted).agreement.alpha
        for wanted in (True, False)
    ]
    assert [round(alpha.value, 4) for alpha in alphas if alpha] == [0.3515, 0.3448]


def test_grade_and_popquorn(real_store: Store, facts: dict[str, Any]) -> None:
    for source in ("grade", "popquorn_offensiveness"):
        found = agreement_of(real_store, Question.RATING, Scope(source=source))
        check_alpha(found, facts[source]["alpha_ordinal"])


def test_pandalm(real_store: Store, facts: dict[str, Any]) -> None:
    found = agreement_of(real_store, Question.CHOICE, Scope(source="pandalm"))
    assert found.agreement.num_units == facts["pandalm"]["pairs"]
    check_alpha(found, facts["pandalm"]["alpha_nominal"])


def test_tulu1(real_store: Store, facts: dict[str, Any]) -> None:
    scope = Scope(source="tulu1")
    winner = agreement_of(real_store, Question.PREFERRED_MODEL, scope)
    check_alpha(winner, facts["tulu1"]["alpha_pref_nominal"])
    thumb = agreement_of(real_store, Question.THUMB, scope)
    check_alpha(thumb, facts["tulu1"]["alpha_thumb_nominal"])


def test_qags_by_queue(real_store: Store, facts: dict[str, Any]) -> None:
    for part, known in facts["qags"].items():
        with real_store.writing() as db:
            of_part = sa.select(Interaction.id).where(
                Interaction.source == "qags", Interaction.action_type == part
            )
            queue = create_queue(
                db, actor=SYSTEM, name=f"qags {part}", subject=QueueSubject.STEPS,
                interaction_ids=list(db.scalars(of_part)),
            )  # fmt: skip
        found = agreement_of(real_store, Question.STEP_LABEL, Scope(queue_id=queue.id))
        assert found.agreement.num_units == known["sentences"]
        assert found.agreement.num_answers == known["votes"]
        check_alpha(found, known["alpha_nominal"])
