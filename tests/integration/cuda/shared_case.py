# SPDX-License-Identifier: Apache-2.0
"""What the tests of shared device memory have in common: client programs, under `berth run`.

A test that imports this takes the arguments DRIVER_DIR BERTH CLIENT [unittest's arguments].
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

DRIVER_DIR, BERTH, CLIENT = sys.argv[1:4]
PATIENCE_S = 60
POLICY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "tools",
                      "policies", "shared-weights.policy")
MIB = 1 << 20
UUID = "GPU-62657274-682d-6661-6b65-2d6770752d3%d"

RULE = "rule r { side = device min-size = 64K place = { hot, device } }\n"


def policy(source, piece=""):
    """A policy that sends all large blocks to a tier that borrows from `source`."""
    source = f'from = "{source}"' if source else ""
    return f"tier hot {{ kind = shared {source} name = w {piece} }}\n" + RULE


def until(what, condition):
    """What the condition says, as soon as that is not false."""
    end = time.monotonic() + PATIENCE_S
    while True:
        said = condition()
        if said:
            return said
        if time.monotonic() > end:
            raise AssertionError(f"never: {what}")
        time.sleep(0.005)


class Program:
    """One client program under `berth run`."""

    def __init__(self, case, text=None, device=0, settings=None, user=None):
        self.case = case
        command = [BERTH, "run"]
        if text:
            command += ["--policy", case.write(text)]
        env = dict(case.env, **(settings or {}))
        self.errors = tempfile.TemporaryFile(dir=case.directory)
        self.process = subprocess.Popen(
            command + ["--", CLIENT, str(device)], env=env, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.errors, user=user)
        case.programs.append(self)
        self.pid = self.process.pid
        case.assertEqual(self.process.stdout.readline(), "ready\n", self.said())

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def alloc(self, size, tier):
        """The number of a new block, which lies in this tier."""
        answer = self.tell(f"alloc {size}").split()
        self.case.assertEqual(answer[1:], [tier], self.said())
        return int(answer[0])

    def alloc_until(self, tier, size=65536):
        """The number of the first block that lies in this tier; those before are freed."""
        def try_once():
            answer = self.tell(f"alloc {size}").split()
            if answer[1:] == [tier]:
                return answer
            self.case.assertEqual(self.tell(f"free {answer[0]}"), "ok", self.said())
            return None
        return int(until(f"a block in {tier}", try_once)[0])

    def said(self):
        self.errors.seek(0)
        return self.errors.read().decode()

    def pool(self, action, *arguments):
        return self.case.berth("pool", action, str(self.pid), *arguments)

    def tier(self, name="hot"):
        listed = json.loads(self.pool("list", "--json"))
        return {tier["tier"]: tier for tier in listed["tiers"]}[name]

    def stat(self):
        return json.loads(self.case.berth("stat", "--json", str(self.pid)))

    def account(self, name="hot"):
        stat = self.stat()
        tier = {tier["name"]: tier for tier in stat["tiers"]}[name]
        self.case.assertEqual(tier["reserved"], tier["held"] + tier["cached"] + tier["overhead"])
        return tier

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        if self.process.poll() is None:
            self.process.communicate("quit\n", timeout=PATIENCE_S)
        status = self.process.returncode
        self.process.stdin.close()
        self.process.stdout.close()
        self.errors.close()
        return status


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="berth-shared-")
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith("BERTH_") and k != "CUDA_VISIBLE_DEVICES"}
        self.env.update(LD_LIBRARY_PATH=DRIVER_DIR, XDG_RUNTIME_DIR=self.directory,
                        BERTH_FAKE_DEVICES="2")
        self.programs = []

    def tearDown(self):
        statuses = {program.end() for program in self.programs}
        shutil.rmtree(self.directory)
        self.assertLessEqual(statuses, {0, -signal.SIGKILL})

    def write(self, text):
        handle, path = tempfile.mkstemp(dir=self.directory)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def try_berth(self, *arguments):
        """Status and words; asks again while the process has not opened its socket yet."""
        end = time.monotonic() + PATIENCE_S
        while True:
            done = subprocess.run([BERTH, *arguments], env=self.env, capture_output=True, text=True,
                                  timeout=PATIENCE_S)
            # There is no socket yet, or its name stands and nobody listens yet.
            early = "expected one that was started" in done.stderr or \
                "does not answer any more" in done.stderr
            if not early or time.monotonic() > end:
                return done
            time.sleep(0.005)

    def berth(self, *arguments):
        done = self.try_berth(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), arguments)
        return done.stdout

    def refused(self, expected, *arguments):
        done = self.try_berth(*arguments)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(expected, done.stderr)

    def refuses(self, expected, program, *arguments):
        self.refused(expected, "pool", arguments[0], str(program.pid), *arguments[1:])

    def keeper(self, size="16M", *arguments, **settings):
        program = Program(self, **settings)
        program.pool("create", "w", size, *arguments)
        return program

    def borrower(self, keeper, piece="", **settings):
        return Program(self, policy(keeper.pid if keeper else None, piece), **settings)
