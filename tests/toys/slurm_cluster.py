"""Two nodes of a SLURM cluster on one machine: Debian's ``slurm-wlm``, a daemon for each node, keys of its own.

Each node has four processors and two GPUs as far as SLURM knows, which asks nobody whether they are there.

The machine's own SLURM, where there is one, is neither asked nor touched: ports, sockets and folders are the test's.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from forked_python import PR_SET_CHILD_SUBREAPER
from toy_launches import free_port

PR_GET_CHILD_SUBREAPER = 37

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel")
CONFIG = """\
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=60
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 Gres=gpu:2
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 Gres=gpu:2
PartitionName=all Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why no cluster can be made here; "" where it can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f"SLURM is not here ({', '.join(absent)}): apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "slurmd is started by root only"


def _path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


@dataclass(frozen=True)
class Cluster:
    """``environment``: what a user's commands need to find it; on the second node ``unshared`` is another folder, and
    ``read_only`` can only be read."""

    environment: dict[str, str]
    unshared: Path
    read_only: Path

    def ask(self, *words: str) -> str:
        """What a command of SLURM says; raises where it fails."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """Where a job is, in SLURM's own words: pending, running, completing, completed, failed, in capitals."""
        return self.facts(job)["JobState"]

    def facts(self, job: str) -> dict[str, str]:
        """What SLURM knows of a job."""
        return dict(word.split("=", 1) for word in self.ask("scontrol", "show", "job", job).split() if "=" in word)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Two nodes, ready for jobs; ``folder``'s path is short, for a socket stands in it. All daemons end with it."""
    host = socket.gethostname().partition(".")[0]
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
    ports = [free_port() for _ in range(3)]
    (folder / "slurm.conf").write_text(CONFIG.format(host=host, folder=folder, ports=ports), encoding="utf-8")
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-1]\n", encoding="utf-8")
    for number in range(2):
        (folder / f"gpu{number}").touch()
    (folder / "state").mkdir()
    (unshared := folder / "unshared").mkdir()
    (read_only := folder / "read-only").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    daemons = [
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"]
        + [f"--{kind}-file={folder}/munge.{kind}" for kind in ("pid", "log", "seed")],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", "node1"],
        [
            "unshare", "--mount", "sh", "-c",
            'mount -t tmpfs tmpfs "$0" && mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && '
            "exec slurmd -D -N node2", str(unshared), str(read_only),
        ],
    ]  # fmt: skip
    started = []
    with (folder / "daemons.log").open("wb") as log, _orphans_are_inits():
        try:
            for words in daemons:
                started.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True))
                time.sleep(0.5)
            found = Cluster(environment, unshared, read_only)
            _wait_for_nodes(found, folder)
            yield found
        finally:
            _end_all_jobs(Cluster(environment, unshared, read_only))
            for process in reversed(started):
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
            for process in reversed(started):
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextmanager
def _orphans_are_inits() -> Iterator[None]:
    """Inside, what a job leaves behind goes to the machine's first process, which buries it.

    Where a test before had made this process the heir (``forked_python``), the dead stayed in their process group, and
    SLURM drained the node whose job it could not end.
    """
    process, was = ctypes.CDLL(None), ctypes.c_int()
    process.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(was), 0, 0, 0)
    process.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    try:
        yield
    finally:
        process.prctl(PR_SET_CHILD_SUBREAPER, was.value, 0, 0, 0)


def _end_all_jobs(found: Cluster) -> None:
    """What a test left running would go on without its daemons."""
    until = time.monotonic() + 30
    with suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired):
        while (jobs := found.ask("squeue", "--noheader", "--format=%A").split()) and time.monotonic() < until:
            found.ask("scancel", "--signal=KILL", "--full", *jobs)
            found.ask("scancel", *jobs)
            time.sleep(0.5)


def _wait_for_nodes(found: Cluster, folder: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with suppress(subprocess.CalledProcessError):
            if found.ask("sinfo", "--noheader", "--format=%T").split() == ["idle"]:
                return
        time.sleep(0.5)
    said = (folder / "daemons.log").read_text(errors="replace")[-600:]
    pytest.skip(f"SLURM is installed and its daemons do not come up here: {said}")  # of the machine, not of ours
