"""The declarative base: column types that mean the same on SQLite and on PostgreSQL."""

import uuid
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from rlhf_core.clock import new_id, utcnow

Json = dict[str, Any]
JsonList = list[Any]

JSON_TYPE = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A moment. Takes and returns aware datetimes in UTC; refuses naive ones.

    timestamptz on PostgreSQL; on SQLite, which has no time zones, the UTC moment as text.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware moment into what the driver stores."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"moment without a time zone: {value!r}; use clock.utcnow()")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn what the driver returns into an aware moment."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        uuid.UUID: sa.Uuid(),
        datetime: UtcDateTime(),
        date: sa.Date(),
        float: sa.Double(),
        Json: JSON_TYPE,
        JsonList: JSON_TYPE,
    }


def closed_set(members: type[StrEnum]) -> sa.Enum:
    """A column type for a set that stays as it is: the database checks it."""
    return sa.Enum(
        members,
        native_enum=False,
        create_constraint=True,
        length=32,
        values_callable=lambda enum: [member.value for member in enum],
        name=members.__name__.lower(),
    )


def growing_set(members: type[StrEnum]) -> sa.Enum:
    """A column type for a set that gains members with new features: only the code checks it."""
    return sa.Enum(
        members,
        native_enum=False,
        create_constraint=False,
        length=32,
        values_callable=lambda enum: [member.value for member in enum],
    )


def index_where_given(name: str, *columns: str) -> sa.Index:
    """An index that leaves out rows without a value in the first column, often most of them.

    It serves `column = value` all the same, and costs the writers of the other rows nothing.
    """
    given = sa.text(f"{columns[0]} IS NOT NULL")
    return sa.Index(name, *columns, sqlite_where=given, postgresql_where=given)


def primary_id() -> Mapped[uuid.UUID]:
    """The UUID key that every table of things has."""
    return mapped_column(primary_key=True, default=new_id)


def created_moment() -> Mapped[datetime]:
    """When the row was written."""
    return mapped_column(default=utcnow)


def foreign(
    target: str, *, ondelete: str = "RESTRICT", index: bool = True, nullable: bool = False
) -> Any:
    """A foreign key to `table.column`; `ondelete` as in SQL."""
    return mapped_column(sa.ForeignKey(target, ondelete=ondelete), index=index, nullable=nullable)


def table_of(entity: type[Base]) -> sa.Table:
    """The table behind a class, for statements on columns: they skip the work of the ORM."""
    return cast(sa.Table, entity.__table__)
