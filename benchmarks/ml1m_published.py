"""What others have published on MovieLens-1M: leave-one-out, all items ranked."""

from typing import NamedTuple

KLENITSKIY = "antklen/sasrec-bert4rec-recsys23"  # Klenitskiy and Vasilev, 2023
GSASREC = "asash/gSASRec-pytorch"  # Petrov and Macdonald, 2023
REPRO = "blondered/bert4rec_repro"  # Petrov and Macdonald, 2022, and RecTools beside
BENCHMARK = "blondered/transformer_benchmark"
META = "facebookresearch/generative-recommenders"


class Published(NamedTuple):
    """A published result."""

    model: str
    hr: str  # HR@10, as published; two are a range
    ndcg: str  # NDCG@10; empty where none is given
    source: str  # a repository on GitHub
    width: str  # D; "?" where the source does not say
    length: str  # L
    seen: str  # whether a user's past items are left out of the ranking
    others: str  # what else differs from our runs


class Band(NamedTuple):
    """Where a correct implementation is expected on test: least and most.

    Drawn by hand about the published values below that have the same loss and are most alike, from
    a little under the least to a little over the greatest.
    """

    hr: tuple[float, float]
    ndcg: tuple[float, float]


class Model(NamedTuple):
    """What a recipe is compared with."""

    title: str
    band: Band | None  # None where too few have published to draw one
    published: list[Published]


_EQUAL = "dropout 0.1; at most 100 epochs, patience 10"
_RECTOOLS = "at most 200 epochs, patience 50; 2,048 validation users, the others' items train"
_GSASREC = "dropout 0.5; item vectors of scores apart from those of inputs; 512 validation users"
MODELS = {
    "sasrec-softmax": Model(
        "SASRec, softmax over all items",
        Band((0.290, 0.320), (0.168, 0.186)),
        [
            Published("SASRec+", ".3152", ".1821", KLENITSKIY, "64", "200", "yes", _EQUAL),
            Published("RecTools", ".3058", ".1779", REPRO, "256", "100", "yes", _RECTOOLS),
            Published(
                "SASRec softmax", ".2867-.2930", "", BENCHMARK, "?", "?", "?",
                "reproduced - as in the gSASRec paper",
            ),
        ],
    ),
    "sasrec-bce": Model(
        "SASRec, binary cross-entropy, 1 negative",
        Band((0.235, 0.255), (0.125, 0.136)),
        [
            Published("SASRec", ".2500", ".1341", KLENITSKIY, "64", "200", "yes", _EQUAL),
            Published("SASRec", ".2392", ".1259", GSASREC, "128", "200", "yes", _GSASREC),
            Published(
                "SASRec original", ".1993", ".1078", REPRO, "?", "?", "?",
                "316 s of training",
            ),
        ],
    ),
    "gsasrec": Model(
        "gSASRec, 256 negatives, t 0.75",
        None,
        [Published("gSASRec", ".3003", ".1726", GSASREC, "128", "200", "yes", _GSASREC)],
    ),
    "bert4rec": Model(
        "BERT4Rec",
        None,
        [
            Published(
                "BERT4Rec", ".2843", ".1537", KLENITSKIY, "64", "200", "yes",
                "dropout 0.1; at most 200 epochs, patience 20",
            ),
            Published(
                "ber4rec_repro, longer", ".2821", ".1516", REPRO, "?", "?", "?",
                "patience 200; 2,048 validation users",
            ),
            Published("RecTools", ".2921", ".1618", REPRO, "256", "100", "yes", _RECTOOLS),
        ],
    ),
    "gru4rec": Model(
        "GRU4Rec, softmax over all items",
        None,
        [
            Published(
                "GRU4Rec", ".2811", ".1648", KLENITSKIY, "64", "200", "yes",
                f"{_EQUAL}; values as quoted by {META}",
            ),
        ],
    ),
    "hstu": Model(
        "HSTU",
        None,
        [
            Published(
                "HSTU", ".3097", ".1720", META, "50", "200", "yes",
                "128 negatives, vectors of length 1, temperature 0.05, 101 epochs; "
                "other order where timestamps tie: a quarter of the test items are others",
            ),
        ],
    ),
}  # fmt: skip
