"""`python -m rlhf_core`."""

from rlhf_core.cli.main import main
from rlhf_core.cli.output import run_command

run_command(main)
