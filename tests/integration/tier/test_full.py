# SPDX-License-Identifier: Apache-2.0
"""Goal: a tmpfs that others fill up in the middle costs a program no byte and no signal: blocks go
on to the next place and are counted, and come back when there is room again.

Method: a program whose threads write and verify every byte, on a small tmpfs of the test's own
(root, or a user namespace), which this test fills and empties, and on disks in files. What happens
in the program is waited for by asking `berth stat`. BERTH_TEST_DEVICE in the environment may name a
block device of persistent memory: a file system on it, mounted with dax=always, is in the place of
tmpfs then. Arguments: berth, the program, one that tells how much stack its allocations took, a
library that has files refused space, and a program that forks.
"""
import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BERTH = ""
CHURN = ""
DEADLINE_S = 60
STACK = ""
REFUSING = ""
SHARING = ""
SIZE = 40 << 20
DISK_SIZE = 64 << 20 # less than the program's blocks want
XFS_SIZE = 300 << 20 # the least that it can be made of
BTRFS_SIZE = 110 << 20
# Where the processor is emulated, a round takes seconds.
ROUNDS = 2 if os.environ.get("CHECK_EMULATED") else 4
# A thread of 16 KiB has 8 KiB of them for itself.
STACK_MAX = 7 << 10

POLICY = """
tier small {
  kind = file
  path = "%s"
  decay = %s
  huge-pages = %s
}
rule large {
  min-size = 64K
  place = { small, dram }
}
"""


class Full(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="berth-full-")
        self.addCleanup(shutil.rmtree, self.root, True)
        self.runtime = os.path.join(self.root, "runtime")
        self.tmpfs = os.path.join(self.root, "tmpfs")
        os.mkdir(self.runtime, 0o700)
        os.mkdir(self.tmpfs)
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith("BERTH_") and k != "LD_PRELOAD"}
        self.env["XDG_RUNTIME_DIR"] = self.runtime

    def mount(self, options=""):
        device = os.environ.get("BERTH_TEST_DEVICE")
        if device:
            if options:
                self.skipTest("this is for tmpfs alone")
            self.mount_device(device)
            return
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}{options}", "berth", self.tmpfs],
                       check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", self.tmpfs], check=False)

    def mount_device(self, device):
        subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "^has_journal", device,
                        f"{SIZE >> 10}K"], check=True)
        subprocess.run(["mount", "-t", "ext4", "-o", "dax=always", device, self.tmpfs], check=True)
        self.addCleanup(subprocess.run, ["umount", self.tmpfs], check=False)

    @contextlib.contextmanager
    def churning(self, decay="0", huge="never", program=None):
        policy = os.path.join(self.root, "policy")
        with open(policy, "w", encoding="utf-8") as file:
            file.write(POLICY % (self.tmpfs, decay, huge))
        with subprocess.Popen([BERTH, "run", "--policy", policy, "--", program or CHURN],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, env=self.env) as process:
            try:
                self.assertEqual(process.stdout.readline(), "ready\n")
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)

    def stat(self, process):
        """What the program says of itself, once its socket is there."""
        end = time.monotonic() + DEADLINE_S
        while True:
            done = subprocess.run([BERTH, "stat", str(process.pid), "--json"], env=self.env,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  check=False)
            if done.returncode == 0:
                break
            self.assertIsNone(process.poll(), "the program has ended")
            self.assertLess(time.monotonic(), end, done.stderr)
            time.sleep(0.01)
        stat = json.loads(done.stdout)
        tier = [tier for tier in stat["tiers"] if tier["name"] == "small"][0]
        return {"spilled": stat["rules"][0]["spilled_blocks"], "placed": tier["allocs"],
                "tier_spilled": tier["spilled_blocks"], "reserved": tier["reserved"],
                "refusals": tier["refusals"], "why": tier["last_refusal"]}

    def until(self, process, check):
        end = time.monotonic() + DEADLINE_S
        while True:
            self.assertIsNone(process.poll(), "the program has ended")
            now = self.stat(process)
            if check(now):
                return now
            self.assertLess(time.monotonic(), end, f"the deadline has passed: {now}")

    def fill(self):
        """Takes every byte that is left, and what is given back meanwhile."""
        with open(os.path.join(self.tmpfs, "filler"), "ab", buffering=0) as file:
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while file.write(b"\xee" * size) == size:
                        pass

    def empty(self):
        os.unlink(os.path.join(self.tmpfs, "filler"))

    def ends_well(self, process, why="No space left on device"):
        """With one line on what was refused, unless nothing was."""
        refused = self.stat(process)["refusals"] > 0
        said, errors = process.communicate(timeout=DEADLINE_S)
        self.assertEqual(process.returncode, 0, errors)
        if refused:
            self.assertRegex(errors, rf"^berth\[\d+\]: tier: tier small: {self.tmpfs} gave no more "
                             rf"space: {why}; blocks go to the next place while that is so\n$")
        else:
            self.assertEqual(errors, "")
        self.assertRegex(said, r"^\d+ blocks, all right\n$")

    def fills_and_empties(self, **policy):
        with self.churning(**policy) as process:
            self.assertGreater(self.stat(process)["placed"], 0)
            for _ in range(ROUNDS):
                before = self.stat(process)
                self.fill()
                full = self.until(process, lambda now, then=before:
                                  now["spilled"] > then["spilled"] + 50)
                # The program goes on while it is read: a tier before the rules.
                self.until(process, lambda now, then=full: now["tier_spilled"] >= then["spilled"])
                self.empty()
                # There is room again: what is asked for from now on is placed.
                self.until(process, lambda now, then=full: now["placed"] > then["placed"] + 50)
            self.ends_well(process)

    def test_blocks_go_on_and_come_back(self):
        self.mount()
        self.fills_and_empties()

    def test_so_they_do_where_freed_memory_is_kept(self):
        self.mount()
        self.fills_and_empties(decay="10s")

    def test_so_they_do_in_huge_pages(self):
        try:
            self.mount(",huge=advise")
        except subprocess.CalledProcessError:
            self.skipTest("this kernel has no tmpfs of huge pages")
        self.fills_and_empties(huge="advise")

    def remount(self, size):
        """Whether the kernel did so: it makes no tmpfs smaller than what is in it."""
        done = subprocess.run(["mount", "-o", f"remount,size={size}", self.tmpfs], check=False,
                              stderr=subprocess.DEVNULL)
        return done.returncode == 0

    def test_a_filesystem_that_is_made_larger_and_smaller_is_used_as_far_as_it_goes(self):
        self.mount()
        with self.churning() as process:
            for _ in range(3):
                then = self.stat(process)
                full = self.until(process, lambda now: now["spilled"] > then["spilled"] + 20)
                self.assertTrue(self.remount(4 * SIZE))
                self.until(process, lambda now: now["reserved"] > SIZE + (2 << 20) and
                           now["placed"] > full["placed"] + 50)
                self.until(process, lambda now: self.remount(now["reserved"] + (1 << 20)))
            self.ends_well(process)

    def mount_disk(self, *make, size=DISK_SIZE, options="loop"):
        """A filesystem of the test's own, made by this command."""
        image = os.path.join(self.root, "image")
        with open(image, "wb") as file:
            file.truncate(size)
        try:
            subprocess.run([*make, image], check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
            subprocess.run(["mount", "-o", options, image, self.tmpfs], check=True,
                           stderr=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            self.skipTest(f"no filesystem of {make[0]} can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", self.tmpfs], check=False)

    def mount_btrfs(self, options):
        if tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2]) < (6, 16):
            self.skipTest("btrfs promises no space for writes before Linux 6.16")
        self.mount_disk("mkfs.btrfs", "-q", size=BTRFS_SIZE, options=options)

    def fills_a_disk(self, **policy):
        with self.churning(**policy) as process:
            # What is in the cache now was read while there was room, or beside free blocks.
            self.until(process, lambda now: now["placed"] > 150)
            for _ in range(2):
                then = self.stat(process)
                self.fill()
                self.until(process, lambda now, then=then: now["placed"] > then["placed"] + 300)
                self.empty()
            self.ends_well(process)

    def test_a_disk_that_is_full_sends_no_signal(self):
        """The kernel may want space for more than the page that is written (pmem/file_pages.h)."""
        self.mount_disk("mkfs.ext4", "-q")
        self.fills_a_disk()

    def test_nor_does_one_that_compresses_and_writes_elsewhere(self):
        self.mount_btrfs("loop,compress-force=zstd")
        self.fills_a_disk()

    def shares(self):
        with self.churning(program=SHARING) as process:
            self.fill()
            out, errors = process.communicate("\n", timeout=DEADLINE_S)
            self.assertEqual((out, errors, process.returncode), ("all right\n", "", 0))

    def test_a_child_shares_no_blocks_for_which_a_full_disk_has_no_other_place(self):
        self.mount_disk("mkfs.xfs", "-q", "-m", "reflink=1", size=XFS_SIZE)
        self.shares()

    def test_nor_does_it_on_another_filesystem_that_could(self):
        self.mount_disk("mkfs.ext4", "-q", size=XFS_SIZE)
        self.shares()

    def refused(self, error):
        self.mount()
        self.assertTrue(self.remount(4 * SIZE))
        flag = os.path.join(self.root, "flag")
        self.env.update(LD_PRELOAD=REFUSING, REFUSING_WHILE=flag, REFUSING_WITH=str(error))
        why = os.strerror(error)
        with self.churning() as process:
            before = self.stat(process)
            self.assertEqual((before["refusals"], before["why"]), (0, None))
            with open(flag, "wb"):
                pass
            full = self.until(process, lambda now: now["spilled"] > before["spilled"] + 50)
            self.assertEqual(full["why"], why)
            told = rf"space refused \d+ times, the last time: {why}"
            for command in ("doctor", "stat"):
                done = subprocess.run([BERTH, command, str(process.pid)], env=self.env, text=True,
                                      stdout=subprocess.PIPE, check=False)
                self.assertRegex(done.stdout, told)
            os.unlink(flag)
            self.until(process, lambda now: now["placed"] > full["placed"] + 50)
            self.ends_well(process, why=why)

    def test_an_error_of_the_disk_is_told_and_borne(self):
        self.refused(errno.EIO)

    def test_so_is_a_quota_that_is_used_up(self):
        self.refused(errno.EDQUOT)

    def test_a_block_needs_little_stack(self):
        self.mount()
        policy = os.path.join(self.root, "policy")
        with open(policy, "w", encoding="utf-8") as file:
            file.write(POLICY % (self.tmpfs, "0", "never"))
        done = subprocess.run([BERTH, "run", "--policy", policy, "--", STACK], env=self.env,
                              stdout=subprocess.PIPE, text=True, check=True)
        self.assertLess(int(done.stdout), STACK_MAX)

    @contextlib.contextmanager
    def group(self, limit):
        """A control group of the test's own, of whichever version this machine has."""
        for root, name in (("/sys/fs/cgroup", "memory.max"),
                           ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
            folder = os.path.join(root, f"berth-test-{os.getpid()}")
            if not os.path.exists(os.path.join(root, "cgroup.procs")):
                continue
            try:
                os.mkdir(folder)
            except OSError:
                continue
            try:
                # What is not there would be made in a folder that is no group's.
                with open(os.path.join(folder, name), "r+", encoding="utf-8") as file:
                    file.write(str(limit))
            except OSError:
                os.rmdir(folder)
                continue
            try:
                yield os.path.join(folder, "cgroup.procs")
            finally:
                self.leave(folder)
            return
        self.skipTest("no control group can be made here")

    def leave(self, folder):
        """What files have left in the group's memory goes with them."""
        subprocess.run(["umount", "-l", self.tmpfs], check=False)
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                os.rmdir(folder)
                return
            except OSError:
                self.assertLess(time.monotonic(), end)
                time.sleep(0.1)

    def test_a_group_that_may_have_less_than_the_filesystem_ends_no_program(self):
        self.mount()
        self.assertTrue(self.remount(2 << 30))
        policy = os.path.join(self.root, "policy")
        with open(policy, "w", encoding="utf-8") as file:
            file.write(POLICY % (self.tmpfs, "0", "never"))
        with self.group(128 << 20) as entry:
            # It asks for 300 MiB at once, among others, and touches none of them.
            done = subprocess.run(["sh", "-c", f'echo $$ > {entry} && exec "$@"', "sh", BERTH, "run",
                                   "--policy", policy, "--", STACK], env=self.env,
                                  stdout=subprocess.PIPE, check=False)
            self.assertEqual(done.returncode, 0)

    def test_a_filesystem_that_is_full_at_the_start_is_said_and_used_later(self):
        self.mount()
        self.fill()
        with self.churning() as process:
            self.assertEqual(self.stat(process)["placed"], 0)
            self.empty()
            self.until(process, lambda now: now["placed"] > 50)
            _, errors = process.communicate(timeout=DEADLINE_S)
            self.assertEqual(process.returncode, 0)
            self.assertEqual(errors.count("\n"), 1, errors)
            self.assertIn("no room", errors)


def can_mount():
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(["mount", "-t", "tmpfs", "berth", directory], check=False,
                              stderr=subprocess.DEVNULL)
        if done.returncode == 0:
            subprocess.run(["umount", directory], check=True)
        return done.returncode == 0


def main():
    global BERTH, CHURN, STACK, REFUSING, SHARING
    if not can_mount():
        if "BERTH_TEST_NAMESPACE" in os.environ or not shutil.which("unshare"):
            print("no tmpfs can be mounted here, nor in a user namespace")
            sys.exit(77)
        os.environ["BERTH_TEST_NAMESPACE"] = "1"
        probe = subprocess.run(["unshare", "-rm", "true"], check=False, stderr=subprocess.DEVNULL)
        if probe.returncode != 0:
            print("no tmpfs can be mounted here, and there are no user namespaces")
            sys.exit(77)
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])
    BERTH, CHURN, STACK, REFUSING, SHARING = sys.argv[1:6]
    unittest.main(argv=[sys.argv[0], *sys.argv[6:]], verbosity=2)


if __name__ == "__main__":
    main()
