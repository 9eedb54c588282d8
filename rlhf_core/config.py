"""Settings: read once from `RLHF_*`, frozen, described for the README."""

import secrets
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from rlhf_core.errors import InvalidInput, Unavailable

SOURCE_ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """What can be set from outside. Every field is the variable `RLHF_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="RLHF_", frozen=True, extra="forbid")

    data_dir: Path = Field(
        default=SOURCE_ROOT / "data",
        description="Folder of the embedded database, artifacts, embeddings and the secret key.",
    )
    database_url: str = Field(
        default="",
        description="`postgresql://...` moves everything to PostgreSQL; empty is SQLite in "
        "`RLHF_DATA_DIR`.",
    )
    secret_key: str = Field(
        default="",
        description="Key of the pseudonyms of user ids. Empty: made once and kept in "
        "`RLHF_DATA_DIR/secret.key`. Machines around one database need the same key.",
    )
    host: str = Field(default="127.0.0.1", description="Address on which `server.py` listens.")
    port: int = Field(default=8501, ge=1, le=65535, description="Port of `server.py`.")
    inference_port: int = Field(
        default=8502, ge=1, le=65535, description="Loopback port of the inference process."
    )
    inference_timeout_s: float = Field(
        default=2.0, gt=0, description="A rerank that takes longer returns the original order."
    )
    versions_in_memory: int = Field(
        default=4,
        ge=1,
        description="Versions of each model that the inference process keeps in memory. What "
        "serves and what takes part in a canary always stays.",
    )
    encoder: str = Field(
        default="minilm",
        description="Sentence encoder: `minilm` (bundled all-MiniLM-L6-v2), a folder, or a hub id.",
    )
    model_import_dir: str = Field(
        default="",
        description="Folder on the server below which the page Models may import model folders; "
        "empty: only the command line imports.",
    )
    hub_owner: str = Field(
        default="",
        description="User or organisation at the Hugging Face hub whose repositories get model "
        "versions; needs its `HF_TOKEN`. Empty: none are pushed.",
    )
    speech_model: str = Field(
        default="",
        description="Folder of a speech model of transformers (safetensors), which turns voice "
        "notes into text; empty: they are played back only.",
    )
    reward_rules: str = Field(
        default="",
        description="Python functions that may reward a policy: `name=module:function`, several "
        "with commas between them; each gets prompts and completions and gives a number each.",
    )
    gpu_hour_price: float = Field(
        default=0.0, ge=0, description="Price of an hour of a GPU, for estimates; 0 names none."
    )
    tensorboard: bool = Field(
        default=True,
        description="Whether runs write TensorBoard files to `RLHF_DATA_DIR/tensorboard`.",
    )
    mlflow_uri: str = Field(
        default="",
        description="Tracking address of an MLflow server that gets the curves of runs too; needs "
        "`pip install mlflow`.",
    )
    wandb_project: str = Field(
        default="",
        description="Project at Weights & Biases that gets the curves and sample answers of runs "
        "too; needs `pip install wandb` and its `WANDB_API_KEY`.",
    )
    webhook_secret: str = Field(
        default="",
        description="Key of the HMAC-SHA256 signature of the webhooks of alerts; empty: none are "
        "sent.",
    )
    webhook_allow_private: bool = Field(
        default=False,
        description="Whether webhooks may go to private addresses: this machine, the own network.",
    )
    smtp_host: str = Field(
        default="", description="Server that takes e-mails (alerts, digest); empty: none are sent."
    )
    smtp_port: int = Field(default=587, ge=1, le=65535, description="Its port.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="How the way to it is encrypted: `starttls`, `tls`, `none`."
    )
    smtp_user: str = Field(default="", description="Account at it; empty: no sign-in.")
    smtp_password: str = Field(default="", description="Password of that account.")
    smtp_from: str = Field(default="", description="Sender of e-mails, such as `rlhf@example.org`.")
    start_children: bool = Field(
        default=True,
        description="Whether `server.py` starts inference process and workers itself.",
    )
    dead_after_s: float = Field(
        default=60.0, gt=0, description="A worker silent for longer has its runs taken over."
    )
    run_grace_s: float = Field(
        default=4.0, gt=0, description="Seconds between asking a run to end and killing it."
    )

    @property
    def resolved_database_url(self) -> str:
        """The SQLAlchemy URL: `postgresql+psycopg://...` or `sqlite:///<data_dir>/rlhf.db`."""
        if not self.database_url:
            return f"sqlite:///{self.data_dir.resolve() / 'rlhf.db'}"
        for prefix in ("postgresql://", "postgres://"):
            if self.database_url.startswith(prefix):
                return "postgresql+psycopg://" + self.database_url.removeprefix(prefix)
        return self.database_url

    @property
    def artifact_dir(self) -> Path:
        """Where model versions and frozen datasets are kept."""
        return self.data_dir.resolve() / "artifacts"

    @property
    def embedding_dir(self) -> Path:
        """Where the embedding cache is kept."""
        return self.data_dir.resolve() / "embeddings"

    def read_secret_key(self) -> bytes:
        """The pseudonym key; made with mode 0600 at the first call where none is set.

        Raises Unavailable where its file can be neither read nor made.
        """
        if self.secret_key:
            return self.secret_key.encode()
        path = self.data_dir / "secret.key"
        try:
            return _read_or_make_key(path)
        except OSError as error:
            raise Unavailable(
                f"The secret key {path} can be neither read nor made ({error.strerror}); "
                "set RLHF_DATA_DIR to a folder that can be written."
            ) from error


@lru_cache  # read for every rating
def _read_or_make_key(path: Path) -> bytes:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"secret.key.{secrets.token_hex(4)}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_hex(32))
        try:
            path.hardlink_to(fresh)  # atomic: of two first starts one wins, both read one key
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text().strip().encode()


@lru_cache
def get_settings() -> Settings:
    """The settings of this process. Tests call `get_settings.cache_clear()` after a change.

    Raises InvalidInput naming the variable that breaks a rule.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        raise InvalidInput(
            f"RLHF_{field.upper()} is {first['input']!r}: {first['msg']}.", field=field or None
        ) from error


def describe_settings() -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting, in order; the README's table is made of it."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, Path):
            default = default.relative_to(SOURCE_ROOT)
        rows.append((f"RLHF_{name.upper()}", str(default), field.description or ""))
    return rows
