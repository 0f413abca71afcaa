"""Tiny random encoders in the formats of their libraries; nothing is downloaded."""

import json
import shutil

import numpy as np
import open_clip
import pytest
import safetensors.torch
import timm
import tokenizers
import torch
import transformers
from timm.models._hub import save_for_hf

from pipeline.content import encoders, specification
from pipeline.data import covers

WORDS = [
    "red",
    "blue",
    "green",
    "dress",
    "shoe",
    "hat",
    "of",
    "the",
    "a",
    "and",
    "summer",
    "winter",
    "wool",
    "silk",
    "old",
    "new",
]
TEXTS = [
    "red dress",
    "the old wool hat of the winter and the new silk dress of the summer",
    None,
    "shoe",
    "   ",
    "a blue hat and a green shoe",
    "red dress and red shoe",
]


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    """A plain Hugging Face folder: BERT of three layers over the words above."""
    folder = tmp_path_factory.mktemp("bert")
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    marks = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=20,
        hidden_dropout_prob=0.5,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def like_roberta(bert, folder, config, model):
    """BERT's folder with RoBERTa's layers, whose positions count from the pad's id."""
    shutil.copytree(bert, folder, dirs_exist_ok=True)
    torch.manual_seed(0)
    small = config(
        vocab_size=20, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=22, pad_token_id=0,
    )  # fmt: skip
    model(small).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def roberta(bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("roberta")
    return like_roberta(bert, folder, transformers.RobertaConfig, transformers.RobertaModel)


@pytest.fixture(scope="session")
def xlm_roberta(bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("xlm_roberta")
    return like_roberta(bert, folder, transformers.XLMRobertaConfig, transformers.XLMRobertaModel)


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """A whole open_clip model of three blocks, text tower included, as a local folder."""
    folder = tmp_path_factory.mktemp("clip")
    tower = {"width": 32, "layers": 3}
    config = {
        "embed_dim": 24,
        "vision_cfg": {**tower, "image_size": 32, "patch_size": 8, "head_width": 16},
        "text_cfg": {**tower, "context_length": 8, "vocab_size": 100, "heads": 2},
    }
    preprocess = {"size": 32, "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic"}
    described = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    torch.manual_seed(0)
    model = open_clip.CLIP(**config)
    safetensors.torch.save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def timm_folder(folder, name, **options):
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=0, **options)
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    save_for_hf(net, folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def vit(tmp_path_factory):
    small = dict(img_size=32, patch_size=8, embed_dim=16, depth=3, num_heads=2)
    return timm_folder(tmp_path_factory.mktemp("vit"), "vit_tiny_patch16_224", **small)


@pytest.fixture(scope="session")
def efficientnet(tmp_path_factory):
    """Has batch norm and drops paths while it trains."""
    return timm_folder(
        tmp_path_factory.mktemp("efficientnet"), "test_efficientnet", drop_path_rate=0.5
    )


@pytest.fixture(scope="session")
def pack():
    """Covers of 7 items, two of them missing."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)
    return covers.Pack(pixels, np.array([-1, 0, 1, -1, 2, 3, -1, 4], dtype=np.int32))


@pytest.fixture
def many():
    """Texts of 23 items, two of them missing."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 15))) for _ in range(23)]
    texts[3] = texts[11] = None
    return texts


@pytest.fixture
def fetch(tmp_path):
    """Fetch an encoder as the stage does, and open the folder that it wrote."""

    def fetched(entry, modality, out="encoder"):
        encoders.fetch(specification.resolve(entry, modality), tmp_path / out)
        return encoders.load(tmp_path / out, modality)

    return fetched
