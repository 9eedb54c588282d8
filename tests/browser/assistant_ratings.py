"""A small file of rated answers of a tasks and careers assistant, written for these tests."""

import csv
import random
from pathlib import Path

TOPICS = {
    "move my dentist appointment to Friday": "The dentist has 9:40 and 15:10 free on Friday",
    "remind me to send the invoice": "A reminder for the invoice is set for 17:00 today",
    "find a room for six people": "Room Cedar seats eight and is free from 14:00 to 15:30",
    "plan my first week as a solar installer": "Start with the roof safety course on Monday",
    "compare two heat pump courses": "The evening course takes 12 weeks, the day course 4",
    "write to the landlord about the meter": "Here is a letter that names the meter and the date",
    "list what is left to do today": "Three tasks are open, and the report is due at 16:00",
    "find out what a wind technician earns": "The pay starts at the collective rate of level 6",
    "book the van for Tuesday": "The van is free on Tuesday until noon",
    "prepare me for the grid operator interview": "They ask about shift work and switching orders",
    "cancel the gym class": "The class on Thursday can be cancelled until 20:00 tonight",
    "sort my mails by project": "There are four projects, and nine mails fit none of them",
    "turn the meeting notes into tasks": "The notes hold five tasks, two of them without an owner",
    "find a course on battery safety": "The next course with free places is on the 12th",
    "check whether my certificate counts": "It counts for systems up to 30 kW",
    "call the plumber back": "The plumber answers calls from 7:30 to 9:00",
    "order toner for the printer": "Two cartridges of toner arrive on Wednesday for 84 euros",
    "translate the safety sheet": "The sheet is translated, all but the two trade names",
    "summarise yesterday's mails": "Of 31 mails three ask for an answer by tomorrow",
    "look up the train to Kassel": "The 8:14 train arrives at 10:02 without a change",
    "check the lease for a notice period": "The lease can be ended three months to a month's end",
    "draft an answer to the complaint": "The draft says sorry, explains the delay, names a date",
    "pick a gift under 40 euros": "A head torch for 32 euros fits what she wrote about hiking",
    "count the overtime of this month": "It was 11.5 hours, four of them on a Sunday",
}
OPENINGS = ["Please", "Can you", "I need you to", "Could you quickly"]
GOOD = [
    "{fact}. Shall I confirm it and put it into your calendar, with a note of what to bring?",
    "{fact}. Step one: I check it against your calendar. Step two: I ask you before I change "
    "anything. Tell me which time suits you.",
]
VAGUE = [
    "There is a lot to say about that, and it depends on many things. Maybe look it up somewhere, "
    "or ask somebody who knows, or try again later when there is more time for it.",
    "I have understood your wish and will think about it. Wishes like this one are important to "
    "me, and I thank you for your patience, your trust and your kind words.",
    "I am not able to say.",
    "Done!",
]


def write_ratings(path: Path) -> None:
    """About 380 answers with two ratings each, as CSV; the same at every call."""
    draw = random.Random(7)
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["question", "answer", "model", "stars", "reviewer"])
        for topic, fact in TOPICS.items():
            for opening in OPENINGS:
                good = draw.choice(GOOD).format(fact=fact)
                off_topic = draw.choice(GOOD).format(fact=draw.choice(list(TOPICS.values())))
                for answer in [good, off_topic, *draw.sample(VAGUE, 2)]:
                    is_good = fact in answer
                    for reviewer in draw.sample(["north", "south", "east", "west"], 2):
                        stars = draw.choices([1, 2, 3, 4], [4, 4, 3, 2])[0]
                        if is_good:
                            stars = draw.choices([2, 3, 4, 5], [1, 2, 4, 4])[0]
                        writer.writerow(
                            [f"{opening} {topic}?", answer, "helper-2", stars, reviewer]
                        )
