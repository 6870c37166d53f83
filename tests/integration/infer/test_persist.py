#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""berth-infer --persist: the second start reads no weight file, and its text does not change.

    test_persist.py BERTH BERTH-INFER SHIPPED-MODEL

Whether a file was opened is what inotify tells of it; whether weights were kept, how often the
store's directory has changed. (--stats is asked once: its probe takes time.)
"""

import ctypes
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

BERTH, PROGRAM, MODEL = sys.argv[1:4]
IN_ACCESS, IN_OPEN = 0x1, 0x20
# Fewer where the processor is emulated.
WORDS = "3" if os.environ.get("CHECK_EMULATED") else "8"
libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Whether a file is opened or read from now on."""

    def __init__(self, path):
        self.fd = libc.inotify_init1(os.O_NONBLOCK)
        if libc.inotify_add_watch(self.fd, os.fsencode(path), IN_ACCESS | IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")

    def seen(self):
        try:
            return len(os.read(self.fd, 1 << 16)) > 0
        except BlockingIOError:
            return False
        finally:
            os.close(self.fd)


class Persist(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)
        self.model = self.folder / "model"
        self.model.mkdir()
        for name in os.listdir(MODEL):
            shutil.copy(os.path.join(MODEL, name), self.model / name)
        self.weights = self.model / "model.safetensors"
        self.policy = self.folder / "policy"
        self.write_policy("")
        self.plain = self.generate(berth=False)

    def write_policy(self, extra):
        self.policy.write_text(
            f'tier keep {{\n kind = file\n path = "{self.folder}"\n name = weights\n{extra}}}\n')

    def generate(self, *options, berth=True, persist=True, error=None):
        command = [PROGRAM, "--model", self.model, "--max-tokens", WORDS, "--prompt",
                   "In the beginning"] + ["--persist"] * (berth and persist)
        if berth:
            command = [BERTH, "run", "--policy", self.policy, "--", *command]
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        told = [line for line in done.stderr.splitlines() if line.startswith("berth")]
        self.assertEqual(len(told), 1 if error else 0, done.stderr)
        if error:
            self.assertIn(error, told[0])
        self.stats = dict(line.split(": ", 1) for line in done.stderr.splitlines()
                          if ": " in line and not line.startswith("berth"))
        return done.stdout

    def generation(self):
        done = subprocess.run([BERTH, "pmem", "ls", "--json", self.folder / "weights"],
                              capture_output=True, text=True)
        return json.loads(done.stdout)["generation"] if done.returncode == 0 else 1

    def expect(self, opened, kept, *options, **kwargs):
        watch = Watch(self.weights)
        before = self.generation()
        self.assertEqual(self.generate(*options, **kwargs), self.plain)
        self.assertEqual(self.generation() - before, kept)
        self.assertEqual(watch.seen(), opened)

    def test_the_second_start_opens_no_weight_file(self):
        self.expect(True, True, "--stats")
        held = self.stats["weight bytes"]
        self.assertTrue(self.stats["weights"].endswith("s, read from files, and kept"))
        self.expect(False, False)
        self.expect(False, False, "--stats")
        self.assertTrue(self.stats["weights"].endswith("s, found in persistent memory"))
        self.assertEqual(self.stats["weight bytes"], held)
        listed = subprocess.run([BERTH, "pmem", "check", self.folder / "weights"],
                                capture_output=True, text=True, check=True)
        self.assertRegex(listed.stdout, r"^berth-infer/model-[0-9a-f]{16}: good\n$")
        self.expect(True, False, persist=False)

    def test_weights_that_have_changed_are_read_again(self):
        self.expect(True, True)
        # The same size and time, one value otherwise: the inode's change time tells.
        before = self.weights.stat()
        data = bytearray(self.weights.read_bytes())
        data[-1000:] = bytes(1000)
        self.weights.write_bytes(data)
        os.utime(self.weights, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.plain = self.generate(berth=False)
        self.expect(True, True)
        self.expect(False, False)
        # Another file in its place.
        os.rename(self.weights, self.model / "old")
        shutil.copy2(self.model / "old", self.weights)
        self.expect(True, True)
        self.expect(False, False)

    def test_shards_are_looked_at_one_by_one(self):
        size = struct.unpack("<Q", self.weights.read_bytes()[:8])[0]
        names = [name for name in json.loads(self.weights.read_bytes()[8:8 + size])
                 if name != "__metadata__"]
        os.rename(self.weights, self.model / "part-1.safetensors")
        (self.model / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {name: "part-1.safetensors" for name in names}}))
        self.weights = self.model / "part-1.safetensors"
        self.expect(True, True)
        self.expect(False, False)
        os.utime(self.weights)
        self.expect(True, True)
        self.expect(False, False)
        # A file that comes before the shards.
        shutil.copy(self.weights, self.model / "model.safetensors")
        self.expect(False, True)  # the shard is not read any more

    def test_damaged_contents_are_made_anew(self):
        self.expect(True, True)
        store = self.folder / "weights"
        with open(store, "r+b") as file:
            file.seek((2 << 20) + 5)
            file.write(b"\xff\xff\xff")
        self.expect(True, True)
        self.expect(False, False)
        with open(store, "r+b") as file:
            file.seek(-5000, os.SEEK_END)
            file.write(bytes(1000))
        self.write_policy(" verify = full\n")
        self.expect(True, True,
                    error="its contents are not what was committed")
        self.expect(False, False)

    def test_where_nothing_can_be_kept_it_says_why_and_answers(self):
        command = [PROGRAM, "--model", self.model, "--max-tokens", "8", "--persist", "--prompt",
                   "In the beginning"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout, self.plain)
        self.assertIn("--persist has no effect: Berth does not serve this process", done.stderr)
        self.write_policy(" capacity = 64K\n")
        self.expect(True, False, error="cannot be kept: No space left on device")
        self.policy.write_text("options {\n host = on\n}\n")
        self.expect(True, False, error="no tier of the policy has a name")

    def test_two_at_once_share_one_image(self):
        self.expect(True, True)
        first = subprocess.Popen(
            [BERTH, "run", "--policy", self.policy, "--", PROGRAM, "--model", self.model,
             "--persist", "--interactive", "--max-tokens", "8", "--end-mark", "@@"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        first.stdin.write("In the beginning\n")
        first.stdin.flush()
        self.assertIn(first.stdout.readline(), self.plain)
        self.expect(False, False)
        first.stdin.close()
        first.stdout.read()
        first.stdout.close()
        self.assertEqual(first.wait(), 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
