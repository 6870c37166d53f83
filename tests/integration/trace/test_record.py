# SPDX-License-Identifier: Apache-2.0
"""Goal: what a program allocates is in its trace and its snapshot, call for call, whatever happens
to the program; and the program notices nothing.

Method: a program on the simulated driver that says what it has done, recorded from its start or
from outside; its account beside its snapshot; PyTorch's own readers where they are installed.
Arguments: berth, the folder of the simulated CUDA driver; then unittest's.
"""
import contextlib
import csv
import glob
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

BERTH = ""
FAKE_CUDA = ""
DEADLINE_S = 30
MIB = 1 << 20

# Does what each line of its input says, and prints what it did as JSON.
PROGRAM = r"""
import ctypes, json, os, sys, threading
cuda = ctypes.CDLL("libcuda.so.1")
device, context = ctypes.c_int(), ctypes.c_void_p()
def begin():
    assert cuda.cuInit(0) == 0
    assert cuda.cuDeviceGet(ctypes.byref(device), 0) == 0
    assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
    assert cuda.cuCtxSetCurrent(context) == 0
def alloc(size):
    p = ctypes.c_uint64()
    return p.value if cuda.cuMemAlloc_v2(ctypes.byref(p), ctypes.c_size_t(size)) == 0 else 0
def free(p):
    return cuda.cuMemFree_v2(ctypes.c_uint64(p))
def alloc_async(size):
    p = ctypes.c_uint64()
    assert cuda.cuMemAllocAsync(ctypes.byref(p), ctypes.c_size_t(size), None) == 0
    return p.value
def free_async(p):
    return cuda.cuMemFreeAsync(ctypes.c_uint64(p), None)
def pitch(width, height):
    p, row = ctypes.c_uint64(), ctypes.c_size_t()
    assert cuda.cuMemAllocPitch_v2(ctypes.byref(p), ctypes.byref(row), ctypes.c_size_t(width),
                                   ctypes.c_size_t(height), 4) == 0
    return p.value
def host(size):
    p = ctypes.c_void_p()
    assert cuda.cuMemHostAlloc(ctypes.byref(p), ctypes.c_size_t(size), 0) == 0
    return p.value
def free_host(p):
    return cuda.cuMemFreeHost(ctypes.c_void_p(p))
def say(value):
    print(json.dumps(value), flush=True)
"""
TALKER = PROGRAM + r"""
begin()
say("ready")
for line in sys.stdin:
    if line.strip() == "":
        break
    say(eval(line))
"""


def scripted(text):
    return PROGRAM + text


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="berth-record-")
        self.addCleanup(folder.cleanup)
        self.root = folder.name
        os.mkdir(self.root + "/runtime", 0o700)
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith("BERTH_") and k != "LD_PRELOAD"}
        self.env["XDG_RUNTIME_DIR"] = self.root + "/runtime"
        self.env["LD_LIBRARY_PATH"] = FAKE_CUDA
        self.output = self.root + "/out.csv"

    def berth(self, *args, env=None, **more):
        return subprocess.run([BERTH, *args], env={**self.env, **(env or {})}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=DEADLINE_S * 2, check=False, **more)

    def record(self, program, *args, status=0, env=None):
        """Records a program; what it printed, and the rows of its trace."""
        done = self.berth("trace", "record", "-o", self.output, *args, "--", sys.executable, "-c",
                          program, env=env)
        self.assertEqual(done.returncode, status, done.stderr)
        return done, self.rows()

    def rows(self):
        with open(self.output, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def calls(self, rows):
        return [(row["Action"], int(row["Pointer"], 16), int(row["Size"]), row["Kind"])
                for row in rows]

    def nothing_is_left(self):
        self.assertEqual([name for name in os.listdir(self.root)
                          if name not in ("runtime", "out.csv", "out.pickle")], [])

    @contextlib.contextmanager
    def running(self, *options, program=TALKER):
        args = [part for option in options for part in ("-o", option)]
        with subprocess.Popen([BERTH, "run", *args, "--", sys.executable, "-c", program],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              env=self.env) as process:
            try:
                self.assertEqual(json.loads(process.stdout.readline()), "ready")
                self.wait_listed(process.pid)
                yield process
            finally:
                process.kill()

    def wait_listed(self, pid):
        end = time.monotonic() + DEADLINE_S
        while all(entry["pid"] != pid
                  for entry in json.loads(self.berth("ps", "--json").stdout or "[]")):
            self.assertLess(time.monotonic(), end, "no socket was opened")
            time.sleep(0.01)

    def ask(self, process, text):
        process.stdin.write(text + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())


class Record(Case):
    """berth trace record -- PROGRAM"""

    def test_every_call_is_there_in_order(self):
        done, rows = self.record(scripted("""
begin()
a, b = alloc(1000), alloc(5 << 20)
none = alloc(1 << 50)
assert free(a) == 0 and free(0x1234) != 0 and free(a) != 0
c = alloc_async(777); assert free_async(c) == 0
d = pitch(1000, 7); e = host(4096); assert free_host(e) == 0
f = alloc(1000)
say([a, b, c, d, e, f])
"""))
        a, b, c, d, e, f = json.loads(done.stdout)
        self.assertIn("6 allocations, 3 never freed", done.stderr)
        told = self.calls(rows)
        self.assertEqual(told[:4], [("allocate", a, 1000, "device"),
                                    ("allocate", b, 5 * MIB, "device"),
                                    ("allocate failure", 0, 1 << 50, "device"),
                                    ("free", a, 1000, "device")])
        self.assertEqual(told[4:6], [("allocate", c, 777, "async"), ("free", c, 777, "async")])
        self.assertEqual((told[6][0], told[6][1], told[6][3]), ("allocate", d, "pitch"))
        self.assertGreaterEqual(told[6][2], 7000)
        self.assertEqual(told[7:], [("allocate", e, 4096, "host"), ("free", e, 4096, "host"),
                                    ("allocate", f, 1000, "device")])
        times = [float(row["Time"]) for row in rows]
        self.assertEqual(times, sorted(times))
        self.assertLess(abs(times[0] - time.time()), 60)
        with open(self.output, encoding="utf-8") as file:
            self.assertEqual(file.readline().strip(),
                             "Thread,Time,Action,Pointer,Size,Stream,Tag,Site,Device,Kind")
        self.nothing_is_left()
        replayed = self.berth("trace", "replay", "--driver", "virtual", "--json", self.output)
        self.assertEqual(replayed.returncode, 0, replayed.stderr)

    def test_physical_memory_is_named_by_its_handle(self):
        done, rows = self.record(scripted("""
begin()
properties = (ctypes.c_int * 8)(1, 0, 1, 0)
handle = ctypes.c_uint64()
assert cuda.cuMemCreate(ctypes.byref(handle), ctypes.c_size_t(2 << 20), properties,
                        ctypes.c_uint64(0)) == 0
assert cuda.cuMemRelease(handle) == 0
say(handle.value)
"""))
        handle = json.loads(done.stdout)
        self.assertEqual(self.calls(rows), [("allocate", handle, 2 * MIB, "vmm"),
                                            ("free", handle, 2 * MIB, "vmm")])

    def test_call_paths_and_tags(self):
        _, rows = self.record(scripted("begin()\nalloc(512)"))
        self.assertEqual([(row["Site"], row["Tag"]) for row in rows], [("", "untagged")])
        done, rows = self.record(scripted("begin()\nalloc(512)"), "--call-paths")
        self.assertEqual(len(rows), 1, done.stderr)
        self.assertIn("ffi", rows[0]["Site"])
        self.assertNotIn("libberth", rows[0]["Site"])

    def test_threads_are_told_apart(self):
        _, rows = self.record(scripted("""
begin()
def work():
    cuda.cuCtxSetCurrent(context)
    for i in range(200):
        free(alloc(1024))
threads = [threading.Thread(target=work) for i in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
"""))
        self.assertEqual(len(rows), 1600)
        self.assertEqual(len({row["Thread"] for row in rows}), 4)
        live = {}
        for action, pointer, size, _ in self.calls(rows):
            if action == "allocate":
                self.assertNotIn(pointer, live)
                live[pointer] = size
            else:
                self.assertEqual(live.pop(pointer), size)
        self.assertEqual(live, {})

    def test_a_killed_program_leaves_its_trace(self):
        done, rows = self.record(scripted("""
begin()
for i in range(1000):
    alloc(512)
os.kill(os.getpid(), 9)
"""), "--call-paths", status=128 + 9)
        self.assertEqual(len(rows), 1000, done.stderr)
        self.assertIn("ffi", rows[-1]["Site"])

    def test_a_child_is_not_in_its_parents_trace(self):
        _, rows = self.record(scripted("""
begin()
alloc(512)
if os.fork() == 0:
    alloc(1024)
    os._exit(0)
os.wait()
alloc(2048)
"""))
        self.assertEqual([row["Size"] for row in rows], ["512", "2048"])

    def test_the_process_that_uses_cuda_is_the_one(self):
        program = scripted("""
import subprocess
subprocess.run(["true"], check=True)
if len(sys.argv) == 1:
    subprocess.run([sys.executable, "-c", sys.stdin.read(), "child"], check=True)
""")
        done = subprocess.run([BERTH, "trace", "record", "-o", self.output, "--", sys.executable,
                               "-c", program], env=self.env, text=True, timeout=DEADLINE_S,
                              input=scripted("begin()\nalloc(4096)"), stderr=subprocess.PIPE,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([row["Size"] for row in self.rows()], ["4096"])

    def test_a_call_that_is_refused_stays_one(self):
        done, rows = self.record(scripted("""
begin()
p = ctypes.c_uint64()
say([cuda.cuMemAllocPitch_v2(ctypes.byref(p), None, ctypes.c_size_t(64), ctypes.c_size_t(4), 4),
     cuda.cuMemAllocPitch_v2(None, None, ctypes.c_size_t(64), ctypes.c_size_t(4), 4),
     cuda.cuMemAlloc_v2(None, ctypes.c_size_t(64)), cuda.cuMemAllocAsync(None, None, None),
     cuda.cuMemHostAlloc(None, ctypes.c_size_t(64), 0), cuda.cuArrayCreate_v2(None, None),
     cuda.cuMemCreate(None, ctypes.c_size_t(64), None, ctypes.c_uint64(0))])
"""))
        self.assertEqual(json.loads(done.stdout), [1] * 7)
        self.assertEqual([row for row in rows if row["Action"] == "alloc"], [])

    def test_a_program_may_end_as_one_that_did_not_start(self):
        for status in (125, 126, 127):
            _, rows = self.record(scripted(f"begin(); alloc(5000); os._exit({status})"),
                                  status=status)
            self.assertEqual([row["Size"] for row in rows], ["5000"])

    def test_the_program_ends_as_by_itself(self):
        for status in (0, 3, 255):
            done = self.berth("trace", "record", "-o", self.output, "--", sys.executable, "-c",
                              scripted(f"begin(); sys.exit({status})"))
            self.assertEqual(done.returncode, status)
        done = self.berth("trace", "record", "-o", self.output, "--", "sh", "-c", "exit 7")
        self.assertEqual(done.returncode, 7)
        self.assertIn("has not initialised CUDA", done.stderr)
        done = self.berth("trace", "record", "-o", self.output, "--", self.root + "/missing")
        self.assertEqual(done.returncode, 127)
        self.nothing_is_left()
        for status in (125, 126, 127):
            _, rows = self.record(scripted(f"begin(); alloc(512); sys.exit({status})"),
                                  status=status)
            self.assertEqual(len(rows), 1)
            os.unlink(self.output)

    def test_what_is_no_file_stays_what_it_is(self):
        """A device is written to, a link is followed; neither is replaced."""
        program = [sys.executable, "-c", scripted("begin(); alloc(512)")]
        os.mkfifo(self.root + "/fifo")
        with open(self.output, "wb"):
            os.symlink(self.output, self.root + "/link")
        reader = os.open(self.root + "/fifo", os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        for name in ("/fifo", "/link"):
            done = self.berth("trace", "record", "-o", self.root + name, "--", *program)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(os.read(reader, 4096).startswith(b"Thread,Time"))
        self.assertEqual(len(self.rows()), 1)
        self.assertTrue(os.path.islink(self.root + "/link"))
        plan = self.berth("trace", "plan", self.output, "-o", self.root + "/fifo")
        self.assertEqual(plan.returncode, 0, plan.stderr)
        self.assertGreater(len(os.read(reader, 4096)), 64)
        self.assertTrue(os.path.exists(self.output))

    def kept(self, done):
        """Where a recording stays, until the test is over."""
        self.assertIn("the recording stays in ", done.stderr)
        path = done.stderr.split("stays in ")[1].split(";")[0]
        self.addCleanup(os.unlink, path)
        return path

    def test_a_recording_is_not_lost(self):
        """A folder is refused beforehand; where text cannot be made, the recording is kept."""
        done = self.berth("trace", "record", "-o", self.root, "--", sys.executable, "-c",
                          "print('ran')")
        self.assertEqual((done.returncode, done.stdout), (125, ""))
        self.assertIn("is a folder; expected a file's name", done.stderr)
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([BERTH, "trace", "record", "-o", "-", "--", sys.executable, "-c",
                                   scripted("begin(); alloc(512)")], env=self.env, text=True,
                                  stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        kept = self.kept(done)
        text = self.berth("trace", "export", kept)
        self.assertEqual((text.returncode, text.stdout.count("allocate")), (0, 1), text.stderr)

    def test_a_trace_that_cannot_grow_is_marked(self):
        limited = scripted("""
import resource
begin()
free(alloc(512))  # from now on the driver needs no more of its own
resource.setrlimit(resource.RLIMIT_FSIZE, (5 << 20, 5 << 20))
for i in range(70000):
    p = alloc(512); free(p)
say("done")
""")
        done, rows = self.record(limited)
        self.assertEqual(json.loads(done.stdout), "done")
        self.assertIn("the trace is truncated", done.stderr)
        self.assertEqual(done.stderr.count("the trace ends here"), 1)
        self.assertGreater(len(rows), 65000)

    def test_mistakes_are_told(self):
        for args, status, text in (
                ((), 2, "either a program to start or -p PID"),
                (("-p", "1", "--", "true"), 2, "either a program"),
                (("--seconds", "1", "--", "true"), 2, "--seconds is for -p"),
                (("--seconds", "x", "-p", "1"), 2, "no duration"),
                (("-p", "x"), 1, "is not a PID"),
                (("-o", "/nonexistent/f", "--", "true"), 125, "No such file")):
            done = self.berth("trace", "record", *args)
            self.assertEqual((done.returncode, done.stdout), (status, ""), args)
            self.assertIn(text, done.stderr)

    def test_a_device_is_written_to_and_not_replaced(self):
        os.symlink("/dev/full", self.output)
        done = self.berth("trace", "record", "-o", self.output, "--", sys.executable, "-c",
                          scripted("begin(); alloc(5000)"))
        self.assertIn("No space left", done.stderr)
        self.assertTrue(os.path.islink(self.output))
        self.kept(done)

    def test_a_file_that_is_no_recording_is_named(self):
        with open(self.output, "w", encoding="utf-8") as file:
            file.write("Thread,Time\n" * 100)
        done = self.berth("trace", "export", self.output)
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stderr.startswith(f"berth: {self.output}: "), done.stderr)

    def test_what_has_no_end_is_refused(self):
        """Each input goes on until the tool has refused it; none is ever read to its end."""
        header = b"Action,Pointer,Size\n"
        pieces = {
            "": (b"\0" * 65536, ":1: there is a byte 0; expected text"),
            "zero": (header, b"\0" * 65536, ":2: there is a byte 0; expected text"),
            "quoted": (header + b'"', b"\0" * 65536, ":2: there is a byte 0; expected text"),
            "words": (b"y\n" * 32768, ":1: there is no column 'Action'"),
            "line": (header, b"y" * 65536, ":2: the line is longer than 1048576 bytes"),
            "blank": (header, b" " * 65536, ":2: the line is longer than 1048576 bytes"),
            "head": (b"y" * 65536, ":1: the line is longer than 1048576 bytes")}
        for command in (["replay"], ["plan", "-o", self.output], ["export"]):
            for name, (*text, why) in pieces.items():
                self.endless(command, text, why if command != ["export"] else None, name)

    def endless(self, command, text, why, name):
        with subprocess.Popen([BERTH, "trace", *command, "/dev/stdin"], env=self.env, bufsize=0,
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE) as tool:
            with self.assertRaises(BrokenPipeError, msg=(command, name)):
                tool.stdin.write(text[0])
                for _ in range(1024):
                    tool.stdin.write(text[-1])
            told = tool.stderr.read().decode()
            self.assertEqual(tool.wait(DEADLINE_S), 1, (command, name, told))
        self.assertRegex(told, re.escape(why) if why else r"no recording|:1: ", (command, name))

    def test_by_the_environment_alone(self):
        raw = self.root + "/raw"
        self.berth("run", "-o", "trace-paths=on", "--", sys.executable, "-c",
                   scripted("begin()\nalloc(512)"), env={"BERTH_TRACE": raw})
        done = self.berth("trace", "export", raw)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("\n"), 2)
        self.assertIn("ffi", done.stdout)
        # Another process finds it in use, and leaves it alone.
        before = os.stat(raw).st_mtime_ns
        again = self.berth("run", "--", sys.executable, "-c",
                           scripted("begin()\nsay(alloc(512) != 0)"), env={"BERTH_TRACE": raw})
        self.assertEqual((again.stdout, again.stderr), ("true\n", ""))
        self.assertEqual(os.stat(raw).st_mtime_ns, before)
        os.unlink(raw)


class Attach(Case):
    """berth trace record -p PID"""

    def attach(self, process, *args):
        tool = subprocess.Popen([BERTH, "trace", "record", "-o", self.output, "-p",
                                 str(process.pid), *args], env=self.env, text=True,
                                stderr=subprocess.PIPE)
        self.addCleanup(tool.stderr.close)
        self.assertIn("recording process", tool.stderr.readline())
        return tool

    def finish(self, tool):
        self.assertEqual(tool.wait(DEADLINE_S), 0, tool.stderr.read())
        return self.calls(self.rows())

    def test_until_interrupted(self):
        with self.running() as process:
            before = self.ask(process, "alloc(3 << 20)")
            gone = self.ask(process, "alloc(100)")
            self.assertEqual(self.ask(process, f"free({gone})"), 0)
            tool = self.attach(process, "--call-paths")
            during = self.ask(process, "alloc(1000)")
            self.assertEqual(self.ask(process, f"free({before})"), 0)
            tool.send_signal(signal.SIGINT)
            rows = self.finish(tool)
            self.assertEqual(rows, [("allocate", before, 3 * MIB, "device"),
                                    ("allocate", during, 1000, "device"),
                                    ("free", before, 3 * MIB, "device")])
            self.assertIn("ffi", self.rows()[1]["Site"])
            # It goes on untraced, and can be traced again.
            self.ask(process, "alloc(2000)")
            tool = self.attach(process)
            self.ask(process, "alloc(4000)")
            tool.send_signal(signal.SIGTERM)
            self.assertEqual(sorted(row[2] for row in self.finish(tool)), [1000, 2000, 4000])
        self.nothing_is_left()

    def test_for_some_time(self):
        """The program may not come to its turn in a short time: a longer one follows then."""
        for seconds in ("0.2", "2", "20"):
            with self.running() as process:
                tool = self.attach(process, "--seconds", seconds)
                self.ask(process, "alloc(1000)")
                sizes = [row[2] for row in self.finish(tool)]
            self.assertIn(sizes, ([], [1000]))
            if sizes:
                return
        self.fail("a call within 20 s is not there")

    def test_until_the_process_dies(self):
        with self.running() as process:
            tool = self.attach(process)
            self.ask(process, "alloc(1000)")
            process.kill()
            self.assertEqual([row[2] for row in self.finish(tool)], [1000])

    def test_a_tool_that_is_killed_leaves_no_trace_going_on(self):
        with self.running() as process:
            tool = self.attach(process)
            tool.kill()
            tool.wait(DEADLINE_S)
            end = time.monotonic() + DEADLINE_S
            while self.berth("trace", "record", "-o", self.output, "-p", str(process.pid),
                             "--seconds", "0.01").returncode != 0:
                self.assertLess(time.monotonic(), end, "the first trace goes on")
        self.nothing_is_left()

    def test_two_at_once_are_refused(self):
        with self.running() as process:
            tool = self.attach(process)
            done = self.berth("trace", "record", "-o", self.root + "/out.pickle", "-p",
                              str(process.pid))
            self.assertEqual(done.returncode, 1)
            self.assertIn("a trace is going on already", done.stderr)
            tool.send_signal(signal.SIGINT)
            self.finish(tool)

    def test_only_an_empty_file_is_taken(self):
        """What others may send to the socket; the program goes on whatever it is."""
        def asked(descriptors, request):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(DEADLINE_S)
                client.connect(glob.glob(self.root + "/runtime/berth/*.sock")[0])
                lines = client.makefile("r", encoding="utf-8")
                lines.readline()
                frame = json.dumps(request).encode() + b"\n"
                if descriptors:
                    socket.send_fds(client, [frame], descriptors)
                else:
                    client.sendall(frame)
                reply = json.loads(lines.readline())
                lines.close()
                return reply["error"]["code"] if "error" in reply else reply

        start = {"op": "trace.start"}
        reader, writer = os.pipe()
        with self.running() as process, tempfile.TemporaryFile() as full, \
                tempfile.TemporaryFile() as empty, open("/dev/null", "wb") as null, \
                tempfile.TemporaryFile() as other:
            full.write(b"x")
            full.flush()
            self.assertEqual(asked([], start), "no-descriptor")
            for descriptors in ([reader], [writer], [null.fileno()], [full.fileno()],
                                [empty.fileno(), other.fileno()]):
                self.assertEqual(asked(descriptors, start), "bad-descriptor")
            self.assertEqual(asked([empty.fileno()], {**start, "call_paths": 1}), "bad-request")
            self.assertEqual(asked([], {"op": "trace.stop"}), "no-trace")
            self.assertEqual(asked([], {"op": "trace.state"})["tracing"], False)
            self.assertEqual(asked([empty.fileno()], start)["call_paths"], False)
            self.assertEqual(asked([other.fileno()], start), "busy")
            self.ask(process, "alloc(1000)")
            self.assertEqual(asked([], {"op": "trace.state"})["tracing"], True)
            self.assertEqual(asked([], {"op": "trace.stop"})["records"], 1)
            self.assertEqual(os.fstat(other.fileno()).st_size, 0)
            self.assertNotEqual(self.ask(process, "alloc(1000)"), 0)
        os.close(reader)
        os.close(writer)

    def test_a_program_that_closes_all_descriptors(self):
        with self.running() as process:
            tool = self.attach(process)
            self.ask(process, "os.closerange(3, 4096)")
            self.ask(process, "alloc(1000)")
            tool.send_signal(signal.SIGINT)
            self.assertEqual([row[2] for row in self.finish(tool)], [1000])


class Snapshot(Case):
    """berth snapshot PID -o FILE"""

    FILL = ["alloc(1000)", "alloc(1 << 20)", "alloc(5 << 20)", "alloc(64 << 20)",
            "alloc_async(7000000)", "pitch(1000, 7)", "host(4096)"]

    def snapshot(self, process):
        path = self.root + "/out.pickle"
        done = self.berth("snapshot", str(process.pid), "-o", path)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        with open(path, "rb") as file:
            return pickle.load(file)

    def account(self, process):
        done = self.berth("stat", str(process.pid), "--json")
        return next(tier for tier in json.loads(done.stdout)["tiers"] if tier["name"] == "device")

    def check(self, snapshot):
        """The structure that PyTorch documents, and sums within each segment."""
        self.assertGreaterEqual(set(snapshot),
                                {"segments", "device_traces", "allocator_settings"})
        for segment in snapshot["segments"]:
            self.assertGreaterEqual(set(segment), {
                "device", "address", "total_size", "allocated_size", "active_size",
                "requested_size", "stream", "segment_type", "segment_pool_id", "is_expandable",
                "frames", "blocks"})
            self.assertIn(segment["segment_type"], ("small", "large"))
            at = segment["address"]
            for block in segment["blocks"]:
                self.assertEqual(block["address"], at)
                self.assertIn(block["state"],
                              ("active_allocated", "active_pending_free", "inactive"))
                self.assertLessEqual(block["requested_size"], block["size"])
                self.assertIsInstance(block["frames"], list)
                at += block["size"]
            self.assertEqual(at, segment["address"] + segment["total_size"])
            live = [b for b in segment["blocks"] if b["state"] == "active_allocated"]
            self.assertEqual(segment["allocated_size"], sum(b["size"] for b in live))
            self.assertEqual(segment["requested_size"], sum(b["requested_size"] for b in live))
        for trace in snapshot["device_traces"]:
            for event in trace:
                self.assertIn(event["action"], ("alloc", "free_requested", "free_completed",
                                                "segment_alloc", "segment_free", "oom"))
                self.assertGreaterEqual(set(event), {"size", "stream", "time_us", "frames"})
                self.assertIn("device_free" if event["action"] == "oom" else "addr", event)

    def test_the_sums_are_the_accounts(self):
        for options in ((), ("segments=shared",), ("segments=expandable",), ("free=lazy",)):
            with self.subTest(options):
                self.sums_are_the_accounts(*options)

    def sums_are_the_accounts(self, *options):
        with self.running(*options) as process:
            blocks = [self.ask(process, text) for text in self.FILL]
            self.ask(process, f"free({blocks[1]})")
            self.ask(process, f"free({blocks[2]})")
            snapshot = self.snapshot(process)
            account = self.account(process)
            self.check(snapshot)
            segments = snapshot["segments"]
            for key, name in (("total_size", "reserved"), ("allocated_size", "held"),
                              ("requested_size", "requested")):
                self.assertEqual(sum(s[key] for s in segments), account[name], name)
            if options != ("free=lazy",):  # what was freed is ready for reuse
                self.assertEqual(sum(s["active_size"] for s in segments), account["held"])
            live = {b["address"]: b["requested_size"] for s in segments for b in s["blocks"]
                    if b["state"] == "active_allocated"}
            self.assertEqual(len(live), account["blocks"])
            self.assertEqual((live[blocks[0]], live[blocks[3]], live[blocks[4]]),
                             (1000, 64 * MIB, 7000000))
            self.assertNotIn(blocks[2], live)
            self.assertEqual(snapshot["device_traces"], [[]])
            is_expandable = options == ("segments=expandable",)
            self.assertEqual(any(s["is_expandable"] for s in segments), is_expandable)
            self.assertEqual(snapshot["allocator_settings"]["expandable_segments"], is_expandable)

    def test_blocks_that_hold_more_than_they_need_add_up(self):
        for options, is_larger in (((), True), (("segments=shared",), False)):
            with self.subTest(options), self.running(*options) as process:
                for size in (9, 64, 17):
                    self.ask(process, f"free({self.ask(process, f'alloc({size} << 20)')})")
                # Of what is idle the nearest: 64 MiB for 50, and 17 for 12.
                asked = {self.ask(process, f"alloc({size} << 20)"): size * MIB
                         for size in (50, 12, 1)}
                snapshot = self.snapshot(process)
                account = self.account(process)
                self.check(snapshot)
                segments = snapshot["segments"]
                live = {b["address"]: b for s in segments for b in s["blocks"]
                        if b["state"] == "active_allocated"}
                self.assertEqual({at: b["requested_size"] for at, b in live.items()}, asked)
                self.assertEqual(max(b["size"] for b in live.values()),
                                 (64 if is_larger else 50) * MIB)
                for key, name in (("total_size", "reserved"), ("requested_size", "requested"),
                                  ("allocated_size", "held")):
                    self.assertEqual(sum(s[key] for s in segments), account[name], name)
                self.assertEqual(account["reserved"],
                                 account["held"] + account["cached"] + account["overhead"])

    def test_the_history_is_the_programs(self):
        with self.running("history=1000", "trace-paths=on") as process:
            a = self.ask(process, "alloc(1000)")
            b = self.ask(process, "alloc(5 << 20)")
            self.ask(process, f"free({b})")
            self.ask(process, "host(4096)")
            self.ask(process, "alloc(1 << 50)")  # gives the cache back, so b's segment is gone
            snapshot = self.snapshot(process)
        self.check(snapshot)
        events = [(e["action"], e.get("addr"), e["size"]) for e in snapshot["device_traces"][0]]
        self.assertEqual([event for event in events if not event[0].startswith("segment")],
                         [("alloc", a, 1000), ("alloc", b, 5 * MIB),
                          ("free_requested", b, 5 * MIB), ("free_completed", b, 5 * MIB),
                          ("oom", None, 1 << 50)])
        # The page looks for the segment of each block that it meets on its way back in time.
        places = [(s["address"], s["total_size"]) for s in snapshot["segments"]]
        places += [(e["addr"], e["size"]) for e in snapshot["device_traces"][0]
                   if e["action"] == "segment_alloc"]
        for action, address, size in events:
            if action == "alloc":
                self.assertTrue(any(base <= address and address + size <= base + total
                                    for base, total in places), (action, address))
        frames = snapshot["device_traces"][0][0]["frames"]
        self.assertTrue(any("ffi" in frame["filename"] for frame in frames), frames)
        self.assertEqual(set(frames[0]), {"name", "filename", "line"})
        block = next(block for s in snapshot["segments"] for block in s["blocks"]
                     if block["address"] == a)
        self.assertEqual(block["frames"], frames)
        self.assertEqual(snapshot["allocator_settings"]["berth"]["history"], "1000")

    def test_many_blocks_while_the_program_runs(self):
        busy = scripted("""
begin()
kept = [alloc(512 * (1 + i % 7)) for i in range(5000)]
stop = threading.Event()
def work():
    cuda.cuCtxSetCurrent(context)
    while not stop.is_set():
        free(alloc(3000))
threads = [threading.Thread(target=work) for i in range(2)]
[t.start() for t in threads]
say("ready")
sys.stdin.readline()
stop.set()
""")
        with self.running("history=5000", program=busy) as process:
            for _ in range(5):
                snapshot = self.snapshot(process)
                self.check(snapshot)
                self.assertGreaterEqual(sum(b["state"] == "active_allocated"
                                            for s in snapshot["segments"] for b in s["blocks"]),
                                        5000)
            process.stdin.write("\n")
            process.stdin.flush()
            self.assertEqual(process.wait(DEADLINE_S), 0)

    def test_pytorch_reads_it(self):
        try:
            from torch.cuda import _memory_viz  # pylint: disable=import-outside-toplevel
        except ImportError:
            self.skipTest("this Python has no PyTorch with torch.cuda._memory_viz")
        with self.running("history=1000", "trace-paths=on") as process:
            for text in self.FILL:
                self.ask(process, text)
            self.ask(process, "free(alloc(9 << 20))")
            snapshot = self.snapshot(process)
        is_old = not hasattr(_memory_viz, "segsum")  # these took the segments alone
        for name in ("memory", "segments"):
            text = getattr(_memory_viz, name)(snapshot["segments"] if is_old else snapshot,
                                              format_flamegraph=lambda lines: lines)
            self.assertIn("active_allocated", text)
        _memory_viz.compare(snapshot["segments"], snapshot["segments"],
                            format_flamegraph=lambda lines: lines)
        if not is_old:
            self.assertIn("total_reserved", _memory_viz.segsum(snapshot))
            self.assertIn("entries", _memory_viz.trace(snapshot))
            self.assertIn("snapshot.pickle", _memory_viz.trace_plot(snapshot))

    def test_mistakes_are_told(self):
        done = self.berth("snapshot", "1")
        self.assertEqual(done.returncode, 2)
        self.assertIn("-o FILE", done.stderr)
        with self.running() as process:
            done = self.berth("snapshot", str(process.pid), "-o", "/nonexistent/file")
            self.assertEqual(done.returncode, 1)
            self.assertIn("/nonexistent/file", done.stderr)
            done = subprocess.run([BERTH, "snapshot", str(process.pid), "-o", "-"], env=self.env,
                                  stdout=subprocess.PIPE, timeout=DEADLINE_S, check=True)
            self.check(pickle.loads(done.stdout))


if __name__ == "__main__":
    BERTH, FAKE_CUDA = (os.path.abspath(argument) for argument in sys.argv[1:3])
    del sys.argv[1:3]
    unittest.main()
