"""What every table of fleet.toml has, and the types of its amounts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from fleet.inventory import amounts, values


def folder_of(info: ValidationInfo) -> Path:
    """Return the folder of fleet.toml, below which its relative paths are."""
    folder: Path = (info.context or {}).get("folder", Path.cwd())
    return folder


def file(value: object, info: ValidationInfo) -> Path:
    """Read the path of a file of this machine."""
    return values.file_path(value, folder_of(info))


Seconds = Annotated[float, BeforeValidator(amounts.seconds)]
PositiveSeconds = Annotated[float, BeforeValidator(amounts.positive_seconds)]
Rate = Annotated[float, BeforeValidator(amounts.rate)]  # bytes per second
File = Annotated[Path, BeforeValidator(file)]
Count = Annotated[int, BeforeValidator(amounts.whole), AfterValidator(amounts.at_least(1))]


class Table(BaseModel):
    """A table of fleet.toml. Immutable, and without keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def toml_keys(cls) -> tuple[str, ...]:
        """Return the keys as people write them."""
        return tuple(f.alias or name for name, f in cls.model_fields.items())
