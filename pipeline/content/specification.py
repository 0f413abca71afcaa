"""What params.yaml says about an encoder: a whole specification, or a name as its shorthand."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError

from pipeline.data import files
from pipeline.params import Section

FILE = "encoder.json"  # in an encoder folder: the resolved specification

MODALITY = {"sentence-transformers": "text", "open_clip": "image", "timm": "image"}

USELESS = {
    "sentence-transformers": ("weights", "preprocess"),
    "open_clip": ("pooling", "max_tokens", "revision"),
    "timm": ("pooling", "max_tokens", "revision"),
}

Library = Literal["sentence-transformers", "open_clip", "timm"]


class Preprocess(Section):
    """How a cover becomes the encoder's input: resize to a square, scale to [0, 1], normalise."""

    pixels: PositiveInt  # of the square's side
    mean: list[float] = Field(min_length=3, max_length=3)  # of red, green and blue in [0, 1]
    std: list[PositiveFloat] = Field(min_length=3, max_length=3)
    interpolation: Literal["bilinear", "bicubic"]


class Spec(Section):
    """An encoder; what is left out is the encoder's own, as published."""

    library: Library
    model: str  # a name that the library knows, or a local folder
    weights: str | None = None  # open_clip's tag or a local file; timm: a local file
    revision: str | None = None  # of the download
    # The library's own, such as timm's pad_type.
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    preprocess: Preprocess | None = None
    pooling: Literal["cls", "mean"] | None = None
    max_tokens: int | None = None  # special tokens included


Entry = str | Spec


def resolve(entry: Entry, modality: str) -> Spec:
    """Turn an entry of params.yaml into a specification.

    A string is a model's name, read by the first that fits: a local folder, `open_clip:model/tag`,
    `timm:model`, else a sentence-transformers or Hugging Face name.

    Raises:
        files.Stop: the encoder is not one of this modality, or is told what it can't use.
    """
    spec = _named(entry, modality) if isinstance(entry, str) else entry
    where = f"encoders.{modality} ({spec.model!r})"
    if MODALITY[spec.library] != modality:
        fits = " or ".join(name for name, reads in MODALITY.items() if reads == modality)
        raise files.Stop(
            f"{where}: {spec.library} encodes {MODALITY[spec.library]}, not {modality}. "
            f"Name an encoder of {fits} in params.yaml."
        )
    if "trust_remote_code" in spec.options:
        raise files.Stop(
            f"{where}: options names trust_remote_code, which would run code that came with the "
            "weights; only a library's own models are read. Leave it out, or name another encoder."
        )
    for key in USELESS[spec.library]:
        value = getattr(spec, key)
        if value is not None:
            raise files.Stop(
                f"{where}: {key} is {value!r}, which {spec.library} has no use for. Leave it out."
            )
    return spec


def unknown_options(spec: Spec, error: TypeError) -> str:
    """Say that a library does not know an option; Python's own words name it."""
    return (
        f"encoders.{MODALITY[spec.library]}.options is {spec.options}, which {spec.library} does "
        f"not take for {spec.model!r} ({error}). Correct it or leave it out."
    )


def local_copy(modality: str) -> str:
    """Say how to name a model that lies here, and to lose nothing else that the entry says."""
    or_weights = " (or a file under its `weights`)" if modality == "image" else ""
    return (
        "To use a local copy, put the path of its folder in place of the name in "
        f"encoders.{modality}{or_weights} and in origins.{modality}; where the entry has keys, its "
        "`model` is that name, and the others stay."
    )


def _named(name: str, modality: str) -> Spec:
    prefix, _, rest = name.partition(":")
    if prefix == "timm" and rest:
        return Spec(library="timm", model=rest)
    if prefix == "open_clip" and rest:
        if rest.startswith("hf-hub:") or Path(rest).is_dir():
            return Spec(library="open_clip", model=rest)
        model, _, tag = rest.partition("/")
        return Spec(library="open_clip", model=model, weights=tag or None)
    if Path(name).is_dir():
        return Spec(library=_library(Path(name)), model=name)
    if modality == "image":
        raise files.Stop(
            f"encoders.image is {name!r}, which is no folder here and no name of an image encoder. "
            "Write open_clip:<model>/<tag>, timm:<model>, or the path of a local folder."
        )
    return Spec(library="sentence-transformers", model=name)


def _library(folder: Path) -> Library:
    """Tell from a folder's files which library wrote it."""
    if (folder / FILE).is_file():
        return read(folder).library
    if (folder / "open_clip_config.json").is_file():
        return "open_clip"
    config = folder / "config.json"
    if config.is_file() and '"architecture"' in config.read_text(encoding="utf-8"):
        return "timm"
    if config.is_file() or (folder / "modules.json").is_file():
        return "sentence-transformers"
    raise files.Stop(
        f"{folder} is not a valid encoder: it has none of {FILE}, open_clip_config.json, "
        "config.json and modules.json. Give a folder in the format of sentence-transformers, "
        "open_clip or timm."
    )


def read(folder: Path) -> Spec:
    """Read the specification of an encoder folder.

    Raises:
        files.Stop: the folder holds no encoder, or its specification is broken.
    """
    path = folder / FILE
    if not path.is_file():
        raise files.Stop(
            f"{folder} is not a valid encoder folder: {path} is missing. Run the stage encoder."
        )
    try:
        return Spec.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise files.Stop(
            f"{path} is not a valid specification of an encoder: {where}: {first['msg']}. "
            "Run the stage encoder again, or name another folder in params.yaml."
        ) from error


def check_folder(spec: Spec) -> None:
    """See that an image encoder in a local folder is not told what its own files settle.

    Raises:
        files.Stop: it is given weights or options, which would not be used.
    """
    if MODALITY[spec.library] != "image" or not Path(spec.model).is_dir():
        return
    for key in ("weights", "options"):
        if value := getattr(spec, key):
            raise files.Stop(
                f"encoders.image.{key} is {value!r}, but {spec.model!r} is a local folder, whose "
                "own files say that. Leave it out."
            )


def without_place(spec: Spec) -> Spec:
    """Name a local folder or file without where it lies: what is made of it depends on neither."""
    places = {key: getattr(spec, key) for key in ("model", "weights")}
    local = {key: Path(path).absolute() for key, path in places.items() if path}
    return spec.model_copy(update={k: path.name for k, path in local.items() if path.exists()})


def inherit(spec: Spec) -> Spec:
    """Fill what the entry leaves out from the model's own folder, if we once wrote that."""
    folder = Path(spec.model)
    if not (folder / FILE).is_file():
        return spec
    said = spec.model_dump(exclude_defaults=True)
    return (
        read(folder)
        .model_copy(update={"weights": None, "revision": None})
        .model_copy(update={name: getattr(spec, name) for name in said})
    )
