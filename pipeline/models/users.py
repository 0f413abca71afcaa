"""User encoders by their names, with their settings; what they do stands in `rows`."""

from collections.abc import Callable
from typing import Any

from pydantic import field_validator

from pipeline.data import files
from pipeline.models.bert4rec import Bert4rec, Bert4recSettings
from pipeline.models.gru4rec import Gru4rec, Gru4recSettings
from pipeline.models.hstu import Hstu, HstuSettings
from pipeline.models.nextitnet import Nextitnet, NextitnetSettings
from pipeline.models.rows import UserEncoder
from pipeline.models.sasrec import Sasrec, SasrecSettings
from pipeline.params import Section


class UserEncoders(Section):
    """The settings of each user encoder that is in use, by its name."""

    sasrec: SasrecSettings | None = None
    bert4rec: Bert4recSettings | None = None
    gru4rec: Gru4recSettings | None = None
    nextitnet: NextitnetSettings | None = None
    hstu: HstuSettings | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _is_given(cls, settings: object) -> object:
        if settings is None:
            raise ValueError("it has no settings; give them, or take the name out")
        return settings


USER_ENCODERS: dict[str, Callable[[int, int, Any], UserEncoder]] = {
    "sasrec": Sasrec,
    "bert4rec": Bert4rec,
    "gru4rec": Gru4rec,
    "nextitnet": Nextitnet,
    "hstu": Hstu,
}


def settings_of(name: str, settings: UserEncoders) -> Section:
    """Take a user encoder's own settings.

    Raises:
        Stop: there is no user encoder of this name, or it has no settings.
    """
    if name not in USER_ENCODERS:
        raise files.Stop(
            f"user encoder {name!r} is unknown; params.yaml: users may list {[*USER_ENCODERS]}"
        )
    own: Section | None = dict(settings)[name]
    if own is None:
        raise files.Stop(f"params.yaml: user_encoders: {name} is missing; give its settings")
    return own


def build(name: str, width: int, length: int, settings: UserEncoders) -> UserEncoder:
    """Build a user encoder by its name, with D = `width` and L = `length`.

    Raises:
        Stop: there is no user encoder of this name, its settings are missing, or its heads do not
            divide D.
    """
    own = settings_of(name, settings)
    return USER_ENCODERS[name](width, length, own)
