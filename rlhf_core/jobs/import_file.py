"""The job that imports a file, for files too large to wait for."""

from pathlib import Path
from typing import Any

from rlhf_core.config import get_settings
from rlhf_core.errors import Forbidden, TrainingFailed
from rlhf_core.interchange.importers import import_file
from rlhf_core.interchange.mapping import check_mapping
from rlhf_core.jobs.context import JobContext
from rlhf_core.vocabulary import ImportFormat


def run_import(context: JobContext) -> dict[str, Any]:
    """Params: `path`, `format`, and optionally `mapping` (a dict) and `source`.

    Only the command line may name any file of the machine; what accounts upload lies in the folder
    `uploads`, and nothing else is read for them.
    """
    params = context.params
    path = Path(params["path"]).resolve()
    uploads = get_settings().data_dir.resolve() / "uploads"
    if context.actor.account_id is not None and not path.is_relative_to(uploads):
        raise Forbidden(f"{path.name} was not uploaded: import it on the command line instead.")

    def report(done: float, lines: int) -> None:
        context.tracker.progress(done, f"{lines:,} lines read")
        if context.tracker.should_stop():
            raise TrainingFailed("The import was stopped; what it had stored stays stored.")

    outcome = import_file(
        context.store,
        path,
        format=ImportFormat(params["format"]),
        actor=context.actor,
        mapping=check_mapping(params["mapping"]) if params.get("mapping") else None,
        source=params.get("source"),
        on_progress=report,
    )
    for refused in outcome.reasons:
        context.tracker.log(f"line {refused.line}: {refused.reason}")
    return {
        "message": f"{outcome.stored:,} of {outcome.lines:,} lines stored, "
        f"{outcome.rejected:,} refused, {outcome.duplicate:,} known already.",
        "report": outcome,
    }
