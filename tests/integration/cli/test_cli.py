# SPDX-License-Identifier: Apache-2.0
"""Goal: `berth` starts programs that stay themselves, finds those that run, and leaves nothing of
those that died.

Method: real programs under the real tool, in a runtime directory of the test's own. What happens
in another process is waited for by asking again, up to a deadline. Arguments: berth, the example
agent, the folder of the simulated CUDA driver; then unittest's.
"""
import contextlib
import glob
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BERTH = ""
AGENT = ""
FAKE_CUDA = ""
DEADLINE_S = 30

POLICY = """tier far {
  kind = file
  path = "%s"
  capacity = 256M
}
rule large {
  min-size = 1M
  place = { far, dram }
}
rule middle {
  min-size = 64K
  place = { dram }
}
"""

# Holds 8 MiB in `far` and says so; goes on when its stdin says so, line by line.
HOLDER = """
import sys
held = [bytearray(1 << 21) for _ in range(4)]
print("ready", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


# Holds 65 MiB of device memory, and has given 5 back.
DEVICE = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
device, context = ctypes.c_int(), ctypes.c_void_p()
assert cuda.cuInit(0) == 0
assert cuda.cuDeviceGet(ctypes.byref(device), 0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
assert cuda.cuCtxSetCurrent(context) == 0
blocks = [ctypes.c_uint64() for _ in range(3)]
for block, mib in zip(blocks, (1, 5, 64)):
    assert cuda.cuMemAlloc_v2(ctypes.byref(block), ctypes.c_size_t(mib << 20)) == 0
assert cuda.cuMemFree_v2(blocks[1]) == 0
print("ready", flush=True)
input()
"""


class Case(unittest.TestCase):
    """Runs the tool with a runtime directory and an environment of its own."""

    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="berth-cli-")
        self.addCleanup(shutil.rmtree, self.root, True)
        self.runtime = os.path.join(self.root, "runtime")
        os.mkdir(self.runtime, 0o700)
        self.far = os.path.join(self.root, "far")
        os.mkdir(self.far)
        self.policy = self.write("test.policy", POLICY % self.far)
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith("BERTH_") and k != "LD_PRELOAD"}
        self.env["XDG_RUNTIME_DIR"] = self.runtime

    def write(self, name, text):
        path = os.path.join(self.root, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def berth(self, *args, stdin="", env=None):
        return subprocess.run([BERTH, *args], input=stdin, env={**self.env, **(env or {})},
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=DEADLINE_S * 4, check=False)

    def good(self, *args, **more):
        done = self.berth(*args, **more)
        self.assertEqual((done.returncode, done.stderr), (0, ""), args)
        return done.stdout

    def refused(self, text, *args, status=1):
        """The tool ends with `status`, nothing on stdout and one line that contains `text`."""
        done = self.berth(*args)
        self.assertEqual((done.returncode, done.stdout), (status, ""), done.stderr)
        self.assertIn(text, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    @contextlib.contextmanager
    def running(self, *args, program=HOLDER, ready="ready", env=None):
        """A Python program under Berth that has said that it is ready."""
        with subprocess.Popen([BERTH, "run", *args, "--", sys.executable, "-c", program],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              start_new_session=True,
                              env={**self.env, **(env or {})}) as process:
            try:
                self.assertEqual(process.stdout.readline().strip(), ready)
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # its children too

    def holder(self, **more):
        return self.running("--policy", self.policy, **more)

    def tell(self, process, line):
        process.stdin.write(line + "\n")
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), "done\n")

    def until(self, check):
        """Repeats `check` until it answers something true, which is returned."""
        end = time.monotonic() + DEADLINE_S
        while True:
            found = check()
            if found:
                return found
            self.assertLess(time.monotonic(), end, "the deadline has passed")
            time.sleep(0.01)

    def listed(self):
        return {entry["pid"]: entry for entry in json.loads(self.good("ps", "--json"))}

    def wait_listed(self, pid):
        return self.until(lambda: self.listed().get(pid))

    def stat(self, pid):
        return json.loads(self.good("stat", str(pid), "--json"))

    def sockets(self):
        return glob.glob(self.runtime + "/berth/*.sock")


class Run(Case):
    """berth run"""

    def test_every_exit_status_is_the_commands_own(self):
        for status in range(256):
            done = self.berth("run", "--", "sh", "-c", f"exit {status}")
            self.assertEqual((done.returncode, done.stdout, done.stderr), (status, "", ""))

    def test_every_deadly_signal_is_the_commands_own(self):
        # A shell that starts this in the background has these ignored, nohup the third, and so would
        # the command.
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            self.addCleanup(signal.signal, number, signal.signal(number, signal.default_int_handler
                            if number == signal.SIGINT else signal.SIG_DFL))
        for name in ("HUP", "INT", "QUIT", "ILL", "ABRT", "FPE", "KILL", "SEGV", "PIPE", "ALRM",
                     "TERM", "USR1", "USR2", "BUS", "XCPU"):
            done = self.berth("run", "--policy", self.policy, "--", "sh", "-c",
                              f"ulimit -c 0; kill -{name} $$")
            self.assertEqual(done.returncode, -getattr(signal, "SIG" + name))

    def test_input_and_output_pass_through(self):
        text = "".join(f"line {i} ä\n" for i in range(50000))
        self.assertEqual(self.good("run", "--policy", self.policy, "--", "cat", stdin=text), text)

    def test_arguments_arrive_as_they_were(self):
        arguments = ["", " ", "a b", "--policy", "-o", "--", "ü\n", "$HOME", "*"]
        told = self.good("run", sys.executable, "-c", "import sys; print(ascii(sys.argv[1:]))",
                         *arguments)
        self.assertEqual(told.strip(), ascii(arguments))

    def test_only_the_named_variables_change(self):
        show = ("run", "--policy", self.policy, "--", "env", "-0")
        before = {**self.env, "LD_PRELOAD": "libm.so.6", "BERTH_OPTIONS": "site-depth=4"}
        after = dict(entry.split("=", 1)
                     for entry in self.good(*show, env=before).split("\0") if entry)
        preloaded = after.pop("LD_PRELOAD").split(":")
        self.assertEqual([os.path.basename(path) for path in preloaded],
                         ["libm.so.6", "libberth-malloc.so", "libberth.so"])
        kept = after.pop("BERTH_POLICY")
        self.assertRegex(kept, re.escape(self.runtime) + r"/berth/policy-[0-9a-f]{16}\.table")
        self.assertEqual(after.pop("BERTH_POLICY_SOURCE"),
                         kept + "=" + os.path.realpath(self.policy))
        self.assertEqual(after.pop("BERTH_OPTIONS"), "site-depth=4")
        for name in ("LD_PRELOAD", "BERTH_OPTIONS"):
            del before[name]
        after.pop("_", None)
        before.pop("_", None)
        self.assertEqual(after, before)

    def test_the_malloc_side_comes_only_when_it_is_needed(self):
        device_only = self.write("device.policy", "rule d { side = device place = { device } }\n")
        cases = [((), False), (("--policy", self.policy), True), (("-o", "host=on"), True),
                 (("--policy", self.policy, "-o", "host=off"), False),
                 (("--policy", device_only), False),
                 (("--policy", device_only, "-o", "host=on"), True)]
        for args, expected in cases:
            told = self.berth("run", *args, "--", "sh", "-c", "echo $LD_PRELOAD").stdout
            self.assertEqual("libberth-malloc.so" in told, expected, args)
            self.assertIn("libberth.so", told)

    def test_options_are_appended_and_checked(self):
        told = self.good("run", "-o", "site-depth=8", "-o", "record-threshold=1M", "--", "sh", "-c",
                         "echo $BERTH_OPTIONS", env={"BERTH_OPTIONS": "site-depth=4"})
        self.assertEqual(told, "site-depth=4,site-depth=8,record-threshold=1M\n")
        for text, part in (("nonsense=1", "nonsense"), ("site-depth=0", "1 to 128"),
                           ("site-depth", "has no value"), ("host=perhaps", "auto|on|off")):
            self.refused(part, "run", "-o", text, "--", "echo", "started", status=125)

    def test_a_wrong_policy_refuses_with_the_messages_of_check(self):
        wrong = self.write("wrong.policy", "tier t { kind = filr path = \"/x\" }\n"
                                           "rule r { place = { nowhere } }\n")
        told = self.berth("run", "--policy", wrong, "--", "echo", "started")
        checked = self.berth("policy", "check", wrong)
        self.assertEqual((told.returncode, told.stdout, checked.returncode), (125, "", 1))
        self.assertIn("wrong.policy:1: ", told.stderr)
        self.assertIn("wrong.policy:2: ", told.stderr)
        self.assertEqual(told.stderr, checked.stderr)
        done = self.berth("run", "--policy", self.root + "/missing", "--", "echo", "started")
        self.assertEqual((done.returncode, done.stdout), (125, ""))

    def test_what_cannot_be_started_ends_as_in_a_shell(self):
        self.refused("No such file", "run", "--", self.root + "/missing", status=127)
        self.refused("No such file", "run", "--", "berth-no-such-command", status=127)
        self.refused("Permission denied", "run", "--", self.policy, status=126)
        self.refused("Permission denied", "run", "--", self.root, status=126)
        self.refused("there is no command", "run", status=125)
        self.env["PATH"] += ":" + self.policy + ":" + self.root
        self.refused("No such file", "run", "--", "berth-no-such-command", status=127)
        self.refused("Permission denied", "run", "--", "test.policy", status=126)

    def test_a_tier_that_cannot_be_had_is_said_once(self):
        policy = self.write("missing.policy",
                            'tier gone { kind = file  path = "/nonexistent/berth" }\n'
                            'rule all { side = host  place = { gone, dram } }\n')
        done = self.berth("run", "--policy", policy, "--", "sh", "-c",
                          "for i in 1 2 3; do sh -c 'echo $0 is fine' $i; done")
        self.assertEqual(done.stdout, "1 is fine\n2 is fine\n3 is fine\n")
        self.assertEqual(done.stderr.count("gone"), 1, done.stderr)
        self.assertIn("tier gone cannot be had", done.stderr)

    def test_huge_pages_that_cannot_be_had_are_said_once(self):
        policy = self.write("huge.policy", f"""
tier huge {{ kind = file  path = "{self.root}"  huge-pages = always }}
rule all {{ side = host  place = {{ huge, dram }} }}
""")
        done = self.berth("run", "--policy", policy, "--", "sh", "-c", "sh -c true; sh -c true")
        self.assertEqual(done.stderr, "berth: tier huge: no huge pages can be had: its directory "
                                      "is no hugetlbfs; transparent ones are asked for\n")

    def test_a_kind_that_is_built_in_only_is_said_once(self):
        policy = self.write("builtin.policy", "tier x { kind = pinned }\n"
                                              "rule all { side = host  place = { x, dram } }\n")
        done = self.berth("run", "--policy", policy, "--", "sh", "-c", "sh -c true; sh -c true")
        self.assertEqual(done.stderr.count("tier x cannot be had"), 1, done.stderr)

    def test_what_is_no_table_holds_nothing_up(self):
        pipe = os.path.join(self.root, "pipe")
        os.mkfifo(pipe)
        huge = self.write("huge", "")
        os.truncate(huge, 1 << 40)
        for path, why in ((pipe, "it is no file"), (self.root, "it is no file"),
                          (self.write("empty", ""), "it is empty"), (huge, "larger than 4 GiB"),
                          (self.policy, "it is not a compiled table")):
            done = self.berth("run", "-o", "host=on", "--", "echo", "fine",
                              env={"BERTH_POLICY": path})
            self.assertEqual((done.returncode, done.stdout), (0, "fine\n"))
            self.assertIn(why, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_tables_that_nobody_needs_are_removed(self):
        week_ago = time.time() - 8 * 24 * 3600
        used = self.good("run", "--policy", self.policy, "--", "sh", "-c",
                         "echo $BERTH_POLICY").strip()
        folder = os.path.dirname(used)
        unused = os.path.join(folder, "policy-0123456789abcdef.table")
        shutil.copy(used, unused)
        other = self.write("other.policy", POLICY.replace("256M", "64M") % self.far)
        with subprocess.Popen(["cat"], env={**self.env, "BERTH_POLICY": used},
                              stdin=subprocess.PIPE) as user:
            for path in (used, unused):
                os.utime(path, (week_ago, week_ago))
            self.good("run", "--policy", other, "--", "true")
            self.assertEqual((os.path.exists(used), os.path.exists(unused)), (True, False))
            user.stdin.close()
        self.good("run", "--policy", self.policy, "--", "true")
        self.assertGreater(os.stat(used).st_mtime, week_ago + 3600)
        os.utime(used, (week_ago, week_ago))
        self.good("run", "--policy", other, "--", "true")
        self.assertFalse(os.path.exists(used))

    def test_the_same_policy_is_kept_once(self):
        for _ in range(3):
            self.good("run", "--policy", self.policy, "--", "true")
        self.write("test.policy", POLICY.replace("256M", "128M") % self.far)
        self.good("run", "--policy", self.policy, "--", "true")
        kept = os.listdir(self.runtime + "/berth")
        self.assertEqual(len(kept), 2, kept)
        for name in kept:
            mode = os.stat(os.path.join(self.runtime, "berth", name)).st_mode
            self.assertEqual(mode & 0o7777, 0o600)

    def test_children_that_allocate_little_are_silent(self):
        script = "true; for i in 1 2 3; do sh -c 'ls / >/dev/null'; done; echo end"
        told = self.berth("run", "-o", "host=on", "--", "sh", "-c", script)
        self.assertEqual((told.stdout, told.stderr), ("end\n", ""))
        self.assertEqual(glob.glob(self.runtime + "/*"), [])

    def test_nested_runs_preload_once(self):
        told = self.good("run", "--", BERTH, "run", "--", "sh", "-c", "echo $LD_PRELOAD")
        self.assertEqual(told.count("libberth.so"), 1)

    def test_a_path_that_ld_preload_cannot_name_is_refused(self):
        build = os.path.dirname(os.path.dirname(os.path.dirname(BERTH)))
        for name in ("a b", "a:b"):
            copy = os.path.join(self.root, name)
            for part in ("tools/berth", "hooks", "meson-private"):
                os.makedirs(os.path.join(copy, part))
            shutil.copy(BERTH, copy + "/tools/berth/berth")
            for library in glob.glob(build + "/hooks/libberth*.so"):
                shutil.copy(library, copy + "/hooks")
            done = subprocess.run([copy + "/tools/berth/berth", "run", "--", "true"], env=self.env,
                                  stderr=subprocess.PIPE, text=True, check=False)
            self.assertEqual(done.returncode, 125)
            self.assertIn("spaces", done.stderr)

    def test_a_program_has_no_descriptors_but_its_own(self):
        show = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"
        with self.running("-o", "control=always", program=show + "\nprint(os.listdir('/proc/"
                          "self/task').__len__())\ninput()", ready="[0, 1, 2]") as process:
            self.wait_listed(process.pid)

    def test_output_that_is_closed_is_closed(self):
        program = ("import os\nprint('ready', flush=True)\ninput()\nos.close(1)\nos.close(2)\n"
                   "input()")
        with self.running("-o", "control=always", program=program) as process:
            self.wait_listed(process.pid)
            process.stdin.write("go\n")
            process.stdin.flush()
            self.assertEqual(process.stdout.read(), "")
            self.assertIsNone(process.poll())
            self.assertIn(process.pid, self.listed())


class Ask(Case):
    """berth ps, stat, options, policy show and apply"""

    def test_the_account_adds_up(self):
        with self.holder() as process:
            self.wait_listed(process.pid)
            stat = self.stat(process.pid)
        sums = {"requested": 0, "held": 0, "blocks": 0, "reserved": 0, "cached": 0, "overhead": 0}
        for tier in stat["tiers"]:
            for key in ("requested", "held", "blocks", "allocs", "frees"):
                self.assertEqual(tier[key], sum(cell[key] for cell in tier["tags"]), tier["name"])
            self.assertEqual(tier["reserved"], tier["held"] + tier["cached"] + tier["overhead"])
            for cell in tier["tags"]:
                self.assertEqual(cell["blocks"], cell["allocs"] - cell["frees"])
                self.assertLessEqual(cell["requested"], cell["held"])
                self.assertLessEqual(cell["held"], cell["peak"])
            for key in sums:
                sums[key] += tier[key]
        totals = stat["totals"]
        for key, value in sums.items():
            self.assertEqual(totals[key], value)
        self.assertEqual(totals["held_with_small"], totals["held"] + stat["host"]["small_held"])
        far = {tier["name"]: tier for tier in stat["tiers"]}["far"]
        self.assertGreaterEqual(far["requested"], 8 << 20)
        self.assertEqual((far["kind"], far["capacity"]), ("file", 256 << 20))
        self.assertEqual([rule["name"] for rule in stat["rules"]], ["large", "middle"])
        self.assertGreaterEqual(stat["rules"][0]["matched_blocks"], 4)
        self.assertEqual(stat["table"]["version"], 1)

    def test_an_idle_program_gives_back_what_it_has_freed(self):
        policy = self.write("idle.policy", f"""
tier far {{ kind = file  path = "{self.far}"  decay = 200ms }}
rule large {{ side = host  min-size = 64K  place = {{ far, dram }} }}
""")
        program = ("blocks = [bytearray(1 << 20) for _ in range(30)]\ndel blocks\n"
                   "print('ready', flush=True)\ninput()")

        def reserved():
            return [t for t in self.stat(process.pid)["tiers"] if t["name"] == "far"][0]["reserved"]
        with self.running("--policy", policy, program=program) as process:
            self.wait_listed(process.pid)
            self.until(lambda: reserved() < 4 << 20)

    def test_people_get_tables(self):
        with self.holder() as process:
            self.wait_listed(process.pid)
            told = self.good("stat")
            self.assertEqual(self.good("stat", str(process.pid)).splitlines()[2],
                             told.splitlines()[2])
            ps = self.good("ps")
        self.assertRegex(told, rf"^\S+python\S*  pid {process.pid}  up \d+ s  policy version 1 ")
        self.assertRegex(told, r"\nTAG +TIER +REQUESTED +HELD +BLOCKS +PEAK\n")
        self.assertRegex(told, r"\nuntagged +far +\d+\.?\d* MiB +\d+\.?\d* MiB +\d+ +")
        self.assertRegex(told, r"\nuntagged \(small\) +dram +- +\d+\.?\d* [KM]iB +- +-\n")
        self.assertRegex(told, r"\ntotal +\d")
        self.assertRegex(told, r"\nfar +file +256\.?0? MiB ")
        self.assertRegex(told, r"\nRULE +MATCHED +BYTES +SPILLS +SPILLED\nlarge +\d+ +\d")
        self.assertRegex(ps, rf"PID +PROGRAM +UPTIME +TIERS +HELD\n *{process.pid} +python\S* ")

    def test_hundreds_of_rules_are_all_told(self):
        rules = "".join(f"rule r{i} {{ min-size = 2M  max-size = 2M  place = {{ dram }} }}\n"
                        for i in range(700))
        many = self.write("many.policy", rules + POLICY % self.far)
        with self.running("--policy", many) as process:
            self.wait_listed(process.pid)
            stat = self.stat(process.pid)
            self.assertEqual(stat["rule_count"], 702)
            self.assertEqual([rule["name"] for rule in stat["rules"]],
                             [f"r{i}" for i in range(700)] + ["large", "middle"])
            self.assertEqual(self.good("policy", "show", str(process.pid)),
                             self.good("policy", "show", many))

    def test_which_process_is_meant_must_be_clear(self):
        self.refused("no process under Berth was found", "stat")
        self.refused("or with -o control=always", "stat", str(os.getpid()))
        self.refused("is not a PID", "stat", "zero")
        self.refused("is not a PID", "stat", "--", "-5")
        self.refused("has no control socket", "stat", str(os.getpid()))
        with subprocess.Popen(["true"]) as gone:
            gone.wait()
        self.refused(f"there is no process {gone.pid}", "stat", str(gone.pid))
        nobody = ["setpriv", "--reuid=65534", "--clear-groups"]
        # Nobody may run the tool only where the build folder is open to others.
        if os.geteuid() == 0 and subprocess.call([*nobody, "test", "-x", BERTH]) == 0:
            done = subprocess.run([*nobody, BERTH, "stat", "1"], stderr=subprocess.PIPE, text=True,
                                  env=self.env, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("process 1 is another user's", done.stderr)
        with self.holder() as one, self.holder() as other:
            self.wait_listed(one.pid)
            self.wait_listed(other.pid)
            self.refused("2 processes run under Berth", "stat")
            self.assertEqual(self.stat(one.pid)["pid"], one.pid)
            self.assertEqual(self.stat(other.pid)["pid"], other.pid)

    def test_a_killed_process_leaves_nothing_that_confuses(self):
        for _ in range(5):
            with self.holder() as process:
                self.wait_listed(process.pid)
                process.send_signal(signal.SIGKILL)
                process.wait()
                self.assertEqual(len(self.sockets()), 1)
                self.assertEqual(self.listed(), {})
                self.assertEqual(self.sockets(), [])
        self.assertEqual(self.good("ps").splitlines(), ["PID  PROGRAM  UPTIME  TIERS  HELD"])

    def test_the_next_process_removes_what_killed_ones_left(self):
        for _ in range(3):  # no `ps` here: it would remove them too
            with self.holder() as process:
                name = f"/{process.pid}-"
                self.until(lambda: [name in path for path in self.sockets()] == [True])

    def test_a_process_that_ends_takes_its_socket_along(self):
        with self.holder() as process:
            self.wait_listed(process.pid)
            process.stdin.close()
            self.assertEqual(process.wait(), 0)
        self.assertEqual(self.sockets(), [])

    def test_a_program_that_becomes_another_keeps_one_socket(self):
        program = ("import os, sys\nprint('ready', flush=True)\ninput()\nos.execv(sys.executable, "
                   "[sys.executable, '-c', 'print(\"new\", flush=True); input()'])")
        with self.running("-o", "control=always", program=program) as process:
            first = self.wait_listed(process.pid)
            process.stdin.write("go\n")
            process.stdin.flush()
            self.assertEqual(process.stdout.readline(), "new\n")
            self.assertEqual(self.wait_listed(process.pid)["start"], first["start"])
            self.assertEqual(len(self.sockets()), 1)

    def test_a_forked_child_that_places_memory_has_its_own(self):
        with self.holder() as process:
            self.wait_listed(process.pid)
            process.stdin.write("import os, signal; child = os.fork(); "
                                "more = bytearray(4 << 20) if child == 0 else None; "
                                "child == 0 and signal.pause(); print(child, flush=True)\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            self.assertEqual(process.stdout.readline(), "done\n")
            self.wait_listed(child)
            self.assertEqual(set(self.listed()), {process.pid, child})
            os.kill(child, signal.SIGKILL)
            self.tell(process, "os.wait()")
            self.assertEqual(set(self.listed()), {process.pid})

    def test_a_stopped_process_is_told_from_a_dead_one(self):
        with self.holder() as process:
            self.wait_listed(process.pid)
            process.send_signal(signal.SIGSTOP)
            # Its threads stop one by one; the last one's stop is what the parent is told.
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            self.refused("is it stopped?", "stat", str(process.pid))
            self.assertFalse(self.listed()[process.pid]["answers"])
            self.assertIn("(does not answer)", self.good("ps"))
            process.send_signal(signal.SIGCONT)
            self.assertEqual(self.stat(process.pid)["pid"], process.pid)

    def test_a_watch_lasts_as_long_as_the_process(self):
        with self.holder() as process:
            self.wait_listed(process.pid)
            with subprocess.Popen([BERTH, "stat", str(process.pid), "--json", "--watch", "0.1"],
                                  stdout=subprocess.PIPE, text=True, env=self.env) as watch:
                for _ in range(3):
                    self.assertEqual(json.loads(watch.stdout.readline())["pid"], process.pid)
                process.kill()
                process.wait()
                for line in watch.stdout:
                    json.loads(line)
                self.assertEqual(watch.wait(), 0)

    def test_a_watch_clears_only_what_is_a_screen(self):
        for term, clears in (("xterm", True), ("dumb", False), ("", False)):
            with self.holder() as process:
                self.wait_listed(process.pid)
                ours, theirs = pty.openpty()
                with subprocess.Popen([BERTH, "stat", "--watch", "0.1"], stdout=theirs,
                                      env={**self.env, "TERM": term}) as watch:
                    os.close(theirs)
                    told = os.read(ours, 4096)
                    process.kill()
                    process.wait()
                    with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
                        while os.read(ours, 4096):
                            pass
                    self.assertEqual(watch.wait(), 0)
                os.close(ours)
                self.assertEqual(b"\x1b[" in told, clears, term)

    def test_a_watch_goes_on_when_the_program_becomes_another(self):
        program = ("import os, sys\nprint('ready', flush=True)\ninput()\nos.execv(sys.executable, "
                   "[sys.executable, '-c', 'print(\"new\", flush=True); input()', 'other'])")
        with self.running("-o", "control=always", program=program) as process:
            self.wait_listed(process.pid)
            with subprocess.Popen([BERTH, "stat", str(process.pid), "--json", "--watch", "0.1"],
                                  stdout=subprocess.PIPE, text=True, env=self.env) as watch:
                self.assertTrue(json.loads(watch.stdout.readline()))
                process.stdin.write("go\n")
                process.stdin.flush()
                self.assertEqual(process.stdout.readline(), "new\n")
                self.wait_listed(process.pid)
                started = json.loads(self.good("stat", "--json"))["uptime_s"]
                self.until(lambda: json.loads(watch.stdout.readline())["uptime_s"] > started + 0.3)
                process.kill()
                process.wait()
                watch.stdout.read()
                self.assertEqual(watch.wait(), 0)

    def test_a_policy_is_replaced_while_the_program_runs(self):
        other = self.write("other.policy", POLICY.replace("{ far, dram }", "{ dram }") % self.far)
        wrong = self.write("wrong.policy", "rule r { place = { nowhere } }\n")
        with self.holder() as process:
            self.wait_listed(process.pid)
            pid = str(process.pid)
            before = self.stat(pid)
            self.assertEqual(self.good("policy", "apply", pid, other),
                             f"process {pid}: policy version 2 is in force\n")
            self.tell(process, "more = [bytearray(1 << 21) for _ in range(4)]")
            after = self.stat(pid)

            def held(stat, name):
                return sum(tier["held"] for tier in stat["tiers"] if tier["name"] == name)
            self.assertEqual(held(after, "far"), held(before, "far"))
            self.assertGreaterEqual(held(after, "dram"), held(before, "dram") + (8 << 20))
            self.assertEqual(after["table"]["origin"], other)

            refused = self.berth("policy", "apply", pid, wrong)
            self.assertEqual((refused.returncode, refused.stdout), (1, ""))
            self.assertIn("wrong.policy:1: ", refused.stderr)
            self.assertEqual(self.stat(pid)["table"]["version"], 2)
            shown = self.good("policy", "show", "--text", pid)
            again = self.write("again.policy", shown)
            self.assertEqual(self.good("policy", "show", "--text", again), shown)
            self.assertEqual(self.good("policy", "show", pid), self.good("policy", "show", other))

    def test_tiers_of_earlier_policies_are_shown_while_they_hold_something(self):
        other = self.write("other.policy",
                           f"tier next {{ kind = file  path = \"{self.root}\" }}\n"
                           "rule r { min-size = 1G  place = { next } }\n")
        third = self.write("third.policy", "rule r { min-size = 1G  place = { dram } }\n")

        def shown():
            tiers = self.good("stat").split("\n\n")[2]
            return {line.split()[0] for line in tiers.splitlines()[1:]} - {"dram"}
        with self.holder() as process:
            self.wait_listed(process.pid)
            for policy, expected in ((other, {"far", "next"}), (third, {"far"})):
                self.good("policy", "apply", str(process.pid), policy)
                self.assertEqual(shown(), expected)

    def test_a_process_cannot_give_orders_to_a_terminal(self):
        with self.holder() as process:
            self.wait_listed(process.pid)
            odd = os.path.join(self.root, "\x1b[2J\n\x7f\u009b1m.policy")
            shutil.copy(self.policy, odd)
            self.good("policy", "apply", str(process.pid), odd)
            told = self.good("stat")
            self.assertEqual(self.stat(process.pid)["table"]["origin"], odd)
            self.assertIn("?[2J???1m.policy)\n", told)

    def test_the_example_agent_moves_a_rule(self):
        with self.holder() as process:
            self.wait_listed(process.pid)
            pid = str(process.pid)

            def agent(*args):
                return subprocess.run([sys.executable, AGENT, pid, *args], env=self.env, text=True,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
            done = agent("large", "dram", "far")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertRegex(done.stdout, r"untagged in far: \d+ bytes, \d+ blocks\n")
            self.assertIn("version 2 is in force: large goes to dram, far\n", done.stdout)
            self.assertIn("place = { dram, far }", self.good("policy", "show", "--text", pid))
            done = agent("nosuch", "dram")
            self.assertEqual(done.returncode, 1)
            self.assertIn("nosuch", done.stderr)
        with open(AGENT, encoding="utf-8") as file:
            self.assertLessEqual(len(file.readlines()), 40)

    def test_device_memory_is_told(self):
        with self.running(program=DEVICE, env={"LD_LIBRARY_PATH": FAKE_CUDA}) as process:
            self.wait_listed(process.pid)
            tier = self.stat(process.pid)["tiers"][0]
            self.assertEqual((tier["name"], tier["requested"], tier["blocks"], tier["frees"]),
                             ("device", 65 << 20, 2, 1))
            self.assertGreaterEqual(tier["cached"], 5 << 20)
            self.assertEqual(tier["reserved"], tier["held"] + tier["cached"] + tier["overhead"])
            self.assertRegex(self.good("stat"), r"\nuntagged +device +65\.0 MiB ")

    def test_options_are_shown_with_their_origin(self):
        with self.running("-o", "control=always", "-o", "site-depth=9") as process:
            self.wait_listed(process.pid)
            told = self.good("options", str(process.pid))
            self.assertRegex(told, r"\nsite-depth +9 +environment +frames ")
            self.assertRegex(told, r"\nhost +auto +default +auto\|on\|off ")
        self.assertRegex(self.good("options"), r"\nsite-depth +32 +default ")
        self.assertRegex(self.good("run", "--help"), r"\nsite-depth +32 +default ")

    def test_a_runtime_directory_that_is_open_to_others_is_not_used(self):
        os.mkdir(self.runtime + "/berth")
        os.chmod(self.runtime + "/berth", 0o755)
        kept = self.good("run", "--policy", self.policy, "--", "printenv", "BERTH_POLICY").strip()
        self.addCleanup(os.unlink, kept)
        self.assertRegex(kept, r"^/tmp/berth-[0-9]+(-[0-9])?/policy-")
        self.assertEqual(os.stat(os.path.dirname(kept)).st_mode & 0o7777, 0o700)
        done = self.berth("run", "-o", "control=always", "--", sys.executable, "-c", "input()",
                          stdin="\n")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(os.listdir(self.runtime + "/berth"), [])

    def test_a_long_runtime_directory_is_used_too(self):
        self.runtime = os.path.join(self.root, "x" * 120)
        os.mkdir(self.runtime, 0o700)
        self.env["XDG_RUNTIME_DIR"] = self.runtime
        with self.holder() as process:
            self.wait_listed(process.pid)
            self.assertEqual(self.stat(process.pid)["pid"], process.pid)


class Output(Case):
    def test_a_link_to_no_file_stays_a_link(self):
        path = self.write("no.policy", "")
        link = os.path.join(self.root, "link")
        os.symlink("there", link)
        self.berth("policy", "compile", path, "-o", link)
        self.assertTrue(os.path.islink(link))
        self.assertTrue(os.path.isfile(os.path.join(self.root, "there")))
        circle = os.path.join(self.root, "circle")
        os.symlink("circle", circle)
        done = self.berth("policy", "compile", path, "-o", circle)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertTrue(os.path.islink(circle))

    def test_a_misuse_names_the_command(self):
        self.refused("berth: pool create: ", "pool", "create", "1", "name", "-5", status=2)

    def test_a_driver_that_is_not_there_is_told_once(self):
        path = self.write("one.csv", "Thread,Time,Action,Pointer,Size,Stream\n"
                                     "0,0.0,allocate,0x1000,512,0\n")
        self.refused("the driver cannot be loaded", "trace", "replay", path, "--driver",
                     os.path.join(self.root, "none.so"))


class Tool(Case):
    """The tool by itself"""

    def test_help_names_every_command(self):
        told = self.good("help")
        self.assertEqual(told, self.good("--help"))
        parts = {"trace": ("record", "replay", "plan", "export"),
                 "policy": ("check", "compile", "show", "apply"),
                 "pool": ("list", "create", "drop", "attach", "detach"),
                 "pmem": ("ls", "check", "rm", "init")}
        self.assertIn("--move", self.good("help", "policy", "apply"))
        for command in ("run", "ps", "stat", "trace", "snapshot", "policy", "pool", "limit",
                        "trim", "pmem", "sites", "explain", "options", "doctor", "help", "version"):
            self.assertIn("\n  " + command, told)
            help_text = self.good("help", command)
            self.assertTrue(help_text.startswith(f"usage: berth {command}"), help_text)
            self.assertEqual(help_text, self.good(command, "--help"))
            self.assertEqual(help_text, self.good(command, "-h"))
            for part in parts.get(command, ()):
                self.assertIn(f"\n  berth {command} {part} ", help_text)
                part_text = self.good(command, part, "--help")
                self.assertTrue(part_text.startswith(f"usage: berth {command} {part} "), part_text)
                self.assertEqual(part_text, self.good("help", command, part))
                self.assertEqual(part_text, self.good(command, part, "something", "--help")
                                 if part != "record" else part_text)
        self.assertIn("usage: berth limit", self.good("limit", "1", "--help"))
        self.assertIn("usage: berth trace record", self.good("trace", "record", "-o", "x", "-h"))
        self.refused("'nonsense' is not expected", "help", "trace", "nonsense", status=2)
        # What follows a program is that program's.
        self.assertEqual(self.good("run", "--", "printf", "%s", "-h"), "-h")
        self.assertEqual(self.good("run", "printf", "%s", "-h"), "-h")
        self.assertRegex(self.good("--version"), r"^berth \d+\.\d+\.\d+\n$")

    def test_a_wrong_command_line_is_refused(self):
        self.refused("'nonsense' is no command", "nonsense", status=2)
        self.refused("'nonsense' is no command", "help", "nonsense", status=2)
        self.refused("is not expected", "ps", "now", status=2)
        self.refused("--watch", "stat", "--watch", "soon", status=2)
        self.refused("PID FILE", "policy", "apply", status=2)
        self.refused("berth: stat: unrecognized option", "stat", "--nonsense", status=2)

    def test_the_doctor_finds_the_libraries(self):
        told = self.berth("doctor")
        self.assertEqual(told.returncode, 0, told.stdout)
        self.assertRegex(told.stdout, r"\nok +libberth\.so +/")
        self.assertRegex(told.stdout, r"\nok +runtime directory +" + re.escape(self.runtime))
        told = self.berth("doctor", env={"BERTH_OPTIONS": "site-depth=x"})
        self.assertEqual(told.returncode, 1)
        self.assertIn("site-depth", told.stderr)
        for text in ("1x", "0", "99999999999", "--"):
            self.refused(f"'{text}' is not expected", "doctor", text, status=2)
        for program, why in (("/nonexistent", "not found"), ("/etc/passwd", "Permission denied"),
                             ("no-such-program", "not found")):
            told = self.berth("doctor", "--", program)
            self.assertEqual(told.returncode, 1)
            self.assertIn(f"BROKEN  program  {program}: {why}", told.stdout)

    def test_the_doctor_tells_what_became_of_the_tiers(self):
        huge = self.write("huge.policy", f"""
            tier far {{ kind = file path = "{self.far}" capacity = 3M decay = 1500ms name = kept }}
            tier near {{ kind = numa nodes = 0 huge-pages = advise }}
            tier gone {{ kind = numa nodes = 32000 }}
            tier bare {{ kind = dram huge-pages = advise }}
            rule large {{ min-size = 1M place = {{ gone, far, near, bare, dram }} }}""")
        with self.running("--policy", huge) as process:
            self.wait_listed(process.pid)
            told = self.berth("doctor", str(process.pid)).stdout
            self.assertRegex(told, r"\nok +tier far +file: an unnamed file in .*, mapped shared(?: with MAP_SYNC)?; fork "
                                   r"= copy; decay = 1500ms; persistent blocks in .*/kept, verify "
                                   r"= commit; 2\.\d+ MiB of 3\.00 MiB in use; 3 blocks \(.*\) found "
                                   r"no room")
            self.assertRegex(told, r"\nok +tier near +numa: private memory of node 0, bound: ")
            self.assertRegex(told, r"\n\S+ +tier gone +numa: it cannot be had in this process: no node "
                                   r"of 32000 has memory on this machine; rules go on to their next")
            self.assertRegex(told, r"\nok +tier bare +dram: ordinary memory; ")
            stat = json.loads(self.good("stat", str(process.pid), "--json"))
            self.assertEqual([tier["description"] for tier in stat["tiers"]
                              if tier["name"] == "bare"][0].split(";")[0], "ordinary memory")
            self.assertGreater(stat["rules"][0]["spilled_blocks"], 0)

    def test_a_full_disk_is_noticed(self):
        for command in (["help"], ["ps"], ["options"], ["doctor"], ["policy", "check", self.policy],
                        ["policy", "show", self.policy], ["policy", "compile", self.policy]):
            with open("/dev/full", "w", encoding="utf-8") as full:
                done = subprocess.run([BERTH, *command], stdout=full, stderr=subprocess.PIPE,
                                      env=self.env, check=False)
            self.assertEqual(done.returncode, 1, command)
            self.assertIn(b"No space left", done.stderr)


if __name__ == "__main__":
    BERTH, AGENT, FAKE_CUDA = (os.path.realpath(path) for path in sys.argv[1:4])
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)
