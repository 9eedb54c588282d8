"""Files of one browser tab: uploads, refused lines, exports. They go when its session goes."""

import shutil
import tempfile
import weakref
from pathlib import Path

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from rlhf_core.interchange.mapping import check_file_name

_FOLDER = "_tab_folder"
_UPLOADS = "_uploads"


class _Folder:
    """A temporary folder that is deleted with this object."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="rlhf-tab-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def tab_folder(part: str) -> Path:
    """A folder of this tab's own."""
    if _FOLDER not in st.session_state:
        st.session_state[_FOLDER] = _Folder()
    folder: Path = st.session_state[_FOLDER].path / part
    folder.mkdir(exist_ok=True)
    return folder


def keep_upload(upload: UploadedFile, *, name: str | None = None) -> Path:
    """The upload as a file on disk, written once; `name` where it must bear another.

    Raises:
        InvalidInput: its name is no bare file name.
    """
    kept: dict[str, str] = st.session_state.setdefault(_UPLOADS, {})
    path = tab_folder("uploads") / check_file_name(name or Path(upload.name).name)
    if kept.get(path.name) != upload.file_id or not path.exists():
        path.write_bytes(upload.getbuffer())
        kept[path.name] = upload.file_id
    return path
