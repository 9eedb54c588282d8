"""The model card says what the registry knows, and nothing in it formats or loads anything."""

import re
from typing import Any

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import new_id
from rlhf_core.jobs.model_exchange import read_card
from rlhf_core.registry import labels, service
from rlhf_core.registry.evaluations import record_evaluation
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import ModelKind
from tests.builders import make_interaction
from tests.core.dataset.world import withdraw_consent
from tests.core.registry.world import make_frozen, make_version
from tests.databases import only_sqlite

pytestmark = only_sqlite

EXAMINATION: dict[str, Any] = {
    "purpose": "scores",
    "metrics": {"auc": 0.71, "ece": 0.04},
    "intervals": {"auc": [0.6, 0.8]},
    "baselines": {"auc": {"length_only": 0.55}},
    "slices": [
        {"segment": "language", "value": "en", "num_rows": 40, "metrics": {"auc": 0.7}},
        {"segment": "source", "value": "tiny", "num_rows": 3, "auc": 0.9},
    ],
}
NASTY = "<b>x</b> ![i](http://evil/x.png) $a$ | `c`\n# head"


def card_of(store: Store, version_id: Any) -> str:
    with store.reading() as db:
        return read_card(db, version_id, actor=SYSTEM)


def test_card_is_written_from_the_facts(store: Store) -> None:
    with store.writing() as db:
        make_interaction(db, prompt="Licensed?", extra={"license": "cc-by-4.0"})
        frozen = make_frozen(db)
        version = make_version(
            db, dataset_version_id=frozen.id, details={"judge": "judge v1",
                                                       "judge_version_id": str(new_id())},
        )  # fmt: skip
        record_evaluation(
            db, actor=SYSTEM, version_id=version.id, dataset_version_id=frozen.id, job_id=None,
            split="test", num_rows=40, examination_json=EXAMINATION,
        )  # fmt: skip
        service.promote_version(db, version.id, actor=SYSTEM, reason="best so far")
        labels.set_tags(db, version.id, actor=SYSTEM, tags=["stable"])
        labels.set_notes(db, version.id, actor=SYSTEM, notes="Trained after the import of May.")
    card = card_of(store, version.id)
    for said in (
        "# reward v1",
        "Now: production",
        "Tags: stable",
        "Trained after the import of May.",
        "Has the judge: judge v1",
        "ratings v1 (scores): 3 rows",
        "Raters: 1",
        "| auc | 0.710 | 0.600 to 0.800 | length only 0.550 |",
        "| language: en | 40 | 0.700 |",
        "Fewer than 30 rows, so that little is known: source tiny",
        '"threshold": 4.0',
        '"seed": 7',
        "| scikit\\-learn | 1.9.1 |",
        "promoted | nothing \\-\\> v1 \\(production\\) | command line | best so far |",
    ):
        assert said in card, said


def test_names_from_outside_format_nothing(store: Store) -> None:
    with store.writing() as db:
        version = make_version(
            db, model_name="a`b", details={"base": {"name": NASTY}, "imported_from": NASTY}
        )
        labels.set_notes(db, version.id, actor=SYSTEM, notes=NASTY)
    card = card_of(store, version.id)
    outside = "".join(card.split("```")[::2])
    assert not re.search(r"(?<!\\)<b>|(?<!\\)!\[|(?<!\\)\$a|^# head", outside, re.MULTILINE)
    assert "\\!\\[i\\]\\(http" in card


def test_what_became_of_the_people_since_is_a_limit(store: Store) -> None:
    with store.writing() as db:
        frozen = make_frozen(db)
        version = make_version(db, dataset_version_id=frozen.id)
    before = card_of(store, version.id)
    assert "withdrew their consent" not in before
    assert "Nobody examined it on frozen rows yet" in before
    with store.writing() as db:
        from rlhf_core.store.tables import Rater

        for rater in db.query(Rater):
            withdraw_consent(db, rater.pseudonym)
    assert "3 rows are of people who withdrew their consent since" in card_of(store, version.id)


def test_policy_card_names_what_it_was_made_of_and_compares(store: Store) -> None:
    figures = {"reward": {"value": 0.7, "low": 0.6, "high": 0.8}, "length": {"value": 20}}
    with store.writing() as db:
        version = make_version(
            db, model_name="assistant", kind=ModelKind.POLICY,
            details={"base": {"name": "assistant v0"}, "rewards": [{"name": "reward v1"}]},
        )  # fmt: skip
        record_evaluation(
            db, actor=SYSTEM, version_id=version.id, dataset_version_id=None, job_id=None,
            split="test", num_rows=5,
            examination_json={"metrics": {"reward": 0.7},
                              "policies": {"assistant v1": figures, "base": figures}},
        )  # fmt: skip
    card = card_of(store, version.id)
    assert "Began from: assistant v0" in card
    assert "Rewarded by: reward v1" in card
    assert "| reward | 0.700 \\(0.600 to 0.800\\) |" in card
    assert "No frozen dataset is recorded." in card
