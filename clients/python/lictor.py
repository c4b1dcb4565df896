"""Run commands inside hard memory and time limits that the kernel and systemd enforce, and know why they ended.

See README.md. Everything goes through the ``lictor`` command, which hands the run to the daemon where there is one; events
come from the daemon's socket, or from the command.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from typing import Any, Dict, IO, Iterator, List, Mapping, Optional, Sequence, Union

__all__ = [
    "run", "Executor", "Completed", "events", "runs", "show", "stop", "status",
    "Error", "Refused", "Killed", "OutOfMemory", "MemoryLimitExceeded", "TimeLimitExceeded", "Stopped", "Abandoned", "Signaled",
]

Record = Dict[str, Any]
Size = Union[int, str]      # bytes, or "2G"
Span = Union[int, float, str]  # seconds, or "30min"
Stream = Union[None, int, IO[Any]]

#: Where the daemon of the system listens; LICTOR_HOST names another socket, or none.
SOCKET = "/run/lictor/api.sock"

class Error(Exception):
    """Something that lictor says."""


class Refused(Error):
    """Nothing was run: a limit that makes no sense, no systemd, no such command."""

    def __init__(self, message: str, returncode: int) -> None:
        super().__init__(message)
        self.returncode = returncode


class Killed(Error):
    """Something forced the end of the run. ``record`` is the record of lictor/v1, ``completed`` what was captured."""

    def __init__(self, completed: "Completed") -> None:
        self.completed = completed
        self.record = completed.record
        super().__init__(_sentence(completed.record))

    @property
    def reason(self) -> str:
        """Why: oom, timeout, stop, ..."""
        return str(self.record.get("reason", ""))


class OutOfMemory(Killed):
    """The run was killed for memory: by its own limit (MemoryLimitExceeded), one above it, or the host's."""


class MemoryLimitExceeded(OutOfMemory):
    """The run reached its own MemoryMax."""


class TimeLimitExceeded(Killed):
    """The run reached its RuntimeMaxSec."""


class Stopped(Killed):
    """A person or a program asked for the end."""


class Abandoned(Killed):
    """Who had started the run, or the owner that was named, died."""


class Signaled(Killed):
    """A signal ended it that nothing else explains."""


_EXCEPTIONS = {
    "oom": MemoryLimitExceeded, "oom-ancestor": OutOfMemory, "oom-host": OutOfMemory, "oom-unknown": OutOfMemory, "oomd": OutOfMemory,
    "timeout": TimeLimitExceeded, "stop": Stopped, "abandoned": Abandoned, "signal": Signaled,
}


class Completed(subprocess.CompletedProcess):  # type: ignore[type-arg]
    """What subprocess.run returns, with the record of the run. A returncode below 0 is a signal."""

    def __init__(self, args: Sequence[str], returncode: int, stdout: Any, stderr: Any, record: Record) -> None:
        super().__init__(list(args), returncode, stdout, stderr)
        self.record = record

    @property
    def run(self) -> str:
        """The id of the run."""
        return str(self.record["run"])

    @property
    def memory_peak_bytes(self) -> Optional[int]:
        """What the run used at most, None if that is not known."""
        peak = self.record["usage"]["memory_peak_bytes"]
        return None if peak is None else int(peak)

    @property
    def wall_seconds(self) -> Optional[float]:
        """How long it took, None if that is not known."""
        wall = self.record["usage"]["wall_seconds"]
        return None if wall is None else float(wall)


def _sentence(record: Record) -> str:
    name = record.get("analysis_id") or record.get("name") or ""
    short = record["run"][:8]
    text = f"{name} ({short})" if name else short
    text += f" was killed: {record.get('reason') or 'unknown'}"
    peak, limit = record["usage"]["memory_peak_bytes"], record["limits"]["memory_max_bytes"]
    if record.get("reason", "").startswith("oom") and peak is not None:
        text += f", peak {peak} bytes" + (f" of {limit}" if limit is not None else "")
    if record.get("reason") == "timeout":
        text += f", after its limit of {record['limits']['runtime_max_seconds']} s"
    if record.get("by"):
        text += f", by {record['by']}"
    return text


def _command(lictor: Optional[str]) -> str:
    return lictor or os.environ.get("LICTOR_COMMAND") or "lictor"


def run(
    args: Sequence[str],
    *,
    memory_max: Optional[Size] = None,
    runtime_max: Optional[Span] = None,
    grace: Optional[Span] = None,
    memory_high: Optional[Size] = None,
    memory_swap_max: Optional[Size] = None,
    tasks_max: Optional[Union[int, str]] = None,
    cpu_quota: Optional[str] = None,
    oom_policy: Optional[str] = None,
    analysis_id: Optional[str] = None,
    name: Optional[str] = None,
    labels: Optional[Mapping[str, str]] = None,
    on_owner_exit: Optional[str] = None,
    manager: Optional[str] = None,
    cwd: Optional[str] = None,
    env: Optional[Mapping[str, str]] = None,
    input: Any = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    capture_output: bool = False,
    text: Optional[bool] = None,
    check: bool = False,
    lictor: Optional[str] = None,
) -> Completed:
    """Run a command inside limits and wait for it, as subprocess.run does.

    Limits have systemd's names and syntax; numbers are bytes and seconds. ``env`` is added to the environment. ``manager`` is "system" or
    "user" (default: what the command decides). ``check`` raises subprocess.CalledProcessError for an exit status that is not 0; an end that
    something forced always raises Killed.
    """
    if isinstance(args, (str, bytes)):
        raise TypeError("args: a list of strings, not a command line")
    flags: List[str] = ["-q"]
    for flag, value in (
        ("memory-max", memory_max), ("runtime-max", runtime_max), ("grace", grace), ("memory-high", memory_high),
        ("memory-swap-max", memory_swap_max), ("tasks-max", tasks_max), ("cpu-quota", cpu_quota), ("oom-policy", oom_policy),
        ("analysis-id", analysis_id), ("name", name), ("on-owner-exit", on_owner_exit),
    ):
        if value is not None:
            flags.append(f"--{flag}={value}")
    for key, value in (labels or {}).items():
        flags.append(f"--label={key}={value}")
    if manager is not None:
        if manager not in ("system", "user"):
            raise ValueError(f"manager {manager!r}: neither system nor user")
        flags.append(f"--{manager}")
    environment = None
    if env is not None:
        environment = {**os.environ, **env}
    with tempfile.TemporaryDirectory(prefix="lictor-") as scratch:
        result = os.path.join(scratch, "record.json")
        done = subprocess.run(  # pylint: disable=subprocess-run-check
            [_command(lictor), "run", *flags, f"--result-file={result}", "--", *args],
            cwd=cwd, env=environment, input=input, stdin=stdin, stdout=stdout, stderr=stderr, capture_output=capture_output, text=text)
        try:
            with open(result, encoding="utf-8") as f:
                record: Optional[Record] = json.load(f)
        except (FileNotFoundError, ValueError):
            record = None
    if record is None or record.get("reason") == "start-failed":
        raise Refused(_why(done), done.returncode)
    completed = Completed(args, _returncode(record, done.returncode), done.stdout, done.stderr, record)
    if record["state"] == "killed":
        raise _EXCEPTIONS.get(record.get("reason", ""), Killed)(completed)
    if check and completed.returncode != 0:
        raise subprocess.CalledProcessError(completed.returncode, list(args), done.stdout, done.stderr)
    return completed


def _why(done: "subprocess.CompletedProcess[Any]") -> str:
    said = done.stderr
    if isinstance(said, bytes):
        said = said.decode(errors="replace")
    lines = [line for line in (said or "").splitlines() if line.startswith(("lictor:", "hint:"))]
    return "; ".join(lines) or f"lictor run: exit status {done.returncode}, and stderr says why"


def _returncode(record: Record, status: int) -> int:
    end = record.get("exit") or {}
    if end.get("kind") == "exited" and end.get("code") is not None:
        return int(end["code"])
    if end.get("kind") == "signaled" and end.get("signal"):
        try:
            return -int(signal.Signals[end["signal"]])
        except KeyError:
            pass
    return status


class Executor(concurrent.futures.Executor):
    """Runs commands, some at a time, each inside limits of its own: ``submit(["python3", "fold.py"], memory_max="1G")`` returns a Future
    of a Completed. Keyword arguments given here are the defaults of every command."""

    def __init__(self, max_workers: Optional[int] = None, **defaults: Any) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(max_workers=max_workers or os.cpu_count() or 1, thread_name_prefix="lictor")
        self._defaults = defaults

    def submit(self, args: Sequence[str], /, **options: Any) -> "concurrent.futures.Future[Completed]":  # type: ignore[override]
        """Run a command when it is its turn."""
        return self._threads.submit(run, args, **{**self._defaults, **options})

    def map(self, *iterables: Any, timeout: Optional[float] = None, chunksize: int = 1, **options: Any) -> Iterator[Completed]:  # type: ignore[override]
        """Run the commands of an iterable and return their results in its order."""
        (commands,) = iterables
        end = None if timeout is None else time.monotonic() + timeout
        futures = [self.submit(args, **options) for args in commands]

        def results() -> Iterator[Completed]:
            try:
                for future in futures:
                    yield future.result(None if end is None else end - time.monotonic())
            finally:
                for future in futures:
                    future.cancel()
        return results()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As concurrent.futures.Executor.shutdown; what runs is not stopped."""
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)


def _ask(*args: str, lictor: Optional[str] = None) -> str:
    done = subprocess.run([_command(lictor), *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Error(_why(done))
    return done.stdout


def runs(*, ended: bool = False, analysis_id: Optional[str] = None, lictor: Optional[str] = None) -> List[Record]:
    """The live runs, with ``ended`` the others too: their records, each with "live" if it lives."""
    flags = ["--json"] + (["-a"] if ended else []) + ([f"--analysis={analysis_id}"] if analysis_id is not None else [])
    records: List[Record] = json.loads(_ask("ps", *flags, lictor=lictor))
    return records


def show(run_id: str, *, lictor: Optional[str] = None) -> Record:
    """The record of a run, named by its id, a prefix of it, or its analysis id."""
    record: Record = json.loads(_ask("show", "--json", "--", run_id, lictor=lictor))
    return record


def stop(run_id: str, *, grace: Optional[Span] = None, lictor: Optional[str] = None) -> None:
    """End a run: SIGTERM, grace, SIGKILL."""
    _ask("stop", *([f"--grace={grace}"] if grace is not None else []), "--", run_id, lictor=lictor)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: Optional[float]) -> None:
        super().__init__("lictor", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _daemon() -> Optional[str]:
    path = os.environ.get("LICTOR_HOST") or SOCKET
    if path == "none":
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(5)
            s.connect(path)
    except OSError:
        return None
    return path


def status() -> Dict[str, Any]:
    """The section of the old watchdog: monitored_count, grace_count, kills_last_24h, recent_events. It takes the daemon."""
    path = _daemon()
    if path is None:
        raise Error("no daemon answers: systemctl status lictor")
    connection = _UnixConnection(path, 30)
    try:
        connection.request("GET", "/api/quests/status")
        answer: Dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


#: How long nothing may come from the daemon, which gives a sign of life every 15 s.
_SILENCE = 60


def events(*, kinds: Optional[Sequence[str]] = None, analysis_id: Optional[str] = None, after: Optional[int] = None,
           lictor: Optional[str] = None) -> Iterator[Record]:
    """Events as they happen, for as long as somebody iterates. From the daemon, if there is one: then none is missed while it restarts,
    and ``after`` is the "position" of the last one that is known. Else from ``lictor events -f``."""
    path = _daemon()
    if path is None:
        yield from _follow(kinds, analysis_id, lictor)
        return
    last = after
    pause = 0.0
    while True:
        time.sleep(pause)
        pause = 1.0
        try:
            for last, event in _stream(path, kinds, analysis_id, last):
                pause = 0.0
                if event is not None:
                    yield event
        except (OSError, http.client.HTTPException):
            continue


def _stream(path: str, kinds: Optional[Sequence[str]], analysis_id: Optional[str], last: Optional[int]) -> Iterator[Any]:
    query = "&".join([f"kind={_quote(k)}" for k in kinds or ()] + ([f"analysis_id={_quote(analysis_id)}"] if analysis_id is not None else []))
    headers = {"Accept": "text/event-stream"}
    if last is not None:
        headers["Last-Event-ID"] = str(last)
    connection = _UnixConnection(path, _SILENCE)
    try:
        connection.request("GET", "/api/v1/events" + (f"?{query}" if query else ""), headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise Error(json.loads(response.read()).get("detail", f"status {response.status}"))
        position: Optional[int] = last
        data: List[str] = []
        while True:
            raw = response.readline()
            if not raw:
                raise ConnectionError("the daemon is gone")
            field, _, value = raw.decode().rstrip("\n").partition(": ")
            if field == "id":
                position = int(value)
            elif field == "data":
                data.append(value)
            elif field == "" and data:
                event: Record = json.loads("\n".join(data))
                event["position"] = position
                data = []
                yield position, event
    finally:
        connection.close()


def _quote(text: str) -> str:
    import urllib.parse  # only here: it is not small
    return urllib.parse.quote(text, safe="")


def _follow(kinds: Optional[Sequence[str]], analysis_id: Optional[str], lictor: Optional[str]) -> Iterator[Record]:
    flags = ["-f", "--json", "-n", "0"] + [f"--kind={k}" for k in kinds or ()] + ([f"--analysis={analysis_id}"] if analysis_id is not None else [])
    with subprocess.Popen([_command(lictor), "events", *flags], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as p:
        try:
            assert p.stdout is not None
            for line in p.stdout:
                yield json.loads(line)
        finally:
            p.terminate()
