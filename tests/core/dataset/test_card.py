"""The data card: the counts are right, and what a reader must know is said."""

import random

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.dataset.card_text import card_markdown, find_cautions
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import DatasetVersionView, freeze_version
from rlhf_core.dataset.splits import SplitParams
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Choice, DatasetPurpose, RaterKind
from tests.core.dataset.frozen import freeze_all
from tests.core.dataset.world import rate, vote, withdraw_consent
from tests.databases import postgres_is_slow
from tests.learning.rated import add_feedback, add_interaction, add_rater

pytestmark = postgres_is_slow


def freeze(
    store: Store,
    purpose: DatasetPurpose = DatasetPurpose.SCORES,
    split: SplitParams | None = None,
) -> DatasetVersionView:
    with store.reading() as db:
        staged = stage_rows(db, params=DatasetParams(purpose=purpose), split=split)
    with store.writing() as db:
        return freeze_version(db, actor=SYSTEM, name="d", staged=staged).version


def test_counts_raters_agreement_and_consent_of_scores(store: Store) -> None:
    with store.writing() as db:
        ann, ben = add_rater(db, "u_ann"), add_rater(db, "u_ben", rater_kind=RaterKind.END_USER)
        gone = add_rater(db, "u_gone")
        withdraw_consent(db, "u_gone")
        for place in range(12):
            item = add_interaction(db, f"Q{place}", "a" * (10 + place), source="app")
            add_feedback(db, item, ann, rating=5 if place < 8 else 1)
            add_feedback(db, item, ben, rating=5 if place < 8 else 1)
            add_feedback(db, item, gone, rating=3)
        rate(db, 4, completion="")
    version = freeze(store)
    card = version.card
    assert (card["num_rows"], card["num_ratings"], card["num_interactions"]) == (12, 24, 12)
    assert card["parts"] == {"train": 12}
    assert card["near_duplicates"] is None
    assert card["source"] == {"app": 12}
    assert card["action_type"] == {"not known": 12}
    assert card["labels"]["counts"] == {"1": 4, "5": 8}
    assert card["labels"]["rate"] == pytest.approx(8 / 12, abs=1e-4)
    assert card["length"]["completion"]["max"] == 21
    assert card["raters"]["num_raters"] == 2
    assert card["raters"]["by_kind"] == {"end_user": 1, "sme": 1}
    assert card["raters"]["busiest_share"] == 0.5
    assert card["agreement"] == {
        "num_items": 12, "alpha": 1.0, "ac1": 1.0, "raw": 1.0, "good_or_bad": 1.0,
    }  # fmt: skip
    assert card["consent"] == {"purpose": "training", "num_granted": 0, "num_not_asked": 2}
    assert card["period"]["first"] == card["period"]["last"]
    assert version.left_out == {"empty completion": 1}


def test_bias_of_a_source_and_unusual_rows_are_said(store: Store) -> None:
    drawn = random.Random(0)
    with store.writing() as db:
        ann, ben = add_rater(db, "u_ann"), add_rater(db, "u_harsh")
        for place in range(80):
            is_app = place % 2 == 0
            text = "".join(drawn.choices("abc ", k=60 + place % 7))
            item = add_interaction(
                db,
                f"Q{place}",
                text * (100 if place == 6 else 1),
                source="app" if is_app else "lab",
            )
            add_feedback(db, item, ann, rating=5 if is_app else drawn.choice([1, 5]))
            if not is_app and place < 40:
                add_feedback(db, item, ben, rating=1)
    version = freeze(store)
    bias = {(row["segment"], row["value"]): row for row in version.card["bias"]}
    assert bias["source", "app"]["is_notable"]
    assert bias["source", "app"]["rate"] > bias["source", "app"]["rate_of_others"]
    assert version.card["outliers"]["num_unusual_lengths"] == 1
    (unusual,) = [r for r in version.card["raters"]["unusual"] if r["rater"] == "u_harsh"]
    assert (unusual["num_ratings"], unusual["mean"]) == (20, 1.0)
    cautions = "\n".join(find_cautions(version))
    assert "1 row has a text of unusual length" in cautions
    assert "where source is" in cautions
    assert "2 raters rate a point or more" in cautions


def test_pairs_that_contradict_each_other_are_counted(store: Store) -> None:
    with store.writing() as db:
        texts = ["the long good answer", "bad"]
        for choice in (Choice.LEFT, Choice.RIGHT):
            left, right = (add_interaction(db, completion=text) for text in texts)
            vote(db, left, right, choice)
    card = freeze(store, DatasetPurpose.PREFERENCES).card
    assert card["outliers"]["num_contradictions"] == 1
    assert card["labels"]["counts"] == {"comparison": 2}
    assert card["labels"]["rate"] == 0.5


def test_nearly_equal_prompts_lie_in_one_part(store: Store) -> None:
    drawn = random.Random(4)
    with store.writing() as db:
        for place in range(40):
            topic = " ".join("".join(drawn.choices("abcdefgh", k=7)) for _ in range(25))
            for end in ("", ".", " please"):
                rate(db, 1 + place % 5, prompt=topic + end)
    version = freeze(store, split=SplitParams(30, 20))
    assert version.card["near_duplicates"] == {
        "num_prompts": 120, "num_clusters": 40, "largest": 3,
    }  # fmt: skip
    assert version.num_groups == 120
    assert all(count % 3 == 0 for count in version.card["parts"].values())
    assert len(version.card["parts"]) == 3


def test_card_of_every_purpose_reads_as_markdown(store: Store) -> None:
    for purpose, version in freeze_all(store).items():
        text = card_markdown(version)
        assert text.startswith(f"# {purpose.value} v1\n")
        assert version.content_hash in text
        assert "2 raters" in text or purpose not in (DatasetPurpose.SCORES, DatasetPurpose.SFT)
        assert '"purpose"' in text


def test_names_from_outside_format_nothing(store: Store) -> None:
    with store.writing() as db:
        for place in range(2):
            rate(db, 5, prompt=f"Q{place}", source="![x](http://evil.example/a.png)|<b>")
    text = card_markdown(freeze(store))
    assert r"\!\[x\]\(http://evil.example/a.png\)\|\<b\>" in text
    assert "![x]" not in text


def test_pairs_that_say_nothing_of_length_count_in_no_rate(store: Store) -> None:
    with store.writing() as db:
        for number in range(20):
            on_web = "a longer one" if number % 4 else "no"
            for source, better in (("app", "as long"), ("web", on_web)):
                left, right = (
                    add_interaction(db, f"{source} {number}?", text, source=source)
                    for text in (better, "7 signs")
                )
                vote(db, left, right, Choice.LEFT)
    card = freeze(store, DatasetPurpose.PREFERENCES).card
    assert card["source"] == {"app": 20, "web": 20}
    assert card["labels"]["rate"] == 0.75
    assert card["bias"] == []
