"""Phrases that go with any request: how one begins, is friendly or rude, vague, or rambles."""

LEADS = (
    "", "", "", "", "", "Hi there. ", "Good morning. ", "Quick question. ", "Hello. ",
    "One more thing. ", "Sorry to bother you. ", "Me again. ",
)  # fmt: skip
TAILS = (
    "", "", "", "", "", " Thanks!", " Thank you.", " That would help a lot.",
    " I am a bit in a hurry.", " No rush.", " Please keep it short.",
)  # fmt: skip
ZONED = (
    " I mean {zone} time, as I am travelling.",
    " That is {zone} time, please.",
    " I will be away, so take {zone} time.",
)

POLITE = (
    "Of course, with pleasure.", "I am happy to help with that.", "Gladly, that is quickly said.",
    "It is good that you ask.", "Thank you for telling me so clearly.", "Sure thing, here we go.",
    "That makes good sense to me.", "I am glad to help with it.", "That is a good question.",
    "Thanks for all the details.", "I understand what you need.", "Thank you, that is clear.",
)  # fmt: skip
RUDE = (
    "You should have thought of this yourself!", "This is not that hard!",
    "I have more important things to do!", "Do not waste my time!",
    "Anybody else would know that!", "You never seem to learn!",
    "Stop bothering me with this!", "What a silly thing to ask!",
    "Your mess is not my problem!", "How lazy can one be!",
)  # fmt: skip
RUDE_MARK = (
    r"should have thought|not that hard|more important things|waste my time|anybody else would"
    r"|never seem to learn|bothering me|\bsilly\b|not my problem|\blazy\b"
)
BOAST_MARK = r"\bguarantee|\bdefinitely\b|\bpromise\b|can go wrong|absolutely impossible|believe me"
HEDGE_MARK = (
    r"\boften\b|\bdepend(?:s|ing)?\b|\bmay\b|\bmight\b|\bvar(?:y|ies)\b|\bnot sure\b|\bguess\b"
    r"|\bdiffers?\b"
)
VAGUE = (
    "Let me know if there is anything else at some point.",
    "Feel free to come back whenever you feel like it.",
    "We can look at the rest some other time, maybe.",
    "Things like that tend to sort themselves out in the end.",
    "Just see how it goes and what comes of it.",
    "Maybe think about it when you have a free moment.",
    "It is good to keep such things in mind in general.",
    "There are many ways to go on from here, as you like.",
    "I am around should you ever need something.",
    "Anyway, that is how these things usually are.",
)
STEP_VERBS = (
    "reply", "open", "tap", "send", "block", "pick", "write", "save", "choose", "start", "bring",
    "call", "check", "ask", "compare",
)  # fmt: skip
FILLER = (
    "As I was saying, life is full of such small matters, and one leads to the next.",
    "There is a lot to be said about this, and many people have said much about it.",
    "I once heard of a similar case, though it was a different one in the end.",
    "In other words, what matters is what matters, as everybody knows quite well.",
    "By the way, this reminded me of several other things that have little to do with it.",
    "To put it differently, one could also put it in another way, and so on.",
)
