"""Python programs in processes of their own that need not import the engine, which takes 7 s of a processor.

:class:`Popen` and :func:`run` are those of ``subprocess`` for ``[sys.executable, "-m" | "-c" | FILE, ...]``. A server,
started for the first of them, imports torch, transformers, peft, datasets and TRL, and nothing of ``sft``. For each
program it forks; the fork takes what a new Python is given (arguments, environment, path, folder, streams, session,
``sitecustomize``), runs the program as ``__main__``, and ends as Python ends. It is a child of whoever started it, and
what it starts with its own ``sys.executable`` is forked too.

Where variables differ that libraries read when they are imported (``HF_*``), the fork becomes a new Python. Whoever
wants a ``preexec_fn``, or a start as it really is, takes ``subprocess``; elsewhere than on Linux everybody does.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import json
import os
import random
import runpy
import select
import shutil
import signal
import site
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import types
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Variables that are read when Python or a library starts; a fork has those of the server.
AT_START = ("HF_", "TRANSFORMERS_", "OMP_", "MKL_", "TOKENIZERS_", "PYTHON")
ANY_TIME = {"PYTHONPATH", "PYTHONUNBUFFERED", "HF_TOKEN"}
#: ``prctl(2)``: a process whose parent has ended becomes a child of this one.
PR_SET_CHILD_SUBREAPER = 36
LINUX = sys.platform == "linux"


def at_start(environment: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if k.startswith(AT_START) and k not in ANY_TIME}


# -- whoever starts a program ---------------------------------------------------------------------------------


class Popen(subprocess.Popen):
    """``subprocess.Popen`` of a Python program."""

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, *rest: Any) -> None:
        if not LINUX:
            super()._execute_child(args, executable, preexec_fn, *rest)
            return
        _, pass_fds, cwd, env, _, _, shell, *pipes = rest[:13]
        assert args[0] == sys.executable and not (preexec_fn or pass_fds or shell), "is for `subprocess`"
        streams = [own if own != -1 else number for number, own in enumerate((pipes[0], pipes[3], pipes[5]))]
        session = rest[18]
        with requested(server(), args[1:], dict(env or os.environ), cwd, streams, session=session) as answer:
            self.pid = int(answer.recv(20))
        self._child_created = True
        self._close_pipe_fds(*pipes)


def run(
    args: list[Any], *, input: Any = None, capture_output: bool = False, timeout: float | None = None,
    check: bool = False, **how: Any,
) -> subprocess.CompletedProcess[Any]:  # fmt: skip
    """``subprocess.run`` of a Python program."""
    if capture_output:
        how |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        how["stdin"] = subprocess.PIPE
    with Popen(args, **how) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(args, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


_running: dict[str, Any] = {}


def executable() -> str:
    """A file to put into the place of ``sys.executable``: what is started with it is forked."""
    return str(Path(server()).with_name("python")) if LINUX else sys.executable


def server() -> str:
    """The address of this process's server. It ends with this process, however that ends."""
    if not _running:
        folder = Path(tempfile.mkdtemp(prefix="sft-"))
        address = str(folder / "socket")
        stub = folder / "python"
        stub.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{__file__}" --ask "{address}" "$@"\n')
        stub.chmod(0o755)
        if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            raise OSError("this process cannot be the parent of what a server forks for it")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen(64)
            words = [sys.executable, __file__, "--serve", str(listening.fileno()), str(stub)]
            environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
            _running["process"] = subprocess.Popen(
                words, stdin=subprocess.PIPE, env=environment, pass_fds=[listening.fileno()]
            )
        _running["address"] = address
        atexit.register(_end, folder)
    assert _running["process"].poll() is None, "the server has ended"
    return str(_running["address"])


def _end(folder: Path) -> None:
    _running["process"].communicate()
    shutil.rmtree(folder, ignore_errors=True)


def requested(
    address: str, words: list[Any], environment: dict[str, str], cwd: Any, streams: list[int], **how: Any
) -> socket.socket:
    """The connection on which the server answers a request for a program, with the number of its process."""
    request = {"words": list(map(str, words)), "environment": environment, "cwd": str(cwd or Path.cwd()), **how}
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    sent = json.dumps(request).encode()
    socket.send_fds(connection, [len(sent).to_bytes(8, "big")], streams)
    connection.sendall(sent)
    return connection


def ask(address: str, words: list[str]) -> int:
    """What a program's ``sys.executable`` does: have another forked, hand signals on to it, end as it ends."""
    with requested(address, words, dict(os.environ), None, [0, 1, 2], session=False, kept=True) as answer:
        pid = int(answer.recv(20))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        code = os.waitstatus_to_exitcode(int(answer.recv(20)))
    if code < 0:
        _end_by(-code)
    return code


# -- the server -----------------------------------------------------------------------------------------------


def serve(listening: socket.socket) -> dict[str, Any]:
    """Fork for every request until stdin is closed. Returns in the fork, with the request that it is to do."""
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401
    from trl import SFTTrainer  # noqa: F401

    torch.set_num_threads(1)
    gc.freeze()  # what is shared with the forks is not touched by their collections
    assert not [name for name in sys.modules if name.partition(".")[0] == "sft"]
    while True:
        if 0 in select.select([listening, 0], [], [])[0]:
            os._exit(0)
        with listening.accept()[0] as connection, suppress(OSError):  # where whoever asked is gone
            if request := forked(connection):
                listening.close()
                return request
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def forked(connection: socket.socket) -> dict[str, Any]:
    """In the fork: what it is asked for; nothing in the server, which has answered.

    The fork's parent, a fork as well, ends at once, so that the fork falls to whoever asked; or waits where it is to
    be ``kept``, and says how it ended.
    """
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    text = b""
    while len(text) < int.from_bytes(size, "big"):
        text += connection.recv(1 << 20)
    request = json.loads(text)
    told, tell = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid == 0:
            os.close(told), os.close(tell)
            return request | {"streams": streams}
        os.write(tell, str(pid).encode())
        if request.get("kept"):
            for descriptor in (tell, *streams):
                os.close(descriptor)
            connection.sendall(str(pid).encode().ljust(20))
            threading.Thread(target=_ended_with, args=(connection, pid), daemon=True).start()
            connection.sendall(str(os.waitpid(pid, 0)[1]).encode().ljust(20))
        os._exit(0)
    for descriptor in (tell, *streams):
        os.close(descriptor)
    pid = os.read(told, 20)
    os.close(told)
    if not request.get("kept"):
        os.waitpid(between, 0)
        connection.sendall(pid)
    return {}


def _ended_with(connection: socket.socket, pid: int) -> None:
    """Kill ``pid``, if it still runs, when whoever asked for it has ended."""
    if not connection.recv(1):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# -- the fork -------------------------------------------------------------------------------------------------


def become(request: dict[str, Any], stub: str) -> None:
    """Be the process that a new Python would be, run its program, and end as a Python ends.

    But modules are not taken apart in the end, for that takes 2 s of a processor. A session of its own whose stdin is a
    terminal has it as its terminal, and hears its Ctrl-C.
    """
    words, environment = request["words"], request["environment"]
    for number, stream in enumerate(request["streams"]):
        os.dup2(stream, number)
    os.closerange(3, max(request["streams"]) + 1)
    if request["session"]:
        os.setsid()
        if os.isatty(0):
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    os.chdir(request["cwd"])
    if at_start(environment) != at_start(dict(os.environ)):
        os.execve(sys.executable, [sys.executable, *words], environment)
    os.environ.clear()
    os.environ.update(environment)
    unbuffered = words[0] == "-u" or bool(environment.get("PYTHONUNBUFFERED"))
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty(), write_through=unbuffered)
    random.seed()
    sys.executable = stub
    code = 1
    try:
        _execute(words[words[0] == "-u" :], environment.get("PYTHONPATH", ""))
        code = 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            code = end.code or 0
        else:
            sys.stderr.write(f"{end.code}\n")
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
            _end_by(signal.SIGINT)
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code & 255)


def _execute(words: list[str], python_path: str) -> None:
    kind = words[0]
    first = "" if kind == "-c" else str(Path.cwd() if kind == "-m" else Path(kind).resolve().parent)
    sys.path[:1] = [first, *filter(None, python_path.split(os.pathsep))]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    site.execsitecustomize()
    sys.argv = ["-c", *words[2:]] if kind == "-c" else words[kind == "-m" :]
    if kind == "-m":
        runpy._run_module_as_main(words[1])
    elif kind == "-c":
        exec(compile(words[1], "<string>", "exec"), vars(main))
    else:
        runpy.run_path(kind, run_name="__main__")


def _end_by(number: int) -> None:
    """End this process by the signal of this ``number``."""
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    if sys.argv[1] == "--ask":
        sys.exit(ask(sys.argv[2], sys.argv[3:]))
    become(serve(socket.socket(fileno=int(sys.argv[2]))), sys.argv[3])
