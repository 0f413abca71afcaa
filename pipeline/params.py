"""Sections of params.yaml as frozen, strict models: a typo can never become a silent default."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML

FILE = Path("params.yaml")
UNKNOWN_KEY = "unknown_key"  # the type of that error
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what torch takes and a column holds


class Section(BaseModel):
    """A section of params.yaml: no unknown key, no coercion, no change after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _are_known(cls, found: Any) -> Any:  # noqa: ANN401  # whatever YAML can hold
        """Say which keys there are, where one is not; pydantic's own error does not."""
        known = cls.model_fields
        unknown = [key for key in found if key not in known] if isinstance(found, dict) else []
        if unknown:
            said = "there is no {unknown}; the keys are {keys}"
            names = {"unknown": ", ".join(map(repr, unknown)), "keys": ", ".join(known)}
            raise PydanticCustomError(UNKNOWN_KEY, said, names)
        return found


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
