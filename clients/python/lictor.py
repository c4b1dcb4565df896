"""Run commands inside hard memory and time limits that the kernel and systemd enforce, and know why they ended.

See README.md. Everything goes over the socket of the daemon; where there is none, or where it cannot do what is asked, through the
``lictor`` command.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import io
import json
import locale
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse
import uuid
from typing import Any, Callable, Dict, IO, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

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
    text: str = f"{name} ({short})" if name else short
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
    return str(lictor or os.environ.get("LICTOR_COMMAND") or "lictor")


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
    "user" (default: the system's where a daemon listens, else what the command decides). ``check`` raises subprocess.CalledProcessError for
    an exit status that is not 0; an end that something forced always raises Killed. ``lictor`` names a command to do it with, daemon or not.
    """
    if isinstance(args, (str, bytes)):
        raise TypeError("args: a list of strings, not a command line")
    if manager not in (None, "system", "user"):
        raise ValueError(f"manager {manager!r}: neither system nor user")
    if input is not None and stdin is not None:
        raise ValueError("stdin and input: one of them")
    if capture_output and (stdout is not None or stderr is not None):
        raise ValueError("stdout, stderr and capture_output: not both")
    if capture_output:
        stdout = stderr = subprocess.PIPE
    limits = {name: value for name, value in (
        ("memory_max", memory_max), ("runtime_max", runtime_max), ("grace", grace), ("memory_high", memory_high),
        ("memory_swap_max", memory_swap_max), ("tasks_max", tasks_max), ("cpu_quota", cpu_quota), ("oom_policy", oom_policy),
    ) if value is not None}
    names = {name: value for name, value in (
        ("analysis_id", analysis_id), ("name", name), ("on_owner_exit", on_owner_exit),
    ) if value is not None}
    environment = {**os.environ, **(env or {})}
    path = _daemon() if lictor is None and manager != "user" else None
    completed = None
    if path is not None:
        launch = {"command": list(args), "attached": True, "env": environment, "cwd": os.path.abspath(cwd or os.curdir),
                  "limits": limits, "labels": dict(labels or {}), **names}
        if _is_text(launch):
            completed = _run_attached(path, args, launch, input, (stdin, stdout, stderr), bool(text))
    if completed is None:
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in {**limits, **names}.items()]
        flags += [f"--label={key}={value}" for key, value in (labels or {}).items()]
        flags += [f"--{manager}"] if manager is not None else []
        flags += [f"--owner-pid={os.getpid()}"]  # not the command's process, which would live on without this one
        completed = _run_command(_command(lictor), args, flags, cwd=cwd, env=environment, input=input, stdin=stdin, stdout=stdout, stderr=stderr,
                                 text=text)
    if completed.record["state"] == "killed":
        raise _EXCEPTIONS.get(completed.record.get("reason", ""), Killed)(completed)
    if check and completed.returncode != 0:
        raise subprocess.CalledProcessError(completed.returncode, list(args), completed.stdout, completed.stderr)
    return completed


#: How long ``lictor run`` may take to end its run when Python is interrupted.
_INTERRUPTED = 15


def _run_command(command: str, args: Sequence[str], flags: Sequence[str], input: Any, **options: Any) -> Completed:
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with tempfile.TemporaryDirectory(prefix="lictor-") as scratch:
        result = os.path.join(scratch, "record.json")
        with subprocess.Popen([command, "run", "-q", *flags, f"--result-file={result}", "--", *args], **options) as process:
            try:
                stdout, stderr = process.communicate(input)
            except BaseException:  # Ctrl-C. To kill it, as subprocess.run does, would leave the run alone
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_INTERRUPTED)
                process.kill()
                raise
        done: "subprocess.CompletedProcess[Any]" = subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
        try:
            with open(result, encoding="utf-8") as f:
                record: Optional[Record] = json.load(f)
        except (FileNotFoundError, ValueError):
            record = None
    if record is None or record.get("reason") == "start-failed":
        raise Refused(_why(done), done.returncode)
    return Completed(args, _returncode(record, done.returncode), done.stdout, done.stderr, record)


def _is_text(launch: Any) -> bool:
    """Whether JSON can say it: names of files and variables need not be UTF-8."""
    try:
        json.dumps(launch, ensure_ascii=False).encode()
    except (UnicodeEncodeError, TypeError):  # bytes, or a path, as an argument
        return False
    return True


def _run_attached(path: str, args: Sequence[str], launch: Dict[str, Any], input: Any, streams: Tuple[Stream, ...], text: bool) -> Optional[Completed]:
    """Run it attached to this process: the daemon has systemd start it with our descriptors and limits, and it ends if we do.
    None: the daemon is of a version that cannot."""
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        fds: List[int] = []
        captured: Dict[int, Callable[[], Any]] = {}
        for i, stream in enumerate(streams):
            if i == 0 and input is not None or stream == subprocess.PIPE:
                reader, writer = os.pipe()
                mine, other = (writer, reader) if i == 0 else (reader, writer)
                theirs.callback(os.close, other)
                fds.append(other)
                if i == 0:
                    _feed(mine, input, text)
                else:
                    captured[i] = _collect(mine, text)
            elif stream == subprocess.STDOUT and i == 2:
                fds.append(fds[1])
            elif stream == subprocess.DEVNULL or stream is None and not _is_open(i):
                null = os.open(os.devnull, os.O_RDWR)
                theirs.callback(os.close, null)
                fds.append(null)
            elif stream is None:
                fds.append(i)
            else:
                fds.append(stream if isinstance(stream, int) else stream.fileno())
        reader, writer = os.pipe()
        theirs.callback(os.close, writer)
        result = ours.enter_context(os.fdopen(reader, "rb"))
        answer = _post_attached(path, launch, fds + [writer])
        theirs.close()  # what is captured ends when the run's side does
        if answer is None:
            return None
        try:
            said = result.read()  # ends when the launcher does
            record = json.loads(said) if said.endswith(b"\n") else _await_end(path, answer["run"])
        except BaseException:
            with contextlib.suppress(Error, OSError, http.client.HTTPException):
                _call(path, "POST", f"/api/v1/runs/{answer['run']}/stop", {})
            raise
        outputs = [captured[i]() if i in captured else None for i in (1, 2)]
    return Completed(args, _returncode(record, 124 if record.get("reason") == "timeout" else 1), outputs[0], outputs[1], record)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _feed(fd: int, data: Any, text: bool) -> None:
    """Write it all, in the background, to whoever reads, and then the end of it."""
    def feed() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(fd, "wb") as f:
            f.write(data.encode(locale.getpreferredencoding(False)) if text else data)
    if not data:
        os.close(fd)
        return
    if isinstance(data, str) != text:
        os.close(fd)
        raise TypeError("input: text with text=True, else bytes")
    threading.Thread(target=feed, name="lictor-stdin", daemon=True).start()


def _collect(fd: int, text: bool) -> Callable[[], Any]:
    """Read it all, in the background; the function returned waits for that."""
    got: List[bytes] = []

    def collect() -> None:
        with os.fdopen(fd, "rb") as f:
            got.append(f.read())
    thread = threading.Thread(target=collect, name="lictor-output", daemon=True)
    thread.start()

    def collected() -> Any:
        thread.join()
        return io.TextIOWrapper(io.BytesIO(got[0]), encoding=locale.getpreferredencoding(False)).read() if text else got[0]
    return collected


#: How long a daemon that has gone away is waited for: systemd starts it again.
_PATIENCE = 45


def _post_attached(path: str, launch: Dict[str, Any], fds: Sequence[int]) -> Optional[Record]:
    """Launch it once, however often that must be asked for. The record is that of a run that runs. None: the daemon knows no attached
    runs."""
    key, end = str(uuid.uuid4()), time.monotonic() + _PATIENCE
    while True:
        connection = _UnixConnection(path, 120, fds)
        try:
            return dict(_answer(connection, "POST", "/api/v1/runs", launch, {"Idempotency-Key": key}))
        except _Problem as e:
            if e.status == 409 and time.monotonic() < end:  # an earlier attempt is under way
                time.sleep(0.2)
            elif e.status == 400 and 'unknown field "attached"' in str(e):
                return None
            else:
                raise Refused(str(e), e.exit_code or 125) from None
        except (OSError, http.client.HTTPException):
            if time.monotonic() > end:
                raise Error("the daemon went away while it launched the run: systemctl status lictor") from None
            time.sleep(0.5)
        except BaseException:  # Ctrl-C: it may run already
            _stop_launched(path, launch, fds, key)
            raise
        finally:
            connection.close()


def _stop_launched(path: str, launch: Dict[str, Any], fds: Sequence[int], key: str) -> None:
    """End what a request that was interrupted has started: the same once more tells which run that is."""
    with contextlib.suppress(Error, OSError, http.client.HTTPException), contextlib.closing(_UnixConnection(path, 120, fds)) as connection:
        run = _answer(connection, "POST", "/api/v1/runs", launch, {"Idempotency-Key": key})["run"]
        _call(path, "POST", f"/api/v1/runs/{run}/stop", {})


def _await_end(path: str, run_id: str) -> Record:
    """The final record of a run whose launcher was killed, so that it could not tell; the daemon keeps it."""
    last = time.monotonic()
    while True:
        try:
            record: Record = _call(path, "GET", f"/api/v1/runs/{run_id}")
            if record["state"] not in ("starting", "running", "grace"):
                return record
            last = time.monotonic()
        except (OSError, http.client.HTTPException):
            if time.monotonic() - last > _PATIENCE:
                raise Error(f"run {run_id}: its launcher was killed and the daemon is away: lictor show {run_id}") from None
        time.sleep(0.5)


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
    """The live runs, with ``ended`` the others too: their records, each with "live" if it lives, newest first."""
    path = _daemon() if lictor is None else None
    if path is None:
        flags = ["--json"] + (["-a"] if ended else []) + ([f"--analysis={analysis_id}"] if analysis_id is not None else [])
        return list(json.loads(_ask("ps", *flags, lictor=lictor)))
    query = urllib.parse.urlencode([("live", "true")] * (not ended) + [("analysis_id", analysis_id)] * (analysis_id is not None))
    live = {entry["run"]: entry for entry in _call(path, "GET", "/api/v1/live")}
    records: List[Record] = _call(path, "GET", "/api/v1/runs?" + query)
    for record in records:
        now = live.get(record["run"])
        if now is not None and "reason" not in record:
            record["live"] = now["numbers"]
    return records


def show(run_id: str, *, lictor: Optional[str] = None) -> Record:
    """The record of a run, named by its id, a prefix of it, or its analysis id."""
    path = _daemon() if lictor is None else None
    record = None if path is None else _resolve(path, run_id)
    return record if record is not None else dict(json.loads(_ask("show", "--json", "--", run_id, lictor=lictor)))


def _resolve(path: str, name: str) -> Optional[Record]:
    """The record of a run that the daemon knows. None: it may be one of the user's own manager, which the command knows."""
    try:
        return dict(_call(path, "GET", "/api/v1/resolve?" + urllib.parse.urlencode({"name": name})))
    except _Problem as e:
        if e.status == 404 and shutil.which(_command(None)) is not None:
            return None
        raise


def stop(run_id: str, *, grace: Optional[Span] = None, lictor: Optional[str] = None) -> None:
    """End a run: SIGTERM, grace, SIGKILL. It returns when nobody is left."""
    path = _daemon() if lictor is None and not isinstance(grace, str) else None  # the API takes seconds
    record = None if path is None else _resolve(path, run_id)
    if path is None or record is None:
        _ask("stop", *([f"--grace={grace}"] if grace is not None else []), "--", run_id, lictor=lictor)
        return
    _call(path, "POST", f"/api/v1/runs/{record['run']}/stop", {} if grace is None else {"grace_seconds": grace})


class _UnixConnection(http.client.HTTPConnection):
    """HTTP on a unix socket. Descriptors go with the first byte."""

    def __init__(self, path: str, timeout: Optional[float], fds: Sequence[int] = ()) -> None:
        super().__init__("lictor", timeout=timeout)
        self._path, self._fds = path, fds

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def send(self, data: Any) -> None:
        if self._fds and isinstance(data, bytes):
            self.connect()
            sent = socket.send_fds(self.sock, [data], list(self._fds))
            self._fds, data = (), data[sent:]
        super().send(data)


class _Problem(Error):
    """What the daemon says went wrong (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__("; ".join(filter(None, (problem.get("detail", f"status {status}"), problem.get("hint") and f"hint: {problem['hint']}"))))
        self.status, self.exit_code = status, problem.get("exit_code")


def _answer(connection: _UnixConnection, method: str, target: str, body: Any = None, headers: Optional[Dict[str, str]] = None) -> Any:
    connection.request(method, target, None if body is None else json.dumps(body), headers or {})
    response = connection.getresponse()
    said = response.read()
    if response.status >= 300:
        try:
            problem = json.loads(said)
        except ValueError:
            problem = {}
        raise _Problem(response.status, problem)
    return json.loads(said)


def _call(path: str, method: str, target: str, body: Any = None) -> Any:
    with contextlib.closing(_UnixConnection(path, 300)) as connection:
        return _answer(connection, method, target, body)


def _daemon() -> Optional[str]:
    path = os.environ.get("LICTOR_HOST") or SOCKET
    if path == "none" or "://" in path:
        return None
    path = path[len("unix:"):] if path.startswith("unix:") else path
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
    return dict(_call(path, "GET", "/api/quests/status"))


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
    query = urllib.parse.urlencode([("kind", k) for k in kinds or ()] + [("analysis_id", analysis_id)] * (analysis_id is not None))
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


def _follow(kinds: Optional[Sequence[str]], analysis_id: Optional[str], lictor: Optional[str]) -> Iterator[Record]:
    flags = ["-f", "--json", "-n", "0"] + [f"--kind={k}" for k in kinds or ()] + ([f"--analysis={analysis_id}"] if analysis_id is not None else [])
    with subprocess.Popen([_command(lictor), "events", *flags], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as p:
        try:
            assert p.stdout is not None
            for line in p.stdout:
                yield json.loads(line)
        finally:
            p.terminate()
