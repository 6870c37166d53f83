# SPDX-License-Identifier: Apache-2.0
"""Goal: a thread that was told to end does so at a cancellation point of the program's, and never in
Berth. Method: cancel_host and cancel_cuda, which tell of each point that such a thread meets, run
with each kind of tier, and on the simulated driver with each way to free.
usage: test_cancel.py BERTH POINTS HOST CUDA DRIVER_DIR"""
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import unittest

berth, points, host, cuda, driver_dir = sys.argv[1:6]
PATIENCE_S = 170
ADDRESSES = resource.getrlimit(resource.RLIMIT_AS)[0]
# Limits are for good: last.
SITUATIONS = ["allocate", "fill-up", "begin-thread", "load-library", "fork", "be-alone", "step",
              "give-back", "limited-files", "limited-addresses"]
SITES = """options {
  record-threshold = 1K
}
site here {
  path = "** > cancel_host!main > **"
  tag = weight
}
"""


class Cancel(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="berth-cancel-")
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
        self.env.update(XDG_RUNTIME_DIR=str(self.root), LD_LIBRARY_PATH=driver_dir,
                        LD_PRELOAD=points)

    def run_client(self, *command, **env):
        done = subprocess.run([berth, "run", *map(str, command)], capture_output=True, text=True,
                              timeout=PATIENCE_S, env=dict(self.env, **env), check=False)
        self.assertEqual((done.returncode, "FAILED" in done.stdout), (0, False),
                         done.stdout + done.stderr)
        return done

    def run_host(self, tier, rule="", situations=SITUATIONS, extra=""):
        policy = self.root / "policy"
        policy.write_text(f"{extra}tier far {{\n  {tier}\n}}\n"
                          f"rule large {{\n  min-size = 64K\n  {rule}\n  place = {{ far, dram }}\n}}\n")
        return self.run_client("--policy", policy, "-o", "control=always", "--", host, *situations)

    def file_tier(self, capacity="24M"):
        where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else self.root
        return f'kind = file\n  path = "{where}"\n  capacity = {capacity}'

    def test_files(self):
        said = self.run_host(self.file_tier()).stderr
        self.assertIn("tier far", said)
        self.assertIn("gave no more space", said)

    def test_files_on_a_disk(self):
        self.run_host(f'kind = file\n  path = "{self.root}"\n  capacity = 24M')

    def test_ordinary_memory(self):
        self.run_host("kind = dram\n  capacity = 24M")

    def test_a_node(self):
        self.run_host("kind = numa\n  nodes = 0\n  capacity = 24M")

    def test_blocks_that_may_move(self):
        self.run_host(self.file_tier(), "movable = yes")

    def test_call_sites(self):
        self.run_host(self.file_tier(), "tag = weight", extra=SITES)

    def test_persistent_blocks(self):
        self.run_host(f'kind = file\n  path = "{self.root}"\n  name = kept',
                      situations=["persist", "persist-in-child"])

    def test_a_classifier(self):
        self.run_client("-o", "host=on", "-o", "classifier=on", "--", host, "classify")

    def test_the_driver(self):
        for options in ("free=sync", "free=lazy", "free=lazy,waiting-max=64M", "segments=shared",
                        "segments=shared,free=lazy", "segments=expandable",
                        "segments=expandable,free=lazy", "thread-cache=0,spare=0"):
            if "expandable" in options and ADDRESSES != resource.RLIM_INFINITY:
                print(f"not run, because addresses are limited to {ADDRESSES >> 20} MiB, and the "
                      f"device's are reserved in advance: {options}")
                continue
            # Each has the device's memory to itself.
            for situation in ("allocate", "in-order", "behind-work", "in-order-behind-work"):
                with self.subTest(options=options, situation=situation):
                    self.run_client("--", cuda, situation, BERTH_OPTIONS=options,
                                    BERTH_FAKE_MEMORY="256M", BERTH_CONTROL="always")

    def test_a_trace(self):
        trace = self.root / "trace"
        self.run_client("--", cuda, "start-up", "allocate", BERTH_TRACE=str(trace),
                        BERTH_FAKE_MEMORY="256M")
        self.assertGreater(trace.stat().st_size, 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
