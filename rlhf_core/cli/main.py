"""`python -m rlhf_core`: finds the noun's file when it is used, so that `--help` stays quick."""

import importlib

import click

NOUNS = {
    "db": "Upgrade, check or downgrade the database.",
    "user": "Accounts and sign-in links.",
    "token": "API tokens.",
    "import": "Read interactions and feedback from a file.",
    "export": "Write interactions and feedback to a file.",
    "demo": "Load and clear the demo world.",
    "dataset": "Freeze and list training rows.",
    "train": "Train a model as a background job.",
    "schedule": "Retrain by itself: at a time, after new ratings, on drift.",
    "jobs": "List, follow, cancel and retry background jobs.",
    "models": "List, promote and roll back model versions.",
    "release": "Give a version part of the traffic: canary, A/B test, interleaving.",
    "gates": "What a version must show before it reaches users.",
    "evaluate": "Examine a model version on frozen rows.",
    "compare": "Compare model versions on the same frozen rows.",
    "score": "Score completions, or all stored interactions, with a reward model.",
    "rerank": "Rerank candidates with the promoted reward model.",
    "rollups": "Make the daily counts of the insights again.",
    "alerts": "Rules that watch the loop, and the alerts that they opened.",
    "worker": "Run a worker process.",
    "inference": "Run the inference process.",
}
FILES = {"import": "import_"}


class Nouns(click.Group):
    """A group whose commands lie in `rlhf_core.cli.<noun>`, each as `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All nouns, in reading order."""
        return list(NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the noun's file and return its `command`."""
        if cmd_name not in NOUNS:
            return None
        module = importlib.import_module(f"rlhf_core.cli.{FILES.get(cmd_name, cmd_name)}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the nouns without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(NOUNS.items()))


@click.command(cls=Nouns, help="The loop of reinforcement learning from human feedback.")
def main() -> None:
    """Choose a noun."""
