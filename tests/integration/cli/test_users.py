# SPDX-License-Identifier: Apache-2.0
"""Goal: without $XDG_RUNTIME_DIR users are not in each other's way in /tmp, in user namespaces
neither, and a directory there that cannot be used keeps no program from running.

Method: a user of this test's own, by a number that nobody has; what is in the way is put there by
root. Arguments: berth; then unittest's.
"""
import contextlib
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

BERTH = ""
DEADLINE_S = 60
DIRECTORIES = 8  # ipc/address.h
USER = (1 << 20) + os.getpid()
HOLDER = "import sys; held = bytearray(1 << 21); print('ready', flush=True); sys.stdin.read()"
POLICY = """tier far {
  kind = file
  path = "%s"
  capacity = 256M
}
rule large {
  min-size = 1M
  place = { far, dram }
}
"""


def run_by_user(command, **more):
    return subprocess.run(command, user=USER, group=USER, extra_groups=[], check=False,
                          timeout=DEADLINE_S, **more)


def python_for_all():
    """A Python that other users than root may run, or None."""
    for python in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            if run_by_user([python, "-c", ""]).returncode == 0:
                return python
    return None


def directory(index=0):
    return f"/tmp/berth-{USER}" + (f"-{index}" if index else "")


@unittest.skipIf(os.geteuid() != 0, "only root can be another user")
class Users(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="berth-users-")
        self.addCleanup(shutil.rmtree, self.root, True)
        os.chmod(self.root, 0o755)
        far = os.path.join(self.root, "far")
        os.mkdir(far)
        os.chown(far, USER, USER)
        self.policy = os.path.join(self.root, "test.policy")
        with open(self.policy, "w", encoding="utf-8") as file:
            file.write(POLICY % far)
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith("BERTH_") and k not in ("LD_PRELOAD", "XDG_RUNTIME_DIR")}
        self.python = python_for_all()
        if not self.python:
            self.skipTest("no other user may run a Python here")
        self.assertEqual(glob.glob(directory() + "*"), [])
        self.addCleanup(self.clean)

    @staticmethod
    def clean():
        for path in glob.glob(directory() + "*"):
            shutil.rmtree(path)

    def berth(self, *args, user=USER):
        return subprocess.run([BERTH, *args], env=self.env, stdout=subprocess.PIPE, text=True,
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, user=user,
                              group=user, extra_groups=[], timeout=DEADLINE_S, check=False)

    @contextlib.contextmanager
    def holder(self, *before):
        """A program of the user's that has placed a block by the policy."""
        command = [*before, BERTH, "run", "--policy", self.policy, "--", self.python, "-c",
                   HOLDER]
        with subprocess.Popen(command, env=self.env, stdin=subprocess.PIPE, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, user=USER,
                              group=USER, extra_groups=[]) as process:
            try:
                self.assertEqual(process.stdout.readline(), "ready\n")
                yield process
                process.stdin.close()
                self.assertEqual(process.stderr.read(), "")
                self.assertEqual(process.wait(DEADLINE_S), 0)
            finally:
                process.kill()

    def wait_listed(self, pid, user):
        """The process is in the list of the user's and can be asked."""
        end = time.monotonic() + DEADLINE_S
        while pid not in [entry["pid"] for entry in
                          json.loads(self.berth("ps", "--json", user=user).stdout)]:
            self.assertLess(time.monotonic(), end, f"{pid} is not found by {user}")
            time.sleep(0.01)
        self.check_tier(pid, user)

    def check_tier(self, pid, user):
        told = self.berth("stat", str(pid), "--json", user=user)
        self.assertEqual((told.returncode, told.stderr), (0, ""))
        blocks = [tier["blocks"] for tier in json.loads(told.stdout)["tiers"]
                  if tier["name"] == "far"]
        self.assertNotIn(blocks, ([], [0]))

    def test_a_user_of_a_namespace_is_called_as_outside(self):
        namespace = ["unshare", "-Ur"]
        if not shutil.which("unshare") or run_by_user([*namespace, "true"],
                                                      stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("no user namespaces can be made here")
        before = set(glob.glob("/tmp/berth-*"))
        with self.holder(*namespace) as process:
            self.wait_listed(process.pid, USER)
            self.assertEqual([os.stat(path).st_uid for path in glob.glob(directory() + "*")],
                             [USER])
        made = set(glob.glob("/tmp/berth-*")) - before
        self.assertEqual([path for path in made if os.stat(path).st_uid == USER], [directory()])
        # Nothing is in the way of the same user without a namespace.
        with self.holder() as process:
            self.wait_listed(process.pid, USER)
        self.assertEqual(glob.glob(directory() + "*"), [directory()])

    def test_what_is_in_the_way_is_passed_by(self):
        os.mkdir(directory(), 0o700)
        os.symlink("/tmp", directory(1))
        os.mkdir(directory(2))
        os.chown(directory(2), USER, USER)
        os.chmod(directory(2), 0o755)
        self.addCleanup(os.unlink, directory(1))
        with self.holder() as process:
            self.wait_listed(process.pid, USER)
            self.check_tier(process.pid, 0)
            self.assertTrue(glob.glob(f"{directory(3)}/{process.pid}-*.sock"))
        self.assertEqual(os.listdir(directory()) + os.listdir(directory(2)), [])
        # What was in the way is gone meanwhile: who went round it is found still.
        with self.holder() as process:
            self.wait_listed(process.pid, USER)
            os.rmdir(directory())
            self.check_tier(process.pid, USER)

    def test_a_program_runs_where_no_directory_can_be_used(self):
        for index in range(DIRECTORIES):
            os.mkdir(directory(index), 0o700)
        show = "import os; print(os.environ.get('BERTH_POLICY')); raise SystemExit(7)"
        done = self.berth("run", "--policy", self.policy, "--", self.python, "-c", show)
        self.assertEqual((done.returncode, done.stdout), (7, "None\n"), done.stderr)
        self.assertRegex(done.stderr, f"^berth: run: the policy cannot be kept for the program, "
                         f"which runs without it: {directory()} belongs to uid 0; expected uid "
                         f"{USER}\n$")
        # The program itself says that it cannot be asked, once.
        done = self.berth("run", "-o", "control=always", "--", self.python, "-c",
                          "import sys; sys.stdin.read(); raise SystemExit(7)")
        self.assertEqual((done.returncode, done.stdout), (7, ""))
        for index in range(DIRECTORIES):
            self.assertEqual(os.listdir(directory(index)), [])


if __name__ == "__main__":
    BERTH = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
