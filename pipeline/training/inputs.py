"""What a run reads, and whether it belongs together: by hand, a stage can be given anything."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.content import blocks, encoders, store
from pipeline.data import files, lists

# Of what shaped a model, keys that change how it learns and not what it is.
LEARNING = {"dropout", "modality_dropout", "mask"}


class Inputs(NamedTuple):
    """Where a run finds what it reads."""

    prepared: Path
    embeddings: Path | None = None  # of the starting encoder; none for `id`
    encoders: Path | None = None  # a folder with one a modality; for end2end
    covers: Path | None = None  # for end2end where the content has images
    pretrained: Path | None = None  # the model to start from

    def decisive(self) -> list[Path]:
        """List what the result depends on; a passport stands for its encoder and contents."""
        return [p for p in (self.prepared, self.embeddings, self.pretrained) if p is not None]


def check_embeddings(
    inputs: Inputs, embedded: Mapping[str, store.Embedded], content: str, items: int
) -> None:
    """See that embeddings are those of a content, and of a prepared domain's items.

    Args:
        inputs: where they were found.
        embedded: by modality; none for `id`.
        content: text, image or both.
        items: N, of the prepared domain.

    Raises:
        Stop: they are others.
    """
    if embedded and {*embedded} != {*lists.MODALITIES[content]}:
        raise files.Stop(
            f"{inputs.embeddings} has embeddings of {' and '.join(embedded)}, and the content is "
            f"{content}: name those of {' and '.join(lists.MODALITIES[content])}"
        )
    if inputs.embeddings:
        store.check_items(embedded, inputs.embeddings, inputs.prepared, items)


def check_encoders(inputs: Inputs, found: Mapping[str, blocks.Encoder]) -> None:
    """See that the encoders that will train are those that made the embeddings.

    Raises:
        Stop: one has other weights.
    """
    assert inputs.embeddings and inputs.encoders, "what an end2end run reads"
    passports = store.passports(inputs.embeddings)
    for modality, encoder in found.items():
        if encoders.weights(encoder) != passports[modality].get("weights"):
            raise files.Stop(
                f"the encoder in {inputs.encoders / modality} is not the one that made "
                f"{inputs.embeddings}: its weights are others; name the encoders that embedded "
                "the domain, or run `dvc repro`"
            )


def check_start(pretrained: Path, shaped: Mapping[str, Any]) -> None:
    """See that a pre-trained model was shaped as the one that shall start from it.

    How it learned (dropout, the share of [MASK]) may differ. Whose embeddings it learned on is not
    looked at: those of tuned encoders are others by intention.

    Args:
        pretrained: its folder.
        shaped: parts of what `outputs` writes to model.json.

    Raises:
        Stop: there is none, or something differs.
    """
    described = pretrained / "model.json"
    if not described.is_file():
        raise files.Stop(
            f"{pretrained} holds no pre-trained model: {described} is missing; run the stage "
            "pretrain, or name another folder"
        )
    theirs = files.read_json(described)
    for key, own in shaped.items():
        if _lasting(theirs.get(key)) != _lasting(own):
            raise files.Stop(
                f"the pre-trained model in {pretrained} has {key} {theirs.get(key)}, and this run "
                f"has {own}; pre-train again with the same sections of params.yaml (dvc repro)"
            )


def _lasting(value: Any) -> Any:  # noqa: ANN401  # whatever JSON can hold
    if not isinstance(value, dict):
        return value
    return {key: _lasting(own) for key, own in value.items() if key not in LEARNING}
