"""Sections of params.yaml as frozen, strict models: a typo can never become a silent default."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml import YAML

FILE = Path("params.yaml")
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what torch takes and a column holds


class Section(BaseModel):
    """A section of params.yaml: no unknown key, no coercion, no change after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Params(BaseModel):
    """What one stage reads: its fields are sections; other sections are none of its business."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    @classmethod
    def load(cls) -> Self:
        """Read and check this stage's sections of params.yaml in the working directory.

        Raises:
            ValidationError: a key is missing, unknown or of another type.
        """
        return cls.model_validate(YAML(typ="safe").load(FILE))
