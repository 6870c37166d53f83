# SPDX-License-Identifier: Apache-2.0
"""Goal: what a program keeps under a name is there at its next start, and what goes wrong is said.
Method: persist_client runs under `berth run` with a named file tier in a directory of its own.
usage: test_persist.py BERTH CLIENT [DIRECTORY | /dev/daxN.M]"""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

berth, client = sys.argv[1:3]
place = sys.argv[3] if len(sys.argv) > 3 else None
MIB = 1 << 20


def rounds(count):
    """Fewer where the processor is emulated."""
    return count // 4 if os.environ.get("CHECK_EMULATED") else count


class Persist(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="berth-persist-")
        root = pathlib.Path(self.dir.name)
        self.policy = root / "policy"
        self.dax = place is not None and place.startswith("/dev/dax")
        if self.dax:
            self.path = place
            self.wipe()
        else:
            self.where = root / "tier"
            if place:
                self.where = pathlib.Path(tempfile.mkdtemp(dir=place))
            else:
                self.where.mkdir()
            self.path = str(self.where / "kept")
        self.write_policy()

    def tearDown(self):
        if not self.dax:
            for file in self.where.iterdir():
                file.unlink()
            self.where.rmdir()
        self.dir.cleanup()

    def wipe(self):
        listed = subprocess.run([berth, "pmem", "ls", "--json", self.path], capture_output=True)
        if listed.returncode == 0:
            import json
            for block in json.loads(listed.stdout)["blocks"]:
                subprocess.run([berth, "pmem", "rm", self.path, block["name"]], check=True)

    def write_policy(self, extra=""):
        kind = f"kind = dax path = {self.path}" if self.dax else \
            f'kind = file path = "{self.where}"'
        self.policy.write_text(f"tier keep {{ {kind} name = kept {extra} }}\n"
                               .replace(" path", "\n path").replace(" name", "\n name")
                               .replace("{ ", "{\n").replace(" }", "\n}"))

    def run_client(self, *args, status=0, stderr=""):
        done = subprocess.run([berth, "run", "--policy", self.policy, "--", client,
                               *map(str, args)], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, status, (args, done.stderr))
        self.assertIn(stderr, done.stderr)
        if status == 0:
            self.assertEqual(done.stderr, "", args)
        return done

    def test_a_block_is_there_at_the_next_start(self):
        self.run_client("get", "model", MIB, 1, status=2)
        self.run_client("put", "model", MIB + 3, 1)
        self.run_client("get", "model", MIB + 3, 1)
        self.run_client("put", "model", 2 * MIB, 2)
        self.run_client("get", "keep:model", 2 * MIB, 2)
        self.run_client("rm", "model")
        self.run_client("get", "model", 2 * MIB, 2, status=2)

    def test_what_was_not_committed_is_not(self):
        self.run_client("half", "model", MIB)
        self.run_client("half", "model", MIB)
        self.run_client("get", "model", MIB, 1, status=2)

    def test_the_contract(self):
        self.run_client("contract", "keep")

    def test_threads_and_forks_at_once(self):
        self.run_client("threads", 8, rounds(40))
        if not self.dax:
            listed = subprocess.run([berth, "pmem", "check", self.path], capture_output=True,
                                    text=True, check=True)
            self.assertEqual(listed.stdout.count(": good\n"), 9)

    def test_without_a_named_tier_or_without_berth_it_says_so(self):
        self.policy.write_text("options {\n host = on\n}\n")
        done = self.run_client("put", "model", MIB, 1, status=1)
        self.assertIn("No such device", done.stderr)
        subprocess.run([client, "absent"], check=True)

    @unittest.skipIf(place is not None, "a device's name leads to it")
    def test_a_place_that_leads_nowhere_is_no_tier(self):
        self.where.rmdir()
        self.run_client("put", "model", MIB, 1, status=1, stderr="No such device")
        self.where.mkdir()
        pathlib.Path(self.path).mkdir()
        self.run_client("put", "model", MIB, 1, status=1, stderr="No such device")
        self.run_client("rm", "model", status=1, stderr="No such device")
        pathlib.Path(self.path).rmdir()
        self.run_client("put", "model", MIB, 1)

    @unittest.skipIf(place is not None, "one place will do, and a device has few pieces")
    def test_processes_that_want_the_same_block_get_it(self):
        racers = [subprocess.Popen([berth, "run", "--policy", self.policy, "--", client, "share",
                                    str(rounds(300))], stderr=subprocess.PIPE, text=True)
                  for _ in range(3)]
        for racer in racers:
            said = racer.communicate(timeout=120)[1]
            self.assertEqual((racer.returncode, said), (0, ""))

    def test_another_process_may_read_and_not_remove(self):
        self.run_client("put", "model", MIB, 1)
        holder = subprocess.Popen([berth, "run", "--policy", self.policy, "--", client, "hold",
                                   "model"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual(holder.stdout.readline(), b"holding\n")
        self.run_client("get", "model", MIB, 1)
        self.run_client("put", "other", MIB, 2)
        self.run_client("rm", "model", status=1, stderr="Device or resource busy")
        self.run_client("put", "model", MIB, 3, status=1, stderr="Device or resource busy")
        holder.stdin.close()
        self.assertEqual(holder.wait(), 0)
        holder.stdout.close()
        self.run_client("put", "model", MIB, 3)
        self.run_client("get", "model", MIB, 3)
        self.run_client("get", "other", MIB, 2)

    def test_a_damaged_store_is_told_and_left_alone(self):
        if self.dax:
            self.skipTest("the device's bytes are not to be written from here")
        self.run_client("put", "model", MIB, 1)
        whole = pathlib.Path(self.path).read_bytes()
        for at, what in ((20, "superblock is damaged"), (4097, "commit record is damaged"),
                         (0, "it is no store of persistent blocks")):
            damaged = bytearray(whole)
            damaged[at] ^= 0x10
            pathlib.Path(self.path).write_bytes(damaged)
            self.run_client("get", "model", MIB, 1, status=1,
                            stderr=f"tier keep: {self.path}: {'its ' if 'damaged' in what else ''}{what}")
            self.run_client("put", "model", MIB, 2, status=1, stderr=what)
            self.assertEqual(pathlib.Path(self.path).read_bytes(), bytes(damaged))
        pathlib.Path(self.path).write_bytes(whole[:3 * MIB - 4096])
        self.run_client("get", "model", MIB, 1, status=1, stderr="cut off")
        pathlib.Path(self.path).write_bytes(whole)
        self.run_client("get", "model", MIB, 1)

    def test_damaged_contents_are_seen_with_verify_full(self):
        if self.dax:
            self.skipTest("the device's bytes are not to be written from here")
        self.run_client("put", "model", MIB, 1)
        with open(self.path, "r+b") as file:
            file.seek(2 * MIB + 12345)
            byte = file.read(1)
            file.seek(2 * MIB + 12345)
            file.write(bytes([byte[0] ^ 1]))
        self.run_client("get", "model", MIB, 1, status=1, stderr="other contents")
        self.write_policy("verify = full")
        self.run_client("get", "model", MIB, 1, status=1,
                        stderr="the block 'model': its contents are not what was committed")
        self.run_client("put", "model", MIB, 4)
        self.run_client("get", "model", MIB, 4)

    def test_a_capacity_is_kept(self):
        self.write_policy("\n capacity = 4M")
        self.run_client("put", "a", 3 * MIB, 1)
        self.run_client("put", "b", 2 * MIB, 2, status=1, stderr="No space left")
        self.run_client("get", "a", 3 * MIB, 1)

    def test_a_reader_without_rights_to_write_reads(self):
        if self.dax or os.geteuid() == 0 and not os.path.exists("/usr/bin/setpriv"):
            self.skipTest("needs a file, and a user other than root")
        self.run_client("put", "model", MIB, 1)
        os.chmod(self.path, 0o444)
        os.chmod(self.dir.name, 0o755)
        os.chmod(self.where, 0o777)
        user = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        env = {k: v for k, v in os.environ.items() if k != "XDG_RUNTIME_DIR"}
        for args, status in ((("get", "model", str(MIB), "1"), 0), (("rm", "model"), 1)):
            done = subprocess.run(user + [berth, "run", "--policy", self.policy, "--", client,
                                          *args], capture_output=True, text=True, env=env)
            if "Permission denied" in done.stderr and "berth" not in done.stderr:
                self.skipTest("another user cannot run the programs of this build")
            self.assertEqual(done.returncode, status, done.stderr)


unittest.main(argv=sys.argv[:1])
