"""Python in a process of its own, or in several by torchrun, each with one thread."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def python(words, folder=ROOT):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def torchrun(n, words):
    """Run a script or `-m` a module, in n processes."""
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}"]
    return python([*(several if n > 1 else []), *words])
