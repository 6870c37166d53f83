# SPDX-License-Identifier: Apache-2.0
"""Goal: a replay makes the calls that were recorded, and its numbers are those of the driver.

Method: small traces whose numbers are known, replayed on the virtual and on the simulated driver.
Arguments: berth, the folder of the simulated CUDA driver; then unittest's.
"""
import json
import os
import random
import subprocess
import sys
import tempfile
import unittest

BERTH = ""
FAKE_CUDA = ""
MIB = 1 << 20


class Replay(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="berth-trace-")
        self.addCleanup(folder.cleanup)
        self.root = folder.name
        os.mkdir(self.root + "/runtime", 0o700)
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith("BERTH_") and k != "LD_PRELOAD"}
        self.env["XDG_RUNTIME_DIR"] = self.root + "/runtime"

    def write(self, lines, head="thread,time_us,action,pointer,size,stream"):
        path = os.path.join(self.root, "trace.csv")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join([head, *lines]) + "\n")
        return path

    def berth(self, *args):
        return subprocess.run([BERTH, "trace", "replay", *args], env=self.env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                              check=False)

    def replay(self, *args, driver="virtual"):
        done = self.berth("--json", "--driver", driver, *args)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return json.loads(done.stdout)

    def refused(self, text, *args, status=1):
        done = self.berth(*args)
        self.assertEqual((done.returncode, done.stdout), (status, ""), done.stderr)
        self.assertIn(text, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def mixed(self, threads=1, kind=None):
        """Some 2000 random allocations; how many, the most that was live, and the trace."""
        source = random.Random(7)
        live, lines, now, most, count = {}, [], 0, 0, 0
        for i in range(4000):
            thread = source.randrange(threads)
            if live and source.random() < 0.5:
                pointer = source.choice(list(live))
                size = live.pop(pointer)
                now -= size
                lines.append(f"{thread},{i},free,{pointer:#x},{size},0")
            else:
                pointer = (i + 1) << 30
                size = source.choice([1, 700, 4096, 100000, 3 * MIB, 9 * MIB])
                live[pointer] = size
                now += size
                count += 1
                lines.append(f"{thread},{i},allocate,{pointer:#x},{size},{source.randrange(5)}")
            most = max(most, now)
        if kind is None:
            return count, most, self.write(lines)
        return count, most, self.write([f"{line},{kind}" for line in lines],
                                       "thread,time_us,action,pointer,size,stream,kind")

    def test_known_numbers(self):
        path = self.write(["1,0,allocate,0x1000,3145728,0", "1,1,allocate,0x2000,512,0",
                           "1,2,free,0x1000,3145728,0", "1,3,allocate,0x1000,3145728,0",
                           "1,4,free,0x1000,3145728,0"])
        told = self.replay(path, "--repeat", "2")
        self.assertEqual((told["events"], told["allocations"], told["leftovers"],
                          told["recorded_max_live"]), (5, 3, 1, 3 * MIB + 512))
        results = {(r["target"], r["repetition"]): r for r in told["results"]}
        self.assertEqual(len(results), 4)
        for repetition in (1, 2):
            native = results["driver", repetition]
            self.assertEqual((native["driver_allocs"], native["driver_frees"]), (3, 2))
            self.assertEqual(native["reserved_peak"], 6 * MIB)
            self.assertEqual(native["ratio"], round(6 * MIB / (3 * MIB + 512), 4))
        first, second = results["pool", 1], results["pool", 2]
        self.assertEqual((first["driver_allocs"], second["driver_allocs"]), (2, 0))
        self.assertEqual(first["alloc"]["count"], 3)
        self.assertEqual(second["max_live"], 3 * MIB + 512)
        self.assertEqual(second["reserved_peak"], 6 * MIB)

    def peak(self, lines, *args):
        told = self.replay(self.write(lines), "--against", "pool", "--repeat", "1", "--peak",
                           "-o", "segments=shared", *args)["results"][0]
        parts = {name: size for name, size in told["peak"].items() if size > 0}
        counts = [parts.pop(name, 0) for name in ("segments", "segments_alone")]
        self.assertEqual(sum(parts.values()), told["reserved_peak"])
        return counts, parts

    def test_what_is_reserved_at_most_is_told_part_by_part(self):
        lines = ["1,0,allocate,0x1000,1000,0", f"1,1,allocate,0x2000,{3 * MIB},0"]
        self.assertEqual(self.peak(lines), ([2, 1], {
            "live": 3 * MIB + 1000, "rounding": 24, "alone": MIB, "ends": 2 * MIB - 1024}))
        # What goes after the moment of the peak changes nothing of it.
        self.assertEqual(self.peak(lines + ["1,2,free,0x1000,1000,0"])[1]["live"], 3 * MIB + 1000)

    def test_free_blocks_between_others_are_told(self):
        half = MIB // 2
        lines = [f"1,{i},allocate,{i + 1:#x}000,{half},0" for i in range(4)]
        lines += ["1,4,free,0x2000,1,0", f"1,5,allocate,0x9000,{3 * MIB},0"]
        # What threads keep goes to the pool before the driver is asked.
        self.assertEqual(self.peak(lines), ([2, 1], {
            "live": 3 * half + 3 * MIB, "alone": MIB, "gaps_medium": half}))

    def test_threads_that_reach_a_peak_at_once_look_in_turn(self):
        lines = [f"{i % 8},{i},allocate,{(i + 1) << 30:#x},{3 * MIB + i * 4096},0"
                 for i in range(800)]
        told = self.replay(self.write(lines), "--against", "pool", "--repeat", "16", "--peak",
                           "--threads", "recorded", "-o", "segments=shared")
        for result in told["results"]:
            parts = {name: size for name, size in result["peak"].items() if "segments" not in name}
            self.assertLess(sum(parts.values()), 1.5 * result["reserved_peak"])

    def test_memory_of_a_plan_is_told_apart(self):
        path = self.write(["1,0,allocate,0x1000,4194304,0", "1,1,free,0x1000,4194304,0",
                           "1,2,allocate,0x1000,1048576,0", "1,3,free,0x1000,1048576,0"])
        self.env["BERTH_PLAN"] = self.root + "/plan"
        subprocess.run([BERTH, "trace", "plan", path, "-o", self.env["BERTH_PLAN"]], check=True,
                       env=self.env, stdout=subprocess.DEVNULL)
        lines = ["1,0,allocate,0x1000,4194304,0", "1,1,free,0x1000,4194304,0",
                 "1,2,allocate,0x1000,1048576,0", "1,3,allocate,0x2000,6291456,0"]
        self.assertEqual(self.peak(lines)[1], {"live": 7 * MIB, "plan_free": 3 * MIB})

    def test_mappings_are_counted(self):
        """Of the virtual driver; a repetition that finds everything in its place makes none."""
        path = self.write(["1,0,allocate,0x1000,8388608,0", "1,1,free,0x1000,8388608,0"])
        told = self.replay(path, "--option", "segments=expandable", "--repeat", "2")
        counts = {(r["target"], r["repetition"]): (r["driver_maps"], r["driver_unmaps"])
                  for r in told["results"]}
        self.assertEqual(counts, {("driver", 1): (0, 0), ("driver", 2): (0, 0),
                                  ("pool", 1): (4, 0), ("pool", 2): (0, 0)})
        told = self.replay(path, "--repeat", "1", driver=FAKE_CUDA + "/libcuda.so.1")
        self.assertNotIn("driver_maps", told["results"][0])

    def test_memory_that_moves_is_counted(self):
        """The last block begins in the second gap; eight pages leave the first one for it."""
        path = self.write(["1,0,allocate,0x1000,33554432,0", "1,1,allocate,0x2000,2097152,0",
                           "1,2,allocate,0x3000,33554432,0", "1,3,free,0x1000,33554432,0",
                           "1,4,free,0x3000,33554432,0", "1,5,allocate,0x1000,50331648,0"])
        told = self.replay(path, "--against", "pool", "--option", "segments=expandable",
                           "--repeat", "1")
        first = told["results"][0]
        self.assertEqual((first["driver_allocs"], first["driver_maps"], first["driver_unmaps"]),
                         (33, 33 + 8, 1))

    def test_what_is_never_freed_is_kept(self):
        path = self.write(["1,0,allocate,0x1000,4194304,0", "1,1,free,0x1000,4194304,0",
                           "1,2,allocate,0x2000,3145728,0", "1,3,allocate,0x3000,512,0",
                           "1,4,allocate,0x1000,8388608,0", "1,5,free,0x1000,8388608,0"])
        for threads in ("1", "recorded"):
            told = self.replay(path, "--keep", "--threads", threads, "--repeat", "3")
            for result in told["results"]:
                first = result["repetition"] == 1
                self.assertEqual((result["alloc"]["count"], result["free"]["count"],
                                  result["failures"]), (4 if first else 2, 2, 0))
                self.assertEqual(result["max_live"], 11 * MIB + 512)
                if result["target"] == "driver":
                    self.assertEqual(result["reserved_peak"], 14 * MIB)

    def test_every_way_of_calling(self):
        for kind in (None, "device", "async", "managed", "pitch", "from-pool"):
            count, most, path = self.mixed(kind=kind)
            for result in self.replay(path, "--repeat", "2")["results"]:
                self.assertEqual((result["alloc"]["count"], result["failures"],
                                  result["skipped"]), (count, 0, 0), kind)
                self.assertEqual(result["max_live"], most)
                self.assertGreaterEqual(result["reserved_peak"], most)

    def test_threads_as_recorded(self):
        count, _, path = self.mixed(threads=3)
        for calls in ("alloc", "async"):
            told = self.replay(path, "--threads", "recorded", "--calls", calls, "--repeat", "2")
            for result in told["results"]:
                self.assertEqual((result["alloc"]["count"], result["failures"]), (count, 0))

    def test_the_simulated_driver(self):
        count, most, path = self.mixed()
        told = self.replay(path, "--repeat", "1", driver=FAKE_CUDA + "/libcuda.so.1")
        self.assertEqual(told["driver"], FAKE_CUDA + "/libcuda.so.1")
        native, pool = told["results"]
        self.assertEqual((native["driver_allocs"], native["failures"]), (count, 0))
        self.assertGreaterEqual(native["reserved_peak"], most)
        self.assertLess(pool["driver_allocs"], count)
        self.assertGreaterEqual(pool["reserved_peak"], most)

    def test_a_full_device_refuses(self):
        path = self.write([f"1,{i},allocate,{i + 1:#x}00000,{3 * MIB},0" for i in range(4)])
        for result in self.replay(path, "--device-memory", "10M", "--repeat", "1")["results"]:
            self.assertEqual((result["failures"], result["alloc"]["count"]), (2, 4))

    def test_what_cannot_be_replayed_is_left_out(self):
        path = self.write(["allocate,0x1000,10,array", "allocate,0x2000,20,host",
                           "allocate,0x3000,30,device", "free,0x2000,20,host",
                           "free,0x9000,20,device", "allocate failure,0x0,99,device"],
                          "action,pointer,size,kind")
        told = self.replay(path, "--repeat", "1")
        self.assertEqual(told["strange_frees"], 1)
        for result in told["results"]:
            self.assertEqual((result["skipped"], result["alloc"]["count"], result["max_live"]),
                             (3, 2, 30))

    def test_a_free_is_its_allocations(self):
        """What a free's own line says of kind and device is not asked."""
        path = self.write(["allocate,0x1000,100,array,0", "free,0x1000,0,device,0",
                           "allocate,0x2000,700,host,0", "free,0x2000,0,device,1",
                           "allocate,0x3000,500,device,1", "free,0x3000,0,array,0"],
                          "action,pointer,size,kind,device")
        for threads in ("1", "recorded"):
            for result in self.replay(path, "--threads", threads, "--repeat", "2")["results"]:
                self.assertEqual((result["alloc"]["count"], result["free"]["count"],
                                  result["failures"], result["skipped"], result["max_live"]),
                                 (2, 2, 0, 2, 500))

    def test_nothing_is_left_to_replay(self):
        path = self.write(["allocate,0x1000,100,array"], "action,pointer,size,kind")
        for result in self.replay(path, "--threads", "recorded")["results"]:
            self.assertEqual((result["alloc"]["count"], result["skipped"]), (0, 1))

    def test_a_pipe_is_read_once(self):
        _, most, path = self.mixed()
        for source in ("/dev/stdin", "/proc/self/fd/0"):
            for pipe in (False, True):
                with open(path, "rb") as file:
                    text = None if pipe else file
                    done = subprocess.run(
                        [BERTH, "trace", "replay", "--json", "--driver", "virtual", source],
                        env=self.env, stdin=text, input=file.read() if pipe else None,
                        capture_output=True, timeout=60, check=False)
                self.assertEqual((done.returncode, done.stderr), (0, b""))
                self.assertEqual(json.loads(done.stdout)["results"][1]["max_live"], most)

    def test_many_threads_and_streams(self):
        """Finding them costs no time that grows with the square."""
        count = 300000
        path = self.write([f"{i},allocate,{(i + 1) << 12:#x},512,{i},async"
                           for i in range(count)], "thread,action,pointer,size,stream,kind")
        told = self.replay(path, "--repeat", "1", "--against", "driver")
        self.assertEqual((told["results"][0]["alloc"]["count"], told["results"][0]["failures"]),
                         (count, 0))

    def test_options_reach_the_pool(self):
        _, _, path = self.mixed()
        own = self.replay(path, "--against", "pool", "--option", "ipc-min=0")
        shared = self.replay(path, "--against", "pool", "--option", "ipc-min=1G")
        self.assertEqual(len(own["results"]), 3)
        self.assertGreater(own["results"][0]["driver_allocs"],
                           shared["results"][0]["driver_allocs"])

    def test_two_devices(self):
        path = self.write(["allocate,0x1000,10,0", "allocate,0x2000,20,1", "free,0x1000,10,0",
                           "free,0x2000,20,1"], "action,pointer,size,device")
        for result in self.replay(path)["results"]:
            self.assertEqual((result["failures"], result["free"]["count"]), (0, 2))

    def test_the_peak_of_another_driver_is_refused_in_one_line(self):
        path = self.write(["1,0,allocate,0x1000,8388608,0"])
        done = self.berth("--driver", "libcuda.so.1", "--peak", path)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("expected --driver virtual", done.stderr)
        done = self.berth("--driver", "libm.so.6", path)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)

    def test_people_are_told_of_the_peak(self):
        done = self.berth("--driver", "virtual", "--against", "pool", "--peak", "-o",
                          "segments=shared", self.write([f"1,0,allocate,0x1000,{3 * MIB},0"]))
        self.assertIn("of the pool's 4194304 bytes in repetition 1", done.stdout, done.stderr)
        self.assertIn("\n   33.33  the same of blocks that have a segment alone", done.stdout)

    def test_people_get_a_table(self):
        _, most, path = self.mixed()
        done = self.berth("--driver", "virtual", "--repeat", "2", path)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"max-live {most} bytes", done.stdout)
        self.assertIn("driver: virtual", done.stdout)
        self.assertEqual(sum(line.startswith(("driver ", "pool ")) for line in
                             done.stdout.splitlines()), 4)

    def test_mistakes_are_told(self):
        good = self.write(["1,0,allocate,0x1000,3145728,0"])
        for text, *args in (("--against 'x'", "--against", "x"), ("--repeat '0'", "--repeat", "0"),
                            ("--threads '2'", "--threads", "2"), ("no size", "--device-memory",
                                                                  "1"),
                            ("nonsense", "--option", "nonsense=1"),
                            ("has no value", "--option", "free")):
            self.refused(text, *args, good, status=2)
        self.refused("expected one file", status=2)
        self.refused("No such file", self.root + "/missing")
        self.refused("cannot be loaded", "--driver", "/nonexistent/libcuda.so.1", "--repeat", "1",
                     "--against", "driver", good)
        self.refused("has no allocations", self.write([]))
        bad = self.write(["1,0,allocate,0x1000,3145728,0", "1,0,allocate,zero,1,0"])
        self.refused(bad + ":3: 'zero' is no pointer", bad)


if __name__ == "__main__":
    BERTH, FAKE_CUDA = (os.path.abspath(argument) for argument in sys.argv[1:3])
    del sys.argv[1:3]
    unittest.main()
