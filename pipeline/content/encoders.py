"""Encoders as artifacts: a specification from params.yaml -> a local folder -> a module."""

import hashlib
from pathlib import Path

import torch

from pipeline.content import lora, open_clip_images, specification, text, timm_images
from pipeline.content.blocks import Encoder
from pipeline.content.specification import Spec
from pipeline.data import files

LIBRARIES: dict[str, type[Encoder]] = {
    "sentence-transformers": text.SentenceEncoder,
    "open_clip": open_clip_images.OpenClipEncoder,
    "timm": timm_images.TimmEncoder,
}


def fetch(spec: Spec, out: Path) -> Encoder:
    """Get a public encoder and keep it in a folder: from there on nothing needs a network.

    Raises:
        files.Stop: the specification leads to no encoder.
    """
    specification.check_folder(spec)
    spec = specification.inherit(spec)
    encoder = LIBRARIES[spec.library].fetch(spec)
    encoder.spec = specification.without_place(encoder.spec)
    save(encoder, out)
    return encoder


def save(encoder: Encoder, folder: Path) -> None:
    """Write an encoder, public or tuned, in its library's own format with its specification.

    Adapters are merged into what is written; the encoder itself keeps them.
    """
    with files.atomic_folder(folder) as part:
        lora.merged(encoder).write(part)
        files.write_json(part / specification.FILE, encoder.specification)


def load(folder: Path, modality: str | None = None) -> Encoder:
    """Read an encoder folder; everything is frozen, in evaluation mode, float32, on the CPU.

    Raises:
        files.Stop: the folder is not one, or not of the modality if one is asked for.
    """
    spec = specification.read(folder)
    found = specification.MODALITY[spec.library]
    if modality not in (None, found):
        raise files.Stop(f"{folder} holds an encoder of {found}, not of {modality}.")
    return LIBRARIES[spec.library].open(folder, spec).eval()


def weights(encoder: Encoder, frozen: bool = False) -> str:
    """Hash the weights: sha256 of name, dtype, shape and bytes.

    Args:
        encoder: whose.
        frozen: leave out the parameters that `prefix` never reads; so what is below them stands
            for all encoders that share it, whatever trains above, and however.
    """
    digest = hashlib.sha256()
    above = encoder.above_prefix() if frozen else {}
    for name, tensor in sorted(encoder.state_dict().items()):
        if name in above:
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
