"""Agreement on the real files, imported: the figures that were computed independently of them."""

from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.agreement import AspectAgreement, Question, compute_agreement
from rlhf_core.analytics.scope import Scope
from rlhf_core.queues.service import create_queue
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction
from rlhf_core.vocabulary import QueueSubject
from tests.core.analytics.real_files import COHERE_TASKS

TOLERANCE = 0.005


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
