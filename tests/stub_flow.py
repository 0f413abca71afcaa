"""The flow of this repository in a repository of its own, with stages that take no time.

DVC, dvc.yaml, params.yaml and the two commands are the real ones; only `python -m stages.X` of a
stage of the flow is stub_python.py. So what reruns, and what does not, is DVC's own answer.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PARTS = ["dvc.yaml", "params.yaml", "requirements.txt", ".dvcignore", ".gitignore", ".dvc/config"]
CODE = ["pipeline", "stages"]


def environment(folder):
    """Make a virtual environment with this one's packages whose `python` is the stub.

    Its `python3` is a real Python, so `python3 -m dvc` and `python3 -m stages.repro` are real.
    """
    packages = Path(sysconfig.get_paths()["purelib"])
    (folder / "bin").mkdir(parents=True)
    base = Path(sys._base_executable).resolve()
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
    (folder / "bin/python3").symlink_to(base)
    within = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    within.mkdir(parents=True)
    (within / "site-packages").symlink_to(packages)
    stub = folder / "bin/python"
    # -I: alone, for speed; it finds this repository's modules by itself where it needs them
    stub.write_text(f"#!{base} -IS\n" + Path(__file__).with_name("stub_python.py").read_text())
    stub.chmod(0o755)
    return folder


class Flow:
    """A repository with the flow, and the commands a user types in it."""

    def __init__(self, folder, python_home):
        self.folder, self.home = folder, python_home
        self.path = f"{python_home / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def copy(self, folder):
        """The same repository elsewhere, to be changed freely."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Flow(folder, self.home)

    def start(self, *words, **more):
        """Start a command; `python3 -m X` for the module X, as in the virtual environment."""
        return subprocess.Popen(words, **self.settings(more.pop("env", {})), **more)

    def settings(self, env):
        ours = {
            "PATH": self.path,
            "VIRTUAL_ENV": str(self.home),
            "DVC_SITE_CACHE_DIR": str(self.folder.parent / "dvc-site"),
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "OMP_NUM_THREADS": "1",
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "DVC_"))}
        return {"cwd": self.folder, "env": {**inherited, **ours, **env}, "text": True}

    def run(self, *words, env=None):
        """Run a command and return what it did, whatever its exit status."""
        return subprocess.run(
            words, **self.settings(env or {}), capture_output=True, check=False, timeout=300
        )

    def git(self, *words):
        done = self.run("git", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def dvc(self, *words):
        done = self.run("python3", "-m", "dvc", *words)
        assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def repro(self, *words):
        """`dvc repro`, and the names of the stages that it ran."""
        return ran(self.dvc("repro", *words))

    def status(self):
        """The stages that `dvc status` would run again, by what they read themselves."""
        return set(json.loads(self.dvc("status", "--json")))

    def edit(self, **sections):
        """Change params.yaml: sections by name, or keys in them as `evaluate__cutoffs`."""
        file = self.folder / "params.yaml"
        params = YAML(typ="safe").load(file)
        for path, value in sections.items():
            *above, key = path.split("__")
            owner = params
            for name in above:
                owner = owner[name]
            owner[key] = value
        self.write_params(params)

    def write_params(self, params):
        yaml = YAML()
        yaml.default_flow_style = False
        yaml.representer.ignore_aliases = lambda _: True
        with (self.folder / "params.yaml").open("w") as opened:
            yaml.dump(params, opened)


def ran(output):
    """The stages that DVC says it ran (not those it took from its cache of runs)."""
    return set(re.findall(r"^Running stage '(.*)':", output, re.MULTILINE))


def make(folder, python_home, **lists):
    """A committed repository with one source and one target, contents text and both.

    Args:
        folder: where to make it.
        python_home: the virtual environment with the stub.
        lists: sections of params.yaml that shall be otherwise.
    """
    for part in PARTS:
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / part, folder / part)
    for part in CODE:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    flow = Flow(folder, python_home)
    params = YAML(typ="safe").load(folder / "params.yaml")
    for part, domains in params["domains"].items():
        params["domains"][part] = {name: domains[name] for name in ["harbor", "near"]}
    runs = {name: listed[:1] for name, listed in params["runs"].items()}
    smaller = {"targets": ["near"], "contents": ["text", "both"], "runs": runs}
    flow.write_params({**params, **smaller, **lists})
    flow.git("init", "--quiet", "--initial-branch", "main")
    flow.git("config", "user.name", "Tester")
    flow.git("config", "user.email", "tester@localhost")
    flow.git("add", "--all")
    flow.git("commit", "--quiet", "--message", "The flow")
    return flow


def text_alone():
    """Lists for one target, its texts and no source: a few stages."""
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    near = {"near": {**params["domains"]["all"]["near"], "covers": ""}}
    return {
        "sources": [],
        "contents": ["text"],
        "domains": {"all": near, "text": near, "image": {}, "both": {}},
        "origins": {"text": "requirements.txt"},
    }
