"""Phrases on appointments: to book one, to move it, to cancel it."""

from rlhf_core.demo.intents import Intent

VISITS = (
    "dentist appointment", "eye exam", "haircut", "car inspection", "vet visit", "bank meeting",
    "roof survey", "heat pump check", "physio session", "flu shot", "site visit", "tutor session",
    "garden tour", "video call",
)  # fmt: skip

APPOINTMENTS = (
    Intent(
        name="book_appointment",
        family="appointments",
        wish="book the {visit} on {day} at {time}",
        prompts=(
            "Can you book a {visit} for me on {day} at {time}?",
            "I need a {visit}, if possible on {day} at {time}. Please arrange it.",
            "Please get me a slot for a {visit} on {day}, {time} would suit me.",
            "It is time for a {visit}. Is {day} at {time} still free?",
            "Could you make an appointment for a {visit} on {day} at {time}?",
            "I would like to have a {visit} on {day} at {time}, can you do that?",
        ),
        actions=(
            "I have booked your {visit} for {day} at {time}.",
            "Your {visit} is booked on {day} at {time}.",
            "You are booked in for a {visit} on {day} at {time}.",
            "The slot on {day} at {time} is now booked for your {visit}.",
            "A {visit} on {day} at {time} is booked in your name.",
            "It is booked: a {visit} on {day} at {time}.",
        ),
        mark=r"\bbooked\b",
        facts=(
            "The office may still change the time, which happens at times.",
            "I do not know the exact price, so ask about it there.",
            "It usually takes under an hour, but it can vary.",
            "They have not confirmed by email yet, which may take a day.",
        ),
        boasts=(
            "I guarantee that you will not wait a single second there!",
            "It is definitely the best place in the whole country.",
            "I promise that it will cost you nothing at all!",
            "Nothing can go wrong, so you need not think of it again.",
        ),
        steps=(
            "Bring your insurance card and come ten minutes early.",
            "Reply with yes and I will send you the address.",
            "Save the number of the office in case you are late.",
            "Write down your questions the evening before.",
            "Call the office on the day before if anything changes.",
        ),
    ),
    Intent(
        name="reschedule_appointment",
        family="appointments",
        wish="move the {visit} from {old_day} to {day} at {time}",
        prompts=(
            "Please move my {visit} from {old_day} to {day} at {time}.",
            "I cannot make it on {old_day}. Can my {visit} be on {day} at {time}?",
            "Could you change my {visit}, now on {old_day}, to {day} at {time}?",
            "Something came up on {old_day}, so shift my {visit} to {day} at {time}, please.",
            "My {visit} on {old_day} does not work any more, is {day} at {time} possible?",
            "Can we push the {visit} from {old_day} to {day}, say at {time}?",
        ),
        actions=(
            "I have moved your {visit} from {old_day} to {day} at {time}.",
            "Your {visit} was moved and is now on {day} at {time}.",
            "The {visit} moved from {old_day} to {day} at {time}.",
            "It worked: your {visit} is moved to {day} at {time}.",
            "Your {visit} has been moved to {day} at {time}, away from {old_day}.",
            "The new time of your {visit} is {day} at {time}, moved from {old_day}.",
        ),
        mark=r"\bmoved\b",
        facts=(
            "The other side has not confirmed yet, which may take a day.",
            "I could not see whether there is a fee for the change.",
            "The room may be another one, so check the message.",
            "It is probably the same person who will see you.",
        ),
        boasts=(
            "I guarantee that everybody is delighted with the new time!",
            "They will definitely accept it, whatever their calendar says.",
            "I promise that you can change it as often as you like!",
            "Nothing can go wrong with the new time, believe me.",
        ),
        steps=(
            "Reply with yes and I will tell the others today.",
            "Open your calendar and delete the old entry on {old_day}.",
            "Send a short note to whoever wanted to come along.",
            "Check the new invitation in your inbox before tonight.",
            "Call the office if you hear nothing within two days.",
        ),
    ),
    Intent(
        name="cancel_appointment",
        family="appointments",
        wish="cancel the {visit} on {day}",
        prompts=(
            "Please cancel my {visit} on {day}, I do not need it any more.",
            "I have to call off the {visit} on {day}. Can you do it for me?",
            "Could you drop the {visit} that I have on {day}?",
            "My {visit} on {day} is not going to happen, please cancel it.",
            "I am ill, so the {visit} on {day} has to be cancelled.",
            "Take the {visit} on {day} out of my calendar, please, I will not go.",
        ),
        actions=(
            "I have cancelled your {visit} on {day}.",
            "Your {visit} on {day} is cancelled, and the slot is free again.",
            "The {visit} on {day} is cancelled and out of your calendar.",
            "It is done, your {visit} on {day} has been cancelled.",
            "I cancelled the {visit} that you had on {day}.",
            "As you wished, the {visit} on {day} is cancelled.",
        ),
        mark=r"\bcancell?ed\b",
        facts=(
            "There may be a small fee, which I could not see.",
            "The office usually answers within a day, but not always.",
            "I do not know whether a later slot will be free.",
            "The entry might stay on your phone for a few minutes.",
        ),
        boasts=(
            "I guarantee that they will never charge you for it!",
            "You will definitely get a better slot whenever you like.",
            "I promise that nobody will mind in the least!",
            "Nothing can go wrong, they will thank you for it.",
        ),
        steps=(
            "Reply with a new week and I will look for another slot.",
            "Check your inbox for the confirmation before tonight.",
            "Call the office within a day if they ask for a fee.",
            "Send a short note to whoever wanted to come along.",
            "Pick two other dates now while the calendar is open.",
        ),
    ),
)
