#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`berth policy`, as a user types it: exit codes, where output goes, and what is left behind.

usage: command.py BERTH POLICIES-DIRECTORY
"""
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
import unittest

BERTH, POLICIES = sys.argv[1:3]
GOOD = "tier slow { kind = file path = %s }\nrule w { tag = weight place = { slow, dram } }\n"


class Command(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.good = self.write("good.policy", GOOD % self.folder.name)
        self.bad = self.write("bad.policy", "rule w {\n place = nowhere\n}\nrule x { }\n")

    def tearDown(self):
        self.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, name, text):
        with open(self.path(name), "w") as to:
            to.write(text)
        return self.path(name)

    def berth(self, *arguments, **options):
        return subprocess.run([BERTH, "policy", *arguments], capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=60, **options)

    def test_check_tells_every_mistake_and_the_exit_code_says_so(self):
        done = self.berth("check", self.bad)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout, b"")
        lines = done.stderr.decode().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertIn(self.bad + ":2: place 'nowhere' is no tier; expected", lines[0])
        self.assertIn(self.bad + ":4: section rule x has no place; expected", lines[1])

    def test_run_refuses_with_the_same_messages(self):
        bad = self.write("strange.policy", "tier idle { kind = dram }\nrule x { place = nowhere }\n")
        checked = self.berth("check", bad)
        refused = subprocess.run([BERTH, "run", "--policy", bad, "--", "echo", "started"],
                                 capture_output=True, timeout=60)
        self.assertEqual((refused.returncode, refused.stdout), (125, b""))
        self.assertEqual(len(checked.stderr.splitlines()), 2)
        self.assertEqual(refused.stderr, checked.stderr)

    def test_check_of_a_good_policy_says_one_line(self):
        done = self.berth("check", self.good)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(done.stdout.decode(),
                         self.good + ": ok: 1 tier, 0 sites, 1 rule, 0 options\n")

    def test_what_cannot_be_read_is_told(self):
        for path, reason in ((self.path("none"), "No such file"), (self.folder.name, "directory")):
            done = self.berth("check", path)
            self.assertEqual(done.returncode, 1)
            self.assertIn("it cannot be read: ", done.stderr.decode())
            self.assertIn(reason, done.stderr.decode())

    def test_wrong_usage_is_2(self):
        for arguments in ((), ("frobnicate",), ("check",), ("check", "a", "b"), ("check", "-x", "a"),
                          ("check", "-o", "b", "a"), ("compile", "-o"), ("compile", "--json", "a"),
                          ("show", "--json", "--text", "a")):
            done = self.berth(*arguments)
            self.assertEqual((arguments, done.returncode), (arguments, 2))
            self.assertIn(b"expected", done.stderr)

    def test_compile_writes_whole_or_not_at_all(self):
        out = self.path("out.table")
        self.assertEqual(self.berth("compile", self.good, "-o", out).returncode, 0)
        with open(out, "rb") as of:
            table = of.read()
        self.assertEqual(self.berth("compile", self.bad, "-o", out).returncode, 1)
        with open(out, "rb") as of:
            self.assertEqual(of.read(), table)
        self.assertEqual(self.berth("compile", self.good).stdout, table)
        self.assertEqual(self.berth("compile", out).stdout, table)
        self.assertEqual(sorted(os.listdir(self.folder.name)),
                         ["bad.policy", "good.policy", "out.table"])

    def test_compile_says_what_it_cannot_write(self):
        for out in (self.path("none/out"), self.folder.name, "/dev/full"):
            done = self.berth("compile", self.good, "-o", out)
            self.assertEqual((out, done.returncode), (out, 1))
            self.assertIn("it cannot be written", done.stderr.decode())

    def test_a_terminal_gets_no_table(self):
        leader, follower = pty.openpty()
        done = subprocess.run([BERTH, "policy", "compile", self.good], stdout=follower,
                              stderr=subprocess.PIPE, timeout=60)
        os.close(follower)
        os.close(leader)
        self.assertEqual(done.returncode, 2)

    def test_a_damaged_table_is_refused(self):
        out = self.path("out.table")
        self.berth("compile", self.good, "-o", out)
        with open(out, "r+b") as to:
            to.seek(100)
            to.write(b"\xff")
        done = self.berth("show", out)
        self.assertEqual(done.returncode, 1)
        self.assertIn("it was damaged", done.stderr.decode())

    def test_show_says_the_same_of_a_policy_and_its_table(self):
        out = self.path("out.table")
        self.berth("compile", self.good, "-o", out)
        for shape in ((), ("--text",), ("--json",)):
            of_text = self.berth("show", *shape, self.good)
            of_table = self.berth("show", *shape, out)
            self.assertEqual(of_text.returncode, 0)
            self.assertEqual(of_text.stdout, of_table.stdout)
        shown = json.loads(of_text.stdout)
        self.assertEqual(shown["rules"][0]["places"], ["slow", "dram"])
        self.assertEqual(shown["tiers"][0]["path"], self.folder.name)

    def test_show_into_a_closed_pipe_fails(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([BERTH, "policy", "show", self.good], stdout=full,
                                  stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(done.returncode, 1)

    def test_a_policy_may_come_through_a_pipe(self):
        done = subprocess.run([BERTH, "policy", "check", "/dev/stdin"], input=b"rule r { place = x }",
                              capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"/dev/stdin:1: place 'x' is no tier", done.stderr)

    def test_the_shipped_policies_are_right(self):
        names = [name for name in os.listdir(POLICIES) if name.endswith(".policy")]
        self.assertGreaterEqual(len(names), 3)
        for name in names:
            path = os.path.join(POLICIES, name)
            with open(path) as of:
                lines = [line for line in of if not line.startswith("#")]
            variables = re.findall(r"\$\{(\w+)\}", "".join(lines))
            done = self.berth("check", path,
                              env=dict(os.environ, **dict.fromkeys(variables, self.folder.name)))
            self.assertEqual((name, done.returncode), (name, 0), done.stderr)
            self.assertNotIn(b"never matches", done.stderr)
            done = self.berth("check", path, env={key: value for key, value in os.environ.items()
                                                  if key not in variables})
            self.assertEqual((name, done.returncode), (name, 1 if variables else 0))
            for variable in variables:
                self.assertIn(variable.encode() + b" is not set", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
