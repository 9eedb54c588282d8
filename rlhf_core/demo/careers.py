"""Phrases on careers in clean energy: the way in, the training, the pay, the application."""

from rlhf_core.demo.intents import Intent

ROLES = (
    "solar installer", "wind technician", "building auditor", "battery engineer", "grid planner",
    "heat pump fitter", "charging technician", "energy analyst", "hydrogen operator",
    "recycling manager", "insulation specialist", "geothermal driller",
)  # fmt: skip
BACKGROUNDS = (
    "electrician", "teacher", "welder", "nurse", "accountant", "mechanic", "carpenter", "tester",
    "driver", "chef", "plumber", "clerk",
)  # fmt: skip
REGIONS = (
    "Texas", "Ohio", "Bavaria", "Ontario", "Scotland", "Colorado", "Denmark", "Oregon", "Spain",
    "Queensland",
)  # fmt: skip

CAREERS = (
    Intent(
        name="career_path",
        family="careers",
        wish="change from {a_background} to {a_role}",
        prompts=(
            "I work as {a_background}. How can I become {a_role}?",
            "Is it realistic for {a_background} to become {a_role}, and what is the way?",
            "I was {a_background} for ten years and want to be {a_role}. Where do I begin?",
            "What would a change look like for {a_background} who wants to be {a_role}?",
            "Can {a_background} turn into {a_role} without going back to college?",
            "My job as {a_background} bores me, I would rather be {a_role}. Any advice?",
        ),
        actions=(
            "The way from {background} to {role} leads through a trainee place.",
            "As {a_background} you can switch to {role} by a trainee year.",
            "Many a {background} became {a_role} by way of a junior position.",
            "To go from {background} to {role}, look for a junior position.",
            "A trainee place is the usual way from {background} to {role}.",
            "You can switch: after a trainee year, {a_background} works as {a_role}.",
        ),
        mark=r"\btrainee\b|\bjunior position\b",
        facts=(
            "It often takes one to two years, depending on your region.",
            "How quickly it goes depends on the firms near you.",
            "Some employers may ask for a driving licence as well.",
            "It might mean less money at first, which varies a lot.",
        ),
        bald=(
            "It takes two years and not a day longer.",
            "You start on the first of the month and stay for a year.",
            "Employers want a driving licence and three references.",
            "The money is the same from the first week.",
        ),
        boasts=(
            "I guarantee that you will have the job within a week!",
            "Every firm in the country will definitely want you.",
            "I promise that you will be rich before the year ends!",
            "Nothing can go wrong, so give notice this very day.",
        ),
        steps=(
            "Write down three skills that you would take along.",
            "Call two firms near you this week and ask for a trial day.",
            "Send me your work history and I will mark what fits.",
            "Ask one person who made the change how it went.",
            "Open the job board on Friday and save three adverts.",
        ),
    ),
    Intent(
        name="career_training",
        family="careers",
        wish="know which course leads to {role}",
        prompts=(
            "Which course do I need to work as {a_role}?",
            "What kind of training does {a_role} need, and how long does it take?",
            "Do I need a certificate before I can start as {a_role}?",
            "Are there evening classes for somebody who wants to be {a_role}?",
            "Where can I learn what {a_role} has to know, in the evenings or online?",
            "I want to train as {a_role}. What should I study, and where?",
        ),
        actions=(
            "For {role} work you need a basic certificate and a safety course.",
            "To train as {a_role}, look at the certificate course of your college.",
            "Most who work as {a_role} took a short course with a certificate.",
            "The usual course for {a_role} ends with a national certificate.",
            "A certificate course in the evenings prepares you for {role} work.",
            "To be {a_role} you need a safety course and a certificate.",
        ),
        mark=r"\bcertificate\b",
        facts=(
            "The length varies, often between six weeks and six months.",
            "Prices depend on the college, so compare at least two.",
            "Some regions may ask for a licence on top of it.",
            "I am not sure which dates are open where you live.",
        ),
        bald=(
            "It takes twelve weeks and costs 900 dollars.",
            "There are two exams, and each of them lasts an hour.",
            "All colleges teach the same things at the same price.",
            "The next one begins on the first of the month.",
        ),
        boasts=(
            "I guarantee that you will pass without any study!",
            "After that, every firm will definitely hire you at once.",
            "I promise that it is free for you and always will be!",
            "Nobody has ever failed it, and nothing can go wrong.",
        ),
        steps=(
            "Call the nearest college on Monday and ask for the dates.",
            "Compare two of them by price and by hours a week.",
            "Send me your town and I will list what is near you.",
            "Ask your employer this week whether they pay a part.",
            "Write to one graduate and ask what they would change.",
        ),
    ),
    Intent(
        name="career_pay",
        family="careers",
        wish="know what {a_role} earns in {region}",
        prompts=(
            "What does {a_role} earn in {region} these days?",
            "How much can I expect as {a_role} in {region} after a year or two?",
            "Is the pay of {a_role} in {region} enough for a family?",
            "I got an offer as {a_role} in {region}. What salary is normal?",
            "Could you tell me the usual wage of {a_role} in {region}?",
            "Before I move to {region}: what do they pay {a_role} there?",
        ),
        actions=(
            "In {region}, the pay of {a_role} starts near the regional middle.",
            "The salary of {a_role} in {region} lies near that of other trades.",
            "As {a_role} in {region}, expect a salary like in other skilled trades.",
            "Pay for {a_role} in {region} is near the middle of skilled work.",
            "In {region} {a_role} has a starting salary a little above the minimum.",
            "The salary for {role} work in {region} grows with each year.",
        ),
        mark=r"\bpay (?:of|for)\b|\bsalary\b",
        facts=(
            "The figure depends on the firm, the shifts and your experience.",
            "My numbers may be old, so take them as a rough guide.",
            "It can vary by a third between a town and the country.",
            "I am not sure about bonuses, which often differ by firm.",
        ),
        bald=(
            "It is 52,300 dollars a year, paid on the first.",
            "Everybody there has the same wage and the same bonus.",
            "It goes up by four percent every January.",
            "It is 31 dollars an hour, in the first year and after.",
        ),
        boasts=(
            "I guarantee that you will earn twice as much next year!",
            "You will definitely be the best paid person in your street.",
            "I promise that money will never be a worry again!",
            "Nothing can go wrong, so sign whatever they give you.",
        ),
        steps=(
            "Ask for the pay band before you name a number.",
            "Compare three adverts from this month and write them down.",
            "Call the union office on Monday for its wage table.",
            "Send me the offer and I will list what to ask about.",
            "Write down your fixed costs and the least you need.",
        ),
    ),
    Intent(
        name="career_application",
        family="careers",
        wish="get help with an application to be {a_role}",
        prompts=(
            "Can you tell me how to apply for a job as {a_role}?",
            "What should I put in my application for a job as {a_role}?",
            "I have an interview for a job as {a_role} on {day}. How do I prepare?",
            "How do I write a letter for a job as {a_role} with no experience?",
            "My application to be {a_role} was turned down twice. What can I improve?",
            "Which questions will they ask somebody who wants to be {a_role}?",
        ),
        actions=(
            "For work as {a_role}, let your application show one finished job.",
            "Your application to be {a_role} should open with your safety record.",
            "Your application for {role} work gains by one clear example.",
            "A firm that hires {a_role} reads the example in your application first.",
            "Let your application to be {a_role} name the tools you have used.",
            "In an application for {role} work, put practice above school.",
        ),
        mark=r"\bapplication\b",
        facts=(
            "Every firm differs, so this may not fit all of them.",
            "I have not seen your papers, so it is only a rough guess.",
            "A short letter is often better, but it depends on the firm.",
            "They may ask about heights and weekend work too.",
        ),
        bald=(
            "They read the first line and nothing else.",
            "There are five questions, and they are the same everywhere.",
            "The letter has to be one page with 250 words.",
            "They answer on the third day after you wrote.",
        ),
        boasts=(
            "I guarantee that they will take you on the spot!",
            "With my help you will definitely beat everybody else.",
            "I promise that they will not even look at the others!",
            "Nothing can go wrong, you need not prepare at all.",
        ),
        steps=(
            "Send me your letter and I will mark the weak lines.",
            "Write one page tonight about a job that went well.",
            "Ask a colleague to play the interview with you for twenty minutes.",
            "Pick two adverts and list the words that both use.",
            "Bring photos of your work and two names to call.",
        ),
    ),
)
