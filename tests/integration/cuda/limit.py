#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Device memory that is bounded and given back from outside: berth limit, berth trim, the floor.

Usage: limit.py DRIVER_DIR BERTH CLIENT THREADS_CLIENT
"""
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest

DRIVER_DIR, BERTH, CLIENT, THREADS_CLIENT = sys.argv[1:5]
PATIENCE_S = 60
MIB = 1 << 20
SEGMENTS = ("own", "shared", "expandable")


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(dir="/tmp")
        self.addCleanup(subprocess.run, ["rm", "-rf", self.directory])
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
        self.env.update(LD_LIBRARY_PATH=DRIVER_DIR, XDG_RUNTIME_DIR=self.directory,
                        BERTH_FAKE_MEMORY="128M")

    def start(self, *client, **options):
        """A client program with these options; its first answer is "ready"."""
        command = [BERTH, "run"]
        for name, value in options.items():
            command += ["-o", f"{name.replace('_', '-')}={value}"]
        self.process = subprocess.Popen(command + ["--", *(client or (CLIENT, "0"))],
                                        env=self.env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(self.stop)
        self.assertEqual(self.process.stdout.readline(), "ready\n")
        self.pid = str(self.process.pid)
        end = time.monotonic() + PATIENCE_S
        while self.run_berth("stat", self.pid).returncode != 0 and time.monotonic() < end:
            time.sleep(0.01)

    def stop(self):
        if self.process.poll() is None:
            self.process.communicate("quit\n", timeout=PATIENCE_S)
        self.process.stdin.close()
        self.process.stdout.close()

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def alloc(self, size):
        answer = self.tell(f"alloc {size}").split()
        self.assertEqual(answer[1:], ["device"])
        return answer[0]

    def info(self):
        return [int(n) for n in self.tell("info").split()]

    def run_berth(self, *arguments):
        return subprocess.run([BERTH, *arguments], env=self.env, capture_output=True, text=True,
                              timeout=PATIENCE_S)

    def berth(self, *arguments):
        done = self.run_berth(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def refused(self, status, pattern, *arguments):
        done = self.run_berth(*arguments)
        self.assertEqual((done.returncode, done.stdout), (status, ""))
        self.assertRegex(done.stderr, pattern)

    def stat(self):
        return json.loads(self.berth("stat", "--json", self.pid))

    def device(self):
        tier = self.stat()["tiers"][0]
        self.assertEqual(tier["reserved"], tier["held"] + tier["cached"] + tier["overhead"])
        return tier

    def limits(self):
        return {limit["tag"]: limit for limit in self.stat()["limits"]}


class Trim(Case):
    def test_what_is_cached_is_given_back(self):
        for segments in SEGMENTS:
            with self.subTest(segments=segments):
                self.start(segments=segments)
                kept = self.alloc(3 * MIB)
                for size in (10, 20, 30):
                    self.tell(f"free {self.alloc(size * MIB)}")
                free, total = self.info()
                cached = self.device()["cached"]
                self.assertGreaterEqual(cached, 30 * MIB)
                told = self.berth("trim", self.pid, "--keep", "12M")
                self.assertRegex(told, rf"^process {self.pid}: .* given back, .* still cached\n$")
                self.assertLessEqual(self.device()["cached"], 12 * MIB)
                self.berth("trim", self.pid, "--device", "0")
                self.assertLess(self.device()["cached"], 2 * MIB)
                self.assertLess(self.device()["reserved"], 6 * MIB)
                # To the program it was free before, and is now.
                self.assertEqual(self.info(), [free, total])
                self.assertIn(" 0 B given back", self.berth("trim", self.pid, "--keep", "4M"))
                self.tell(f"fill {kept} 7")
                self.assertEqual(self.tell(f"free {kept}"), "ok")
                self.stop()

    def test_what_is_wrong_is_said(self):
        self.start()
        self.refused(2, "expected berth trim PID", "trim")
        self.refused(2, "expected berth trim PID", "trim", self.pid, "more")
        self.refused(2, r"--device 'x' is no device; expected 0 to 1023", "trim", self.pid,
                     "--device", "x")
        self.refused(2, r"--keep '12Q' is no size; expected", "trim", self.pid, "--keep", "12Q")
        self.refused(1, r"there is no device 7; the process sees 1", "trim", self.pid, "--device",
                     "7")


class Limit(Case):
    def test_a_thread_without_a_context_hears_so(self):
        for name in ("device_limit", "device_limit_untagged"):
            self.start(**{name: "8M"})
            self.assertEqual(self.tell(f"alloc {16 * MIB}"), "error 2")
            self.assertEqual(self.tell(f"lost {16 * MIB}"), "201 201 201")
            self.assertEqual(self.tell(f"lost {1 * MIB}"), "201 201 201")

    def test_the_process_is_bounded_while_it_runs(self):
        for segments in SEGMENTS:
            with self.subTest(segments=segments):
                self.start(segments=segments)
                first = self.alloc(8 * MIB)
                self.tell(f"free {self.alloc(24 * MIB)}")
                told = self.berth("limit", self.pid, "16M")
                # What was cached and over the limit went at once.
                self.assertIn("given back\n", told)
                self.assertRegex(told, r"\nprocess +16\.0 MiB +[0-9.]+ MiB +0 +0 B +command\n")
                self.assertLessEqual(self.device()["reserved"], 16 * MIB)
                free, total = self.info()
                self.assertEqual(total, 16 * MIB)
                self.assertLessEqual(free, 8 * MIB)
                self.assertEqual(self.tell(f"alloc {24 * MIB}"), "error 2")
                second = self.alloc(6 * MIB)
                self.assertEqual(self.tell(f"alloc {6 * MIB}"), "error 2")
                limit = self.limits()[None]
                self.assertEqual((limit["limit"], limit["refused_blocks"], limit["refused_bytes"]),
                                 (16 * MIB, 2, 30 * MIB))
                self.assertRegex(self.berth("stat", self.pid), r"\nprocess +16\.0 MiB .* 2 +30")
                self.assertRegex(self.berth("limit", self.pid, "none"), r"\nprocess +none ")
                third = self.alloc(24 * MIB)
                # Lowered below what is in use: what there is stays, and nothing is added.
                self.berth("limit", self.pid, "8M")
                self.assertEqual(self.tell("alloc 512"), "error 2")
                for block in (first, second, third):
                    self.assertEqual(self.tell(f"free {block}"), "ok")
                self.tell(f"free {self.alloc(5 * MIB)}")
                self.assertLessEqual(self.device()["reserved"], 8 * MIB)
                self.stop()

    def test_what_is_cached_in_stream_order_is_free_within_a_limit(self):
        self.start(device_limit="64M")
        self.assertEqual(self.info(), [64 * MIB, 64 * MIB])
        self.assertEqual(self.tell(f"ordered {40 * MIB}"), "ok")
        self.assertEqual(self.info(), [64 * MIB, 64 * MIB])
        self.alloc(48 * MIB)

    def test_a_tag_is_bounded_by_what_it_holds(self):
        for segments in SEGMENTS:
            with self.subTest(segments=segments):
                self.start(segments=segments, device_limit_untagged="5M")
                self.alloc(3 * MIB - 512)
                self.assertEqual(self.tell(f"alloc {3 * MIB}"), "error 2")
                self.assertEqual(self.info()[1], 128 * MIB)
                self.assertLessEqual(self.info()[0], 2 * MIB + 512)
                self.assertRegex(self.berth("limit", self.pid, "--tag", "untagged", "9M"),
                                 r"\nuntagged +9\.00 MiB .* 1 +3\.00 MiB +command\n")
                self.alloc(3 * MIB)
                limits = self.limits()
                self.assertLessEqual(limits["untagged"]["used"], limits["untagged"]["limit"])
                self.assertEqual(limits["untagged"]["refused_blocks"], 1)
                self.assertEqual(limits[None]["refused_blocks"], 0)
                self.assertIsNone(limits["weight"]["limit"])
                self.stop()

    def test_what_is_wrong_is_said_and_changes_nothing(self):
        self.start(device_limit="64M")
        self.refused(2, "expected berth limit PID", "limit")
        self.refused(2, r"'-3' is no limit|invalid option", "limit", self.pid, "--", "-3")
        self.refused(2, r"'0' is no limit; expected BYTES, as in 64M, or none", "limit", self.pid,
                     "0")
        self.refused(2, r"--tag 'wight' is no tag; expected weight", "limit", self.pid, "--tag",
                     "wight", "4M")
        self.refused(2, "--tag needs a limit", "limit", self.pid, "--tag", "kv")
        self.refused(1, r"option device-limit: .* is not a size in range", "limit", self.pid, "2P")
        self.assertEqual(self.limits()[None]["limit"], 64 * MIB)
        self.assertEqual(self.limits()[None]["origin"], "environment")

    def test_bad_requests_are_refused(self):
        self.start(device_limit="64M")
        folder = os.path.join(self.directory, "berth")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(os.path.join(folder, os.listdir(folder)[0]))
            lines = client.makefile("rw")
            lines.readline()
            for request, pattern in (
                    ({"op": "limit", "bytes": "much"}, '"bytes" is no size'),
                    ({"op": "limit", "bytes": -1}, '"bytes" is no size'),
                    ({"op": "limit", "bytes": 1.5}, '"bytes" is no size'),
                    ({"op": "limit", "bytes": 2 ** 60}, "not a size in range"),
                    ({"op": "limit", "tag": 3, "bytes": 1}, '"tag" is no tag'),
                    ({"op": "limit", "tag": "all", "bytes": 1}, '"tag" is no tag'),
                    ({"op": "trim", "device": "0"}, '"device" is no number'),
                    ({"op": "trim", "device": -1}, '"device" is no number'),
                    ({"op": "trim", "device": 9}, "there is no device 9"),
                    ({"op": "trim", "keep": []}, '"keep" is no size')):
                lines.write(json.dumps(request) + "\n")
                lines.flush()
                answer = json.loads(lines.readline())
                self.assertFalse(answer["ok"], request)
                self.assertEqual(answer["error"]["code"], "bad-request")
                self.assertRegex(answer["error"]["message"], re.escape(pattern))
            lines.write('{"op":"limit","tag":"kv","bytes":"3M"}\n')
            lines.flush()
            limits = {limit["tag"]: limit for limit in json.loads(lines.readline())["limits"]}
        self.assertEqual(limits["kv"]["limit"], 3 * MIB)
        self.assertEqual(limits[None]["limit"], 64 * MIB)


class Threads(Case):
    """Limits that change while four threads have blocks of all kinds and tags in hand."""
    STEPS = (("weight", "6M"), ("kv", "2M"), (None, "48M"), ("weight", "20M"), ("activation", "1M"),
             (None, "20M"), ("kv", "none"), ("workspace", "9M"), ("activation", "none"),
             ("weight", "3M"), (None, "none"))

    def check(self):
        """Of threads that are halted: what holds once the blocks from before a limit are gone."""
        stat = self.stat()
        for limit in stat["limits"]:
            if limit["limit"] is not None:
                self.assertLessEqual(limit["used"], limit["limit"], limit)
        device = stat["tiers"][0]
        self.assertEqual(device["reserved"],
                         device["held"] + device["cached"] + device["overhead"])

    def test_no_limit_is_exceeded(self):
        for segments in SEGMENTS:
            with self.subTest(segments=segments):
                self.start(THREADS_CLIENT, segments=segments)
                refused = 0
                for tag, limit in self.STEPS:
                    self.berth("limit", self.pid, *(["--tag", tag] if tag else []), limit)
                    refused += int(self.tell("round"))
                    self.check()
                    self.process.stdin.write("on\n")
                    self.process.stdin.flush()
                self.assertGreater(refused, 0)
                self.assertEqual(self.tell("end"), "idle")
                stat = self.stat()
                for tier in stat["tiers"]:
                    self.assertEqual((tier["requested"], tier["held"]), (0, 0), tier)
                self.berth("trim", self.pid)
                self.assertEqual(self.device()["reserved"], 0)
                self.process.communicate("quit\n", timeout=PATIENCE_S)
                self.assertEqual(self.process.returncode, 0)


class Floor(Case):
    def test_what_is_cached_goes_when_the_device_runs_low(self):
        for segments in SEGMENTS:
            with self.subTest(segments=segments):
                self.start(segments=segments, device_floor="120M", device_floor_interval="20")
                kept = self.alloc(4 * MIB)
                self.tell(f"free {self.alloc(30 * MIB)}")
                end = time.monotonic() + PATIENCE_S
                while self.device()["reserved"] > 8 * MIB and time.monotonic() < end:
                    time.sleep(0.01)
                self.assertLessEqual(self.device()["reserved"], 8 * MIB)
                self.assertEqual(self.tell(f"free {kept}"), "ok")
                self.stop()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[5:])
