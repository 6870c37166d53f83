# SPDX-License-Identifier: Apache-2.0
"""Goal: berth pmem tells and removes what a program has kept, and refuses what is damaged or busy.
Method: persist_client fills stores under `berth run`.
usage: test_pmem.py BERTH CLIENT"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

berth, client = sys.argv[1:3]
MIB = 1 << 20


class Pmem(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="berth-pmem-")
        self.where = pathlib.Path(self.dir.name)
        self.path = self.where / "kept"
        self.policy = self.where / "policy"
        self.policy.write_text(
            f'tier keep {{\n kind = file\n path = "{self.where}"\n name = kept\n}}\n')
        self.put("a", MIB, 1)
        self.put("b c", 5, 2)

    def tearDown(self):
        self.dir.cleanup()

    def client(self, *args, **kwargs):
        return subprocess.Popen([berth, "run", "--policy", self.policy, "--", client,
                                 *map(str, args)], **kwargs)

    def put(self, *args):
        self.assertEqual(self.client("put", *args).wait(), 0)

    def pmem(self, *args, status=0, stderr=""):
        done = subprocess.run([berth, "pmem", *map(str, args)], capture_output=True, text=True)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertIn(stderr, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 0 if status == 0 else max(
            1, done.stderr.count("berth: ")), done.stderr)
        return done.stdout

    def test_ls_tells_what_is_there(self):
        told = self.pmem("ls", self.path)
        self.assertRegex(told, r"^" + str(self.path) +
                         r": store 'kept' on a file, made .*; 2 blocks, 1\.00 MiB\n")
        self.assertRegex(told, r"\na +1\.00 MiB +1 +20")
        self.assertRegex(told, r"\nb c +5 B +1 +20")
        got = json.loads(self.pmem("ls", "--json", self.path))
        self.assertEqual([(b["name"], b["size"]) for b in got["blocks"]], [("a", MIB), ("b c", 5)])
        self.assertEqual((got["kind"], got["version"], got["name"]), ("file", 1, "kept"))
        self.assertEqual(got["used"], MIB + 4096)
        self.assertEqual(sum(size for _, size in got["blocks"][0]["extents"]), MIB)

    def test_check_finds_the_block_that_was_damaged(self):
        self.assertEqual(self.pmem("check", self.path), "a: good\nb c: good\n")
        got = json.loads(self.pmem("ls", self.path, "--json"))
        offset = got["blocks"][0]["extents"][0][0]
        for at in (0, 777777, MIB - 1):
            self.flip(offset + at)
            told = self.pmem("check", self.path, status=1,
                             stderr=f"pmem: {self.path}: a: the contents are not what was committed")
            self.assertEqual(told, "b c: good\n")
            self.pmem("check", self.path, "b c")
            got = json.loads(self.pmem("check", "--json", self.path, status=1))
            self.assertEqual([b["good"] for b in got["blocks"]], [False, True])
            self.assertFalse(got["good"])
            self.flip(offset + at)
        self.pmem("check", self.path, "x", status=1, stderr="x: there is no block of this name")

    def flip(self, at):
        with open(self.path, "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 4]))

    def test_rm_removes_and_frees(self):
        size = self.path.stat().st_size
        self.pmem("rm", self.path, "x", "a", status=1, stderr="x: there is no block of this name")
        self.assertNotIn("\na ", self.pmem("ls", self.path))
        self.pmem("rm", self.path, "b c")
        self.assertLess(self.path.stat().st_size, size)
        self.assertEqual(json.loads(self.pmem("ls", "--json", self.path))["blocks"], [])
        self.pmem("check", self.path)

    def test_what_another_process_uses_is_told_and_not_removed(self):
        holder = self.client("hold", "a", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual(holder.stdout.readline(), b"holding\n")
        self.pmem("ls", self.path)
        self.pmem("check", self.path)
        self.pmem("rm", self.path, "a", status=1,
                  stderr=f"pmem: {self.path}: a: another process uses the store")
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()
        self.pmem("rm", self.path, "a")

    def test_damage_and_strangers_are_refused_by_every_part(self):
        self.flip(4096)
        for part in (["ls"], ["check"], ["rm"]):
            more = ["a"] if part == ["rm"] else []
            self.pmem(*part, self.path, *more, status=1,
                      stderr=f"pmem: {self.path}: its commit record is damaged")
            self.pmem(*part, "/nonexistent", *more, status=1,
                      stderr="/nonexistent: it cannot be opened: No such file")
            self.pmem(*part, self.policy, *more, status=1, stderr="which no store has")
            self.pmem(*part, self.where, *more, status=1)
            self.pmem(*part, "/dev/zero", *more, status=1, stderr="nor a dax device")

    def test_init_makes_a_store_and_overwrites_no_file(self):
        new = self.where / "new"
        self.pmem("init", new, "kept2")
        self.assertEqual(json.loads(self.pmem("ls", "--json", new))["name"], "kept2")
        self.pmem("init", new, "other", status=1, stderr="it is the store 'kept2'")
        self.pmem("init", new, "kept2", "--force", status=1, stderr="is not overwritten")
        self.pmem("init", self.path, "x/y", status=2)

    def test_a_wrong_command_line_is_refused(self):
        for args, why in ((["x"], "expected berth pmem ls"), ([], "expected berth pmem ls"),
                          (["ls"], "expected PATH"), (["ls", self.path, "a"], "'a' is not expected"),
                          (["rm", self.path], "PATH NAME"), (["init", self.path], "PATH NAME"),
                          (["rm", "--json", self.path, "a"], "--json is not expected"),
                          (["ls", "--force", self.path], "--force is not expected"),
                          (["ls", "--nonsense", self.path], "unrecognized option")):
            self.pmem(*args, status=2, stderr=why)


unittest.main(argv=sys.argv[:1])
