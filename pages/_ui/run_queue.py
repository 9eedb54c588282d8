"""Who waits for whom: the place of each queued run. No Streamlit here."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rlhf_core.jobs.service import JobView
from rlhf_core.vocabulary import JobState, Resource


@dataclass(frozen=True)
class Place:
    """The `number`th of `total` runs that wait for the resource.

    `ahead`: the priority that goes before all of them.
    """

    number: int
    total: int
    ahead: int


def find_places(jobs: Iterable[JobView]) -> dict[uuid.UUID, Place]:
    """The places of those that are queued: by priority, the lowest number first, then by age."""
    waiting: dict[Resource, list[JobView]] = {}
    for job in jobs:
        if job.state is JobState.QUEUED:
            waiting.setdefault(job.resource, []).append(job)
    return {
        job.id: Place(number, len(queue), max(1, min(each.priority for each in queue) - 1))
        for queue in waiting.values()
        for number, job in enumerate(
            sorted(queue, key=lambda each: (each.priority, each.created_at)), 1
        )
    }


def name_ordinal(number: int) -> str:
    """`1st`, `2nd`, `11th`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number}{ending or 'th'}"


def describe_place(job: JobView, places: Mapping[uuid.UUID, Place]) -> str | None:
    """The sentence about a run that waits; None where it does not."""
    place = places.get(job.id)
    if place is None:
        return None
    if place.total == 1:
        return f"It is next in the queue {job.resource.value} (priority {job.priority})."
    return (
        f"It is {name_ordinal(place.number)} of {place.total} in the queue {job.resource.value} "
        f"(priority {job.priority}; the lowest number goes first)."
    )
