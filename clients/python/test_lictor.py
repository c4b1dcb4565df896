"""Tests of lictor.py against a real lictor: LICTOR_COMMAND names it. With LICTOR_TEST_DAEMON=1 there is a daemon."""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import lictor

EATER = [sys.executable, "-c", "b = []\nwhile True: b.append(bytearray(1 << 20))"]
PATIENCE = 120  # seconds; emulation is slow


class Run(unittest.TestCase):
    def test_done(self):
        done = lictor.run(["sh", "-c", "cat; echo $GREETING; pwd; echo talk >&2"], input="hello\n", capture_output=True, text=True,
                          env={"GREETING": "hi"}, cwd="/", analysis_id="py-done", labels={"k": "v"}, memory_max=64 << 20)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "hello\nhi\n/\n", "talk\n"))
        self.assertEqual((done.record["state"], done.record["labels"], done.record["analysis_id"]), ("done", {"k": "v"}, "py-done"))
        self.assertEqual(done.record["limits"]["memory_max_bytes"], 64 << 20)
        self.assertGreater(done.memory_peak_bytes, 0)
        self.assertGreater(done.wall_seconds, 0)
        self.assertEqual(lictor.show(done.run)["run"], done.run)

    def test_failed(self):
        self.assertEqual(lictor.run(["sh", "-c", "exit 3"]).returncode, 3)
        self.assertEqual(lictor.run(["sh", "-c", "exit 125"]).returncode, 125)
        self.assertEqual(lictor.run(["sh", "-c", "kill -SEGV $$"]).returncode, -signal.SIGSEGV)
        with self.assertRaises(subprocess.CalledProcessError) as caught:
            lictor.run(["sh", "-c", "echo why; exit 3"], check=True, capture_output=True, text=True)
        self.assertEqual((caught.exception.returncode, caught.exception.stdout), (3, "why\n"))

    def test_memory(self):
        with self.assertRaises(lictor.MemoryLimitExceeded) as caught:
            lictor.run(EATER, memory_max="32M", analysis_id="py-eats", capture_output=True)
        error = caught.exception
        self.assertIsInstance(error, lictor.OutOfMemory)
        self.assertEqual((error.reason, error.record["by"], error.completed.returncode), ("oom", "kernel", -signal.SIGKILL))
        self.assertIn("py-eats (", str(error))
        self.assertIn("was killed: oom, peak ", str(error))

    def test_time(self):
        with self.assertRaises(lictor.TimeLimitExceeded) as caught:
            lictor.run(["sleep", "600"], runtime_max=1, grace=1)
        self.assertGreaterEqual(caught.exception.completed.wall_seconds, 1)

    def test_stopped(self):
        caught = []

        def sleep():
            try:
                lictor.run(["sleep", "600"], analysis_id="py-stop")
            except lictor.Killed as e:
                caught.append(e)
        thread = threading.Thread(target=sleep)
        thread.start()
        deadline = time.monotonic() + PATIENCE
        while not lictor.runs(analysis_id="py-stop") and time.monotonic() < deadline:
            time.sleep(0.2)
        lictor.stop("py-stop", grace="3s")
        thread.join(PATIENCE)
        self.assertEqual([type(e) for e in caught], [lictor.Stopped])

    def test_refused(self):
        with self.assertRaises(lictor.Refused) as caught:
            lictor.run(["true"], memory_max="lots", capture_output=True)
        self.assertIn("lots", str(caught.exception))
        with self.assertRaises(lictor.Refused) as caught:
            lictor.run(["/no/such/command"], capture_output=True)
        self.assertEqual(caught.exception.returncode, 127)
        with self.assertRaises(TypeError):
            lictor.run("true")
        with self.assertRaises(ValueError):
            lictor.run(["true"], manager="root")
        with self.assertRaises(lictor.Error):
            lictor.show("nobody-has-this-name")

    def test_own_manager(self):
        # A run in the user's own manager is found, though a daemon that knows nothing of it is asked first.
        done = lictor.run(["true"], manager="user", analysis_id="py-own")
        self.assertEqual(done.record["manager"], "user")
        self.assertEqual(lictor.show(done.run)["analysis_id"], "py-own")

    def test_streams(self):
        with tempfile.TemporaryFile() as f:
            done = lictor.run(["sh", "-c", "echo out; echo err >&2"], stdout=f, stderr=subprocess.STDOUT)
            self.assertEqual((done.stdout, done.stderr), (None, None))
            f.seek(0)
            self.assertEqual(f.read(), b"out\nerr\n")
        done = lictor.run(["sh", "-c", "cat; echo end"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.assertEqual((done.stdout, done.stderr), (b"end\n", None))
        much = os.urandom(1 << 20)  # more than pipes hold, both ways
        self.assertEqual(lictor.run(["cat"], input=much, stdout=subprocess.PIPE).stdout, much)
        self.assertEqual(lictor.run(["true"], input=much).returncode, 0)  # nobody reads it
        with self.assertRaises(TypeError):
            lictor.run(["cat"], input="text")
        with self.assertRaises(ValueError):
            lictor.run(["cat"], input=b"", stdin=subprocess.DEVNULL)
        self.assertEqual(lictor.run([b"printf", b"\xff"], capture_output=True).stdout, b"\xff")  # what JSON cannot say

    def test_inherited(self):
        # As a child would: umask, nice, oom_score_adj, limits, directory, groups.
        program = ("import os, resource; print(oct(os.umask(0)), os.nice(0), resource.getrlimit(resource.RLIMIT_NOFILE), os.getcwd(),"
                   " sorted(os.getgroups()), open('/proc/self/oom_score_adj').read().strip(), sorted(os.environ))")
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        mask = os.umask(0o037)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (777, limits[1]))
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as f:
                f.write("321")
            command = [sys.executable, "-c", program]
            with tempfile.TemporaryDirectory() as there:
                os.chmod(there, 0o755)
                want = subprocess.run(command, cwd=there, capture_output=True, text=True, check=True).stdout
                got = lictor.run(command, cwd=there, capture_output=True, text=True).stdout
        finally:
            os.umask(mask)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        self.assertIn("0o37 ", want)
        self.assertIn("(777, ", want)
        self.assertIn(" 321 ", want)
        without = [name for name in got.split("[")[-1].strip("]\n").replace("'", "").split(", ") if not name.startswith("LICTOR_")]
        wanted = [name for name in want.split("[")[-1].strip("]\n").replace("'", "").split(", ") if not name.startswith("LICTOR_")]
        self.assertEqual((got[:got.rindex("[")], without), (want[:want.rindex("[")], wanted))

    def python(self, analysis_id):
        """Another Python, and the run that it has started."""
        known = {r["run"] for r in lictor.runs()}
        owner = subprocess.Popen([sys.executable, "-c", f"import lictor; lictor.run(['sleep', '600'], analysis_id='{analysis_id}')"],
                                 env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.abspath(lictor.__file__))}, stderr=subprocess.PIPE)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for run in lictor.runs(analysis_id=analysis_id):
                if run["run"] not in known and run["state"] == "running":
                    return owner, run["run"]
            time.sleep(0.2)
        self.fail(f"no run of {analysis_id}")

    def reason(self, run):
        """Why a run that is about to be killed was."""
        deadline = time.monotonic() + PATIENCE
        while lictor.show(run)["state"] != "killed" and time.monotonic() < deadline:
            time.sleep(0.2)
        return lictor.show(run).get("reason")

    def test_owner(self):
        # Who started it dies; its run does not outlive it.
        owner, run = self.python("py-owner")
        owner.kill()
        owner.communicate()
        self.assertEqual(self.reason(run), "abandoned")

    def test_interrupted(self):
        # Ctrl-C ends the run.
        owner, run = self.python("py-int")
        owner.send_signal(signal.SIGINT)
        self.assertIn(b"KeyboardInterrupt", owner.communicate(timeout=PATIENCE)[1])
        self.assertIn(self.reason(run), ("stop", "signal"))  # the command passes SIGTERM on

    @unittest.skipUnless(os.environ.get("LICTOR_TEST_DAEMON"), "there is no daemon in this test")
    def test_no_command(self):
        # With a daemon there is no need for the command; what it does in its place is asked of it by name.
        command = os.environ.pop("LICTOR_COMMAND")
        try:
            done = lictor.run(["sh", "-c", "echo $0", "x"], capture_output=True, text=True, analysis_id="py-alone")
            self.assertEqual(done.stdout, "x\n")
            self.assertEqual(lictor.show("py-alone")["run"], done.run)
            self.assertIn(done.run, [r["run"] for r in lictor.runs(ended=True)])
            with self.assertRaises(lictor.TimeLimitExceeded):
                lictor.run(["sleep", "600"], runtime_max=1, grace=1)
            with self.assertRaises(FileNotFoundError):
                lictor.run(["true"], lictor="/nowhere/lictor")
        finally:
            os.environ["LICTOR_COMMAND"] = command

    def test_executor(self):
        with lictor.Executor(max_workers=2, memory_max="64M", capture_output=True, text=True) as pool:
            good = pool.submit(["sh", "-c", "echo $0", "a"])
            eats = pool.submit(EATER, memory_max="32M")
            outputs = [done.stdout for done in pool.map([["echo", "x"], ["echo", "y"]])]
            self.assertEqual(good.result(PATIENCE).stdout, "a\n")
            self.assertIsInstance(eats.exception(PATIENCE), lictor.MemoryLimitExceeded)
        self.assertEqual(outputs, ["x\n", "y\n"])


class Watching(unittest.TestCase):
    def test_events(self):
        told, listening = [], threading.Event()

        def listen():
            stream = lictor.events(kinds=["ended"])
            listening.set()
            for event in stream:
                told.append(event)
                return
        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        listening.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while not told and time.monotonic() < deadline:  # the first may be over before the stream is there
            lictor.run(["true"], analysis_id="py-events")
            time.sleep(1)
        self.assertEqual((told[0]["kind"], told[0]["analysis_id"], told[0]["state"]), ("ended", "py-events", "done"))

    @unittest.skipUnless(os.environ.get("LICTOR_TEST_DAEMON"), "there is no daemon in this test")
    def test_status(self):
        watchdog = lictor.status()["watchdog"]
        self.assertEqual(sorted(watchdog), ["grace_count", "kills_last_24h", "monitored_count", "recent_events"])
        json.dumps(watchdog)


if __name__ == "__main__":
    unittest.main(verbosity=2)
