# SPDX-License-Identifier: Apache-2.0
"""Goal: a plan made of a trace lets the same run do with what lives at once and one call of the
driver; a run that deviates is served all the same; a plan that is damaged harms nothing.

Method: the trace of a made-up training (weights, then steps of activations and gradients, some of
them carried over), planned, and replayed on the virtual driver with and without deviations.
Arguments: berth, the folder of the simulated CUDA driver; then unittest's.
"""
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import unittest

BERTH = ""
FAKE_CUDA = ""
DEADLINE_S = 60
KIB, MIB = 1 << 10, 1 << 20


def training(steps, seed=1):
    """Events (pointer, size); a second event of a pointer is its free."""
    chance = random.Random(seed)
    events, next_pointer = [], iter(range(1, 1 << 30))
    layers = [chance.randrange(1, 6000) * KIB for _ in range(40)]
    extras = [(chance.randrange(1, 900) * KIB, chance.randrange(1, 40)) for _ in range(200)]

    def take(size):
        pointer = next(next_pointer)
        events.append((pointer, size))
        return pointer

    for size in layers:
        take(size)
    carried = None
    for _ in range(steps):
        live = []
        for i, size in enumerate(layers):
            live.append(take(size // 2 + 512))
            for extra, life in extras[5 * i:5 * i + 5]:
                live.append(take(extra))
                if len(live) > life:
                    events.append((live.pop(-1 - life % len(live)), 0))
        if carried:
            events.append((carried, 0))
        carried = take(3 * MIB)
        for pointer in reversed(live):
            events.append((pointer, 0))
    return events


def deviate(events, part, seed=2):
    """Leaves out some allocations, changes some sizes."""
    chance = random.Random(seed)
    out, known = [], {}
    for pointer, size in events:
        if pointer not in known:
            x = chance.random()
            known[pointer] = x >= part / 2
            if x >= part / 2:
                out.append((pointer, size + 4096 if x < part else size))
        elif known[pointer]:
            out.append((pointer, 0))
    return out


def write(path, events):
    live = set()
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["Thread", "Time", "Action", "Pointer", "Size", "Stream"])
        sizes = {}
        for time_us, (pointer, size) in enumerate(events):
            action = "free" if pointer in live else "allocate"
            live ^= {pointer}
            sizes.setdefault(pointer, size)
            rows.writerow([0, f"{time_us / 1e6:.6f}", action, hex(pointer << 32), sizes[pointer], 0])


class Plans(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.trace = os.path.join(cls.folder.name, "run.csv")
        cls.plan = os.path.join(cls.folder.name, "run.plan")
        write(cls.trace, training(6))
        cls.figures = json.loads(cls.berth("trace", "plan", cls.trace, "-o", cls.plan, "--json",
                                           "--effort", "3").stdout)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def berth(cls, *arguments, plan=None, check=True, **options):
        env = {**os.environ, **({"BERTH_PLAN": plan} if plan else {})}
        done = subprocess.run([BERTH, *arguments], env=env, capture_output=True, text=True,
                              timeout=DEADLINE_S, check=False, **options)
        if check and done.returncode != 0:
            raise AssertionError(done.stderr)
        return done

    def replay(self, trace, plan=None, repeat=2):
        done = self.berth("trace", "replay", trace, "--against", "pool", "--repeat", str(repeat),
                          "--json", plan=plan)
        return json.loads(done.stdout)["results"], done.stderr

    def test_steps_are_found(self):
        self.assertEqual(self.figures["repeat"]["times"], 6)
        self.assertEqual(self.figures["repeat"]["period"], 241)
        self.assertLessEqual(self.figures["ratio"], 1.01)
        self.assertGreaterEqual(self.figures["peak"], self.figures["lower_bound"])

    def test_the_same_run_needs_one_call(self):
        results, errors = self.replay(self.trace, self.plan)
        self.assertEqual(errors, "")
        self.assertEqual(results[0]["driver_allocs"], 1)
        self.assertEqual(results[1]["driver_allocs"], 0)
        self.assertLessEqual(results[1]["ratio"], 1.02)

    def test_one_step_is_good_for_many(self):
        longer = os.path.join(self.folder.name, "longer.csv")
        write(longer, training(40))
        results, _ = self.replay(longer, self.plan)
        self.assertEqual(results[0]["driver_allocs"], 1)
        self.assertLessEqual(results[1]["ratio"], 1.02)

    def test_a_run_that_deviates_is_served(self):
        other = os.path.join(self.folder.name, "other.csv")
        write(other, deviate(training(12), 0.05))
        without, _ = self.replay(other)
        results, errors = self.replay(other, self.plan)
        self.assertEqual(errors, "")
        self.assertEqual(results[1]["failures"], 0)
        self.assertLess(results[1]["reserved_peak"], 1.3 * without[1]["reserved_peak"])

    def test_stat_tells_how_it_is_followed(self):
        process = subprocess.Popen(
            [BERTH, "trace", "replay", self.trace, "--against", "pool", "--repeat", "1000000"],
            env={**os.environ, "BERTH_PLAN": self.plan, "BERTH_CONTROL": "always"},
            stdout=subprocess.DEVNULL)
        try:
            end = time.monotonic() + DEADLINE_S
            plan = None
            while not (plan and plan["hits"] > 100000):
                self.assertLess(time.monotonic(), end)
                for child in self.children(process.pid):
                    done = self.berth("stat", str(child), "--json", check=False)
                    plan = json.loads(done.stdout).get("plan") if done.returncode == 0 else plan
            calls = plan["hits"] + plan["unknown"] + plan["occupied"]
            self.assertTrue(plan["followed"])
            self.assertGreaterEqual(plan["hits"], 0.99 * calls)
            shown = "".join(self.berth("stat", str(child), check=False).stdout
                            for child in self.children(process.pid))
            self.assertIn("calls at their places", shown)
        finally:
            process.terminate()
            process.wait()

    @staticmethod
    def children(pid):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(child) for child in file.read().split()]

    def test_a_damaged_plan_is_refused(self):
        bad = os.path.join(self.folder.name, "bad.plan")
        with open(self.plan, "rb") as file:
            data = bytearray(file.read())
        data[len(data) // 2] ^= 1
        with open(bad, "wb") as file:
            file.write(data)
        done = self.berth("run", "--plan", bad, "--", "true", check=False)
        self.assertEqual(done.returncode, 125)
        self.assertIn("bad.plan: its checksum is wrong", done.stderr)
        results, errors = self.replay(self.trace, bad, repeat=1)
        self.assertGreater(results[0]["driver_allocs"], 1)
        self.assertEqual(errors.count("\n"), 1)
        self.assertIn("no plan is followed", errors)
        for path, what in ((self.trace + ".none", "No such file"), ("/dev/zero", "no regular file"),
                           (self.folder.name, "no regular file")):
            done = self.berth("run", "--plan", path, "--", "true", check=False)
            self.assertEqual(done.returncode, 125)
            self.assertIn(f"{path}: ", done.stderr)
            self.assertIn(what, done.stderr)
            self.assertIn("; expected a file that `berth trace plan` wrote", done.stderr)
        self.berth("run", "--plan", self.plan, "--", "true")

    def test_wrong_arguments_are_refused(self):
        for wrong in (["--effort", "much"], ["--effort", "-1"], ["--time-limit", "soon"],
                      ["--seed", "-1"], ["--device", "x"], ["--delay"]):
            done = self.berth("trace", "plan", self.trace, *wrong, check=False)
            self.assertEqual(done.returncode, 2, wrong)
        self.assertEqual(self.berth("trace", "plan", check=False).returncode, 2)
        empty = os.path.join(self.folder.name, "empty.csv")
        write(empty, [])
        done = self.berth("trace", "plan", empty, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("nothing to plan", done.stderr)

    def test_a_device_is_written_to_and_not_replaced(self):
        full = os.path.join(self.folder.name, "full")
        os.symlink("/dev/full", full)
        done = self.berth("trace", "plan", self.trace, "-o", full, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("No space left", done.stderr)
        self.assertTrue(os.path.islink(full))


if __name__ == "__main__":
    BERTH, FAKE_CUDA = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
