"""Stands in for `python` in a flow: `-m stages.X ...` writes X's outputs, made up in no time.

What it writes is a hash of what the stage reads, so that a change goes on through the flow as in
earnest. It is copied to a file named `python`; see stub_flow.py. Only the standard library.
"""

import hashlib
import os
import re
import sys
import time
from pathlib import Path

# What each stage reads: options that name its inputs, and sections of params.yaml that shape it.
READS = {
    "demo": ([], ["demo_data"]),
    "demo_encoder": (["raw"], ["demo_encoder"]),
    "encoder": ([], []),
    "prepare": (["folder"], ["prepare", "protocol"]),
    "covers": (["covers", "prepared"], ["covers"]),
    "embed": (["encoder", "prepared", "covers"], []),
    "join": (["text", "image"], []),
    "pretrain": (["prepared", "embeddings"], ["training"]),
    "embed_tuned": (["pretrained", "prepared"], []),
    "baseline": (["prepared"], ["training"]),
    "train": (["prepared", "embeddings"], ["training"]),
    "transfer": (["pretrained", "prepared", "embeddings"], ["training"]),
    "evaluate": (["prepared", "embeddings", "runs"], ["evaluate", "runs"]),
    "report": (["prepared", "cards", "evaluated", "runs", "costs"], ["targets"]),
}
DOMAINS = ["Source_datasets/harbor", "Downstream_datasets/near"]  # of the demo's; two suffice


def content_of(path):
    """Hash a file, or a folder's names and files; scratch files of killed stages apart."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return [(str(p.relative_to(path)), content_of(p)) for p in files]


def section(name, text):
    """Cut a section out of params.yaml, as it is written."""
    return re.findall(rf"^{name}:.*\n(?:[ -].*\n|\n)*", text, re.MULTILINE)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def outputs(stage, options, made):
    """Write what the stage writes."""
    out = Path(options["out"])
    if stage == "demo":
        for place in DOMAINS:
            write(out / place / f"{Path(place).name}_item.csv", made + place)
            write(out / place / f"{Path(place).name}_cover" / "1.jpg", made + place)
    elif stage in {"embed", "join"}:
        write(out / "passport.json", made)
    elif stage == "prepare":
        write(out / "items.parquet", made)
        write(out / "sequences.npy", made)
    elif stage == "report":
        write(out / "metrics.json", '{"near-both-sasrec": {"id": {"hr@10": 0.1, "ndcg@10": 0.05}}}')
        row = "epoch,phase,loss,hr@10,ndcg@10,learning_rate\n1,probe,0.5,0.1,0.05,0.001\n"
        write(out / "curves" / "near-both-sasrec-id.csv", row)
        write(out / "bars" / "near-both-sasrec.csv", "run,hr@10,ndcg@10\nid,0.1,0.05\n")
        write(out / "figures" / "hr.svg", '<svg xmlns="http://www.w3.org/2000/svg"/>')
        write(out / "report.md", made)
    else:
        write(out / "made.txt", made)
    if stage == "pretrain" and options["run"] == "end2end":
        for modality in ["text", "image"]:
            write(out / "encoder" / modality / "model.txt", made)
    for option, text in {"cost": '{"seconds": 1}', "card": made}.items():
        if option in options:
            path = Path(options[option])
            write(path if path.suffix else path / "card.json", text)


def main(stage, words):
    options = {key[2:]: value for key, value in zip(words[::2], words[1::2], strict=True)}
    inputs, sections = READS[stage]
    if options.get("run", "").startswith("end2end"):
        sections = [*sections, "end2end"]
    text = Path("params.yaml").read_text()
    shaped = [section(name, text) for name in sections]
    if stage == "encoder":  # its own entry, not its neighbour's
        shaped = re.findall(rf"^  {options['modality']}: .*", section("encoders", text)[0], re.M)
    paths = [Path(options[name]) for name in inputs if options.get(name)]
    if stage == "evaluate":
        paths[-1] = paths[-1] / f"{options['target']}-{options['content']}-{options['user']}"
    if stage == "embed_tuned":
        paths[0] /= "encoder"
    read = [stage, sorted(options.items()), shaped, [content_of(path) for path in paths]]
    made = hashlib.sha256(repr(read).encode()).hexdigest()
    if stage != os.environ.get("STUB_SLOW"):
        return outputs(stage, options, made)
    sys.path.insert(0, str(Path.cwd()))
    from pipeline.data import scratch  # the lock that stages hold, in earnest

    with scratch.locked(Path(options["scratch"]) / made[:16]) as waited:
        if not (waited and Path(options["cost"]).exists()):
            signals = Path(os.environ["STUB_SIGNALS"])
            (signals / f"{os.getpid()}.began").touch()
            while not (signals / "go").exists():
                time.sleep(0.02)
            outputs(stage, options, made)


if __name__ == "__main__":
    if sys.argv[1] != "-m" or not sys.argv[2].startswith("stages."):
        sys.exit(f"the stub stands in for stages of the flow alone, not for {sys.argv[1:]}")
    main(sys.argv[2].removeprefix("stages."), sys.argv[3:])
