# SPDX-License-Identifier: Apache-2.0
"""Goal: `berth sites` and `berth explain` tell who asked for memory, and why it is where it is, for
programs of every kind; names are the same in each run and in a build with other code around.

Method: real programs under the real tool, in a runtime directory of the test's own. Arguments:
berth, the folder of the simulated CUDA driver, the programs by key=path; then unittest's.
"""
import contextlib
import ctypes.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

BERTH = FAKE_CUDA = ""
PROGRAM = {}
SAMPLED = ("-o", "sites=always", "-o", "host=on", "-o", "control=always")
READ = (*SAMPLED, "-o", "site-sample=0")  # what is read is exact then

POLICY = """tier far {
  kind = file
  path = "%s"
}
site loader {
  path = "asker!wrapper > asker!keep_weights > **"
  tag = weight
}
rule tiny {
  tag = weight
  max-size = 100K
  place = { dram }
}
rule gpu {
  side = device
  place = { device }
}
rule cold {
  tag = weight
  place = { far, dram }
}
rule named {
  thread = "another"
  place = { dram }
}
"""

DEVICE = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
device, context = ctypes.c_int(), ctypes.c_void_p()
assert cuda.cuInit(0) == 0
assert cuda.cuDeviceGet(ctypes.byref(device), 0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
assert cuda.cuCtxSetCurrent(context) == 0
def ask(size):
    block = ctypes.c_uint64()
    assert cuda.cuMemAlloc_v2(ctypes.byref(block), ctypes.c_size_t(size)) == 0
    return block
kept = [ask(4 << 20) for _ in range(3)]
for _ in range(20):
    assert cuda.cuMemFree_v2(ask(1 << 20)) == 0
ordered = ctypes.c_uint64()
assert cuda.cuMemAllocAsync(ctypes.byref(ordered), ctypes.c_size_t(300000), None) == 0
gone = ctypes.c_uint64()
assert cuda.cuMemAllocAsync(ctypes.byref(gone), ctypes.c_size_t(300000), None) == 0
assert cuda.cuMemFreeAsync(gone, None) == 0
print("device 0x%x" % kept[0].value)
print("ordered 0x%x" % ordered.value)
print("ready", flush=True)
input()
"""

HOST = """
held = [bytearray(2 << 20) for _ in range(3)]
print("ready", flush=True)
input()
"""


class Sites(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="berth-sites-")
        self.addCleanup(shutil.rmtree, self.root, True)
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith("BERTH_") and k != "LD_PRELOAD"}
        self.env["XDG_RUNTIME_DIR"] = os.path.join(self.root, "runtime")
        os.mkdir(self.env["XDG_RUNTIME_DIR"], 0o700)

    def berth(self, *args):
        return subprocess.run([BERTH, *args], env=self.env, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=60, check=False)

    def good(self, *args):
        done = self.berth(*args)
        self.assertEqual((done.returncode, done.stderr), (0, ""), args)
        return done.stdout

    def refused(self, text, *args, status=1):
        done = self.berth(*args)
        self.assertEqual((done.returncode, done.stdout), (status, ""), done.stderr)
        self.assertIn(text, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def sites(self, pid, *args):
        return json.loads(self.good("sites", str(pid), "--json", *args))

    def as_asker(self, key):
        """The program of this key, in a folder of its own under the name that policies have."""
        folder = os.path.join(self.root, key)
        path = os.path.join(folder, "asker")
        if not os.path.exists(path):
            os.mkdir(folder)
            shutil.copy2(PROGRAM[key], path)
        return path

    @contextlib.contextmanager
    def running(self, *args, options=READ):
        """The program under Berth once it is ready: the process, and what it said by name."""
        with subprocess.Popen([BERTH, "run", *options, "--", *args], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, env=self.env) as process:
            said = {}
            try:
                for line in process.stdout:
                    if line == "ready\n":
                        break
                    said[line.split()[0]] = line.split()[1]
                else:
                    self.fail("the program has ended")
                while not self.berth("ps", "--json").stdout.count(f'"pid": {process.pid}'):
                    pass
                self.process = process
                yield process.pid, said
            finally:
                process.kill()

    def by_path(self, answer, depth=3):
        """Sites by the symbols of their innermost frames."""
        return {tuple(f["symbol"] for f in s["frames"][:depth]): s for s in answer["sites"]}

    def names(self, key):
        """What tells the path of each site in a run of the program, offsets apart."""
        with self.running(self.as_asker(key)) as (pid, _):
            return sorted(" > ".join(f"{f['module']}!{f['symbol']}" for f in s["frames"][:3])
                          for s in self.sites(pid)["sites"])

    def test_the_account_of_a_c_program(self):
        with self.running(self.as_asker("asker")) as (pid, said):
            answer = self.sites(pid, "--full")
            text = self.good("sites", str(pid), "--frames", "2")
            top = self.sites(pid, "--by", "allocs", "--top", "1")
        sites = self.by_path(answer)
        weights = sites["wrapper", "keep_weights", "main"]
        self.assertEqual(answer["reading"], "both")
        self.assertEqual((weights["requested"], weights["blocks"], weights["frees"]),
                         (4 * (3 << 20), 4, 0))
        self.assertIsNone(weights["mean_lifetime_ns"])
        forward = [s for s in answer["sites"] if s["frames"][1]["symbol"] == "run_forward"]
        # Two calls of it in main: one that keeps the block, one that frees it each time.
        self.assertEqual(sorted((s["requested"], s["blocks"], s["allocs"], s["frees"])
                                for s in forward), [(0, 0, 50, 50), (200000, 1, 1, 0)])
        self.assertEqual(answer["sites"][0]["site"], weights["site"])
        self.assertEqual(top["sites"][0]["allocs"], max(s["allocs"] for s in answer["sites"]))
        self.assertEqual(len(top["sites"]), 1)
        self.assertRegex(text, r"SITE +HELD +REQUESTED")
        self.assertIn("asker!wrapper+0x", text)
        # Those that were freed have lived, however short; of those that were not nothing is known.
        freed = next(s["site"] for s in forward if s["frees"])
        self.assertRegex(text, rf"(?m)^#{freed} .* 50 +(< 1 ms|\d+ ms|[\d.]+ s) +untagged ")
        self.assertRegex(text, rf"(?m)^#{weights['site']} .* 4 +- +untagged ")
        if os.environ.get("BERTH_TEST_LINES") == "1":
            self.assertRegex(weights["frames"][1]["line"], r"^asker\.c:\d+$")
            self.assertRegex(text, r"asker!keep_weights\+0x[0-9a-f]+ \(asker\.c:\d+\)")
            self.assertEqual([f["name"] for f in forward[0]["frames"][1]["inlined"]],
                             ["innermost", "within"])
            self.assertRegex(text, r"run_forward\+0x[0-9a-f]+ \(asker\.c:\d+ in innermost, inlined "
                                   r"at asker\.c:\d+ in within, inlined at asker\.c:\d+\)")

    def test_names_are_the_same_in_every_run_and_build(self):
        expected = self.names("asker")
        self.assertIn("asker!wrapper > asker!keep_weights > asker!main", expected)
        self.assertEqual(self.names("asker"), expected)  # at other addresses
        self.assertEqual(self.names("nopie"), expected)
        self.assertEqual(self.names("rebuilt"), expected)

    def test_without_symbols_a_frame_is_an_offset_that_stays(self):
        seen = []
        for _ in range(2):
            with self.running(self.as_asker("stripped")) as (pid, _):
                seen.append(sorted(tuple((f["module"], f["symbol"], f["offset"])
                                         for f in s["frames"][:3])
                                   for s in self.sites(pid)["sites"]))
        self.assertEqual(seen[0], seen[1])
        self.assertTrue(all(f[0] == "asker" and f[1] is None for path in seen[0] for f in path[:2]))

    def test_a_debug_file_that_lies_apart_names_functions(self):
        if not shutil.which("objcopy") or os.environ.get("BERTH_TEST_LINES") != "1":
            self.skipTest("there is no objcopy, or no libdw")
        program = self.as_asker("asker")
        for arguments in (["--only-keep-debug", program, "apart.debug"], ["--strip-all", program],
                          ["--add-gnu-debuglink=apart.debug", program]):
            subprocess.run(["objcopy", *arguments], cwd=os.path.dirname(program), check=True)
        with self.running(program) as (pid, _):
            answer = self.sites(pid)
            text = self.good("sites", str(pid))
        frames = [[(f["symbol"], f["function"]) for f in s["frames"][:2]] for s in answer["sites"]]
        self.assertIn([(None, "wrapper"), (None, "keep_weights")], frames)
        self.assertRegex(text, r"asker\+0x[0-9a-f]+ \(keep_weights, asker\.c:\d+\)")

    def test_lines_need_no_table_of_addresses(self):
        # clang writes none; what is in another unit than the table's has no line of that one.
        if not shutil.which("objcopy") or os.environ.get("BERTH_TEST_LINES") != "1":
            self.skipTest("there is no objcopy, or no libdw")
        program = self.as_asker("asker")
        subprocess.run(["objcopy", "--remove-section=.debug_aranges", program], check=True)
        with self.running(program) as (pid, _):
            frames = [f for s in self.sites(pid)["sites"] for f in s["frames"]]
        lines = {f["symbol"]: f["line"] for f in frames if f["module"] == "asker"}
        self.assertRegex(lines["keep_weights"], r"^asker\.c:\d+$")
        self.assertIn(["innermost", "within"],
                      [[i["name"] for i in f["inlined"]] for f in frames])

    def test_a_label_without_a_size_names_nothing(self):
        with self.running(self.as_asker("labelled")) as (pid, _):
            frames = [f for s in self.sites(pid)["sites"] for f in s["frames"]]
        self.assertIn("run_forward", [f["symbol"] for f in frames])
        self.assertTrue(any(f["module"] == "asker" and f["symbol"] is None for f in frames))
        self.assertNotIn("a_label", [f["symbol"] for f in frames] + [f["function"] for f in frames])

    def test_a_closed_library_keeps_its_names(self):
        # Named while it is open, because a policy looks at the path; and its block outlives it.
        policy = os.path.join(self.root, "p.policy")
        with open(policy, "w", encoding="utf-8") as file:
            file.write('site p { path = "**>*!plugin_ask" tag = kv }\n'
                       "rule r { tag = kv place = { dram } }\n")
        with self.running(self.as_asker("asker"), PROGRAM["plugin"],
                          options=("--policy", policy, *READ)) as (pid, said):
            site = self.by_path(self.sites(pid), 2)["plugin_inside", "plugin_ask"]
            text = self.good("explain", str(pid), said["plugin"])
        self.assertEqual((site["requested"], site["blocks"]), (500000, 1))
        self.assertIn("kv, by a `site` section", text)

    def plugins(self, *paths):
        """How many blocks are at the sites of each plug-in; they were at one address."""
        with self.running(self.as_asker("asker"), *paths) as (pid, _):
            answer = self.sites(pid, "--top", "0")
        counts = {}
        for site in answer["sites"]:
            if site["blocks"] and site["requested"] == site["blocks"] * 500000:
                name = site["frames"][0]["module"]
                counts[name] = counts.get(name, ()) + (site["blocks"],)
        return counts

    def test_plugins_that_follow_one_another_are_told_apart(self):
        paths = []
        for i, key in enumerate(("plugin", "plugin", "plugin_without_id", "plugin_without_id")):
            paths.append(os.path.join(self.root, f"plug{i}.so"))
            shutil.copy2(PROGRAM[key], paths[-1])
        counts = self.plugins(*paths, *paths, *paths)
        # One that is back at its address has the site that it had.
        self.assertEqual(counts, {f"plug{i}.so": (3,) for i in range(4)})

    def test_a_library_that_is_rebuilt_where_it_is_has_its_own_names(self):
        policy = os.path.join(self.root, "p.policy")
        with open(policy, "w", encoding="utf-8") as file:
            file.write('site one { path = "*!plugin_inside>**" tag = kv }\n'
                       'site other { path = "*!plugin_other_>**" tag = weight }\n'
                       "rule r { tag = kv place = { dram } }\n")
        path = os.path.join(self.root, "plug.so")
        steps = []
        for i, key in enumerate(("plugin_one", "plugin_other", "plugin_one")):
            shutil.copy2(PROGRAM[key], f"{path}.{i}")
            steps.append(f"{path}.{i}={path}")
        with self.running(self.as_asker("asker"), *steps,
                          options=("--policy", policy, *READ)) as (pid, _):
            counts = {s["frames"][0]["symbol"]: (s["blocks"], s["cells"][0]["tag"])
                      for s in self.sites(pid)["sites"]}
        self.assertEqual(counts["plugin_inside"], (2, "kv"))
        self.assertEqual(counts["plugin_other_"], (1, "weight"))

    @unittest.skipUnless("cpp" in PROGRAM or sys.argv[-1].count("cpp="), "no C++ compiler")
    def test_cpp_names_are_demangled(self):
        with self.running(PROGRAM["cpp"]) as (pid, said):
            answer = json.loads(self.good("explain", str(pid), said["forward"], "--json"))
            text = self.good("explain", str(pid), said["forward"])
        symbols = [f["symbol"] for f in answer["frames"]]
        self.assertTrue(any(s and s.startswith("_ZN5model5layerIdE4growE") for s in symbols),
                        symbols)
        self.assertIn("model::layer<double>::grow(unsigned long)+0x", text)

    def test_a_block_is_explained_rule_by_rule(self):
        policy = os.path.join(self.root, "p.policy")
        with open(policy, "w", encoding="utf-8") as file:
            file.write(POLICY % self.root)
        with self.running(self.as_asker("asker"),
                          options=("--policy", policy, "-o", "control=always")) as (pid, said):
            weights = self.good("explain", str(pid), said["weights"])
            inside = self.good("explain", str(pid), hex(int(said["weights"], 16) + 100000))
            forward = self.good("explain", str(pid), said["forward"])
            site = re.search(r"site +#(\d+)", weights).group(1)
            by_site = self.good("explain", str(pid), "#" + site)
            sized = self.good("explain", str(pid), site, "--size", "64K")
            tables = self.good("sites", str(pid), "--tier", "far")
            self.good("policy", "apply", str(pid), policy)
            later = self.good("explain", str(pid), said["weights"])
            self.refused("no block that is accounted", "explain", str(pid), "0x10")
            self.refused("no such call site", "explain", str(pid), "#99999")
            self.refused("neither an address", "explain", str(pid), "wrapper", status=2)
            self.refused("for sites", "explain", str(pid), "0x10", "--size", "1K", status=2)
        self.assertEqual(weights.split("\n")[1:], inside.split("\n")[1:])
        self.assertRegex(weights, r"^block +0x[0-9a-f]+ on the host: 3.00 MiB requested")
        self.assertIn("weight, by a `site` section of the policy", weights)
        self.assertRegex(weights, r"place +tier far \(file\), offset 0x[0-9a-f]+ of its file, "
                                  r"(NUMA node \d+|its first page)")
        self.assertRegex(weights, r"decided +by rule cold, in table version 1\n")
        self.assertIn("section  loader: matches; tag weight", weights)
        self.assertIn("rule     tiny: max-size is 100.0 KiB, the block has 3.00 MiB", weights)
        self.assertIn("rule     gpu: does not speak of the host side", weights)
        self.assertIn("rule     cold: matches; places far, dram", weights)
        self.assertNotIn("rule     named", weights)
        self.assertIn("section  loader: site is \"asker!wrapper", forward)
        self.assertIn("the call path is another", forward)
        self.assertIn("rule     cold: speaks of weight; the tag is untagged", forward)
        self.assertIn("matches if the thread is called \"another\"", forward)
        self.assertRegex(forward, r"decided +by no rule, in table version 1")
        self.assertIn("12.0 MiB in 4 blocks, weight, tier far; 4 allocated, 0 freed", by_site)
        self.assertIn("rule     cold: matches; places far, dram", by_site)
        self.assertIn("rule     tiny: matches; places dram", sized)
        self.assertIn("tier far", weights)
        self.assertIn(f"#{site} ", tables)
        self.assertIn("1 of 1 sites", tables)
        self.assertRegex(later, r"decided .* in table version 1; version 2 is in force now")

    def test_a_policy_holds_for_the_next_build(self):
        policy = os.path.join(self.root, "p.policy")
        with open(policy, "w", encoding="utf-8") as file:
            file.write(POLICY % self.root)
        for key in ("rebuilt", "nopie"):
            with self.running(self.as_asker(key),
                              options=("--policy", policy, "-o", "control=always")) as (pid, said):
                weights = self.good("explain", str(pid), said["weights"])
            self.assertRegex(weights, r"decided +by rule cold, in table version 1\n", key)

    def test_a_site_is_known_by_its_path(self):
        with self.running(self.as_asker("asker")) as (pid, _):
            sites = self.by_path(self.sites(pid), 3)
            weights = sites["wrapper", "keep_weights", "main"]
            inner, outer = weights["frames"][:2]
            exact = f"asker!keep_weights+{outer['offset']:#x}"
            for path in ("asker!wrapper > asker!keep_weights", "asker!wrapper>asker!keep*>**",
                         "asker!keep_weights", exact, f"** > {exact} > asker!main",
                         f"asker!wrapper+{inner['offset']:#x}>{exact}"):
                self.assertIn(f"site     #{weights['site']},", self.good("explain", str(pid), path))
            self.refused("call sites: #", "explain", str(pid), "asker!run_forward")
            for path in ("asker!nobody", "asker!keep_weights+0x0", "asker!wrapper > asker!wrapper",
                         "other!wrapper"):
                self.refused("no call site is", "explain", str(pid), path)

    def test_any_path_is_answered_soon(self):
        with self.running(self.as_asker("asker")) as (pid, _):
            # Many ways to divide the frames, none of which fits.
            for path in (">".join(["**"] * 60) + ">asker!nobody",
                         ">".join(["**", "*"] * 30) + ">asker!nobody",
                         "asker!" + "*a" * 200, ">!>", "!", "asker!" + "x" * 70000, "asker![",
                         "asker!wrapper<", "asker!operator>", "asker!>>>", "+0x"):
                self.refused("no call site is", "explain", str(pid), path)

    @unittest.skipUnless("cpp" in PROGRAM or sys.argv[-1].count("cpp="), "no C++ compiler")
    def test_paths_of_cpp_are_taken_as_printed(self):
        with self.running(PROGRAM["cpp"]) as (pid, said):
            frames = json.loads(self.good("explain", str(pid), said["forward"], "--json"))["frames"]
            text = self.good("explain", str(pid), said["forward"])
            site = re.search(r"site +(#\d+)", text).group(1)
            named = [f"{frame['module']}!{frame['name']}" for frame in frames[:3]
                     if frame.get("name")]
            printed = [f"{frame['module']}!{frame['name']}+{frame['offset']:#x}"
                       for frame in frames[:3] if frame.get("name")]
            self.assertTrue(any("<double>" in name for name in named), named)
            for path in (" > ".join(named), ">".join(named), " > ".join(printed),
                         "**>" + printed[-1]):
                self.assertIn(f"site     {site},", self.good("explain", str(pid), path))

    def test_questions_that_cannot_be_answered(self):
        with self.running(self.as_asker("asker")) as (pid, said):
            directory = os.path.join(self.env["XDG_RUNTIME_DIR"], "berth")
            path = next(n for n in os.listdir(directory) if n.startswith(f"{pid}-"))
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(os.path.join(directory, path))
                stream = client.makefile("rw", encoding="utf-8")
                stream.readline()

                def code(**request):
                    stream.write(json.dumps({"op": "explain", **request}) + "\n")
                    stream.flush()
                    return json.loads(stream.readline())["error"]["code"]

                self.assertEqual(code(), "bad-request")
                self.assertEqual(code(site="1"), "bad-request")
                self.assertEqual(code(address=1), "bad-request")
                self.assertEqual(code(address=None), "bad-request")
                self.assertEqual(code(address="0x"), "bad-request")
                self.assertEqual(code(op="sites.paths", sites=[1], frames=0), "bad-request")
                self.assertEqual(code(site=0), "no-site")
                self.assertEqual(code(site=1 << 40), "no-site")
                self.assertEqual(code(address="0x10"), "no-block")
                self.assertEqual(code(address="0xffffffffffffffff"), "no-block")
                # Just past a block's end, and in the stack.
                self.assertEqual(code(address=hex(int(said["forward"], 16) + (1 << 30))),
                                 "no-block")

    def test_a_process_in_a_container(self):
        # Its number, its files and its runtime directory are others there.
        inside = os.path.join(self.root, "inside")
        os.mkdir(inside)
        script = (f'mount -t tmpfs none "{inside}" && mkdir -m 700 "{inside}/runtime" && '
                  f'cp "{PROGRAM["asker"]}" "{inside}/asker" && '
                  f'XDG_RUNTIME_DIR="{inside}/runtime" "{os.path.abspath(BERTH)}" run '
                  f'{" ".join(READ)} -- "{inside}/asker"')
        command = ["unshare", "-m", "-p", "-f", "--mount-proc", "--kill-child", "sh", "-c"]
        if not shutil.which("unshare") or subprocess.run(
                [*command, f'mount -t tmpfs none "{inside}"'], stderr=subprocess.DEVNULL,
                check=False).returncode != 0:
            self.skipTest("no namespaces can be made here")
        with subprocess.Popen([*command, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True, env=self.env) as process:
            try:
                while process.stdout.readline() != "ready\n":
                    self.assertIsNone(process.poll())
                pid = next(int(p) for p in os.listdir("/proc") if p.isdigit() and
                           self.executable(p) == f"{inside}/asker")
                while self.berth("sites", str(pid)).returncode != 0:
                    self.assertIsNone(process.poll())
                text = self.good("sites", str(pid))
            finally:
                process.kill()
        self.assertIn("asker!keep_weights+0x", text)
        if os.environ.get("BERTH_TEST_LINES") == "1":
            self.assertIn("(asker.c:", text)

    @staticmethod
    def executable(pid):
        try:
            return os.readlink(f"/proc/{pid}/exe")
        except OSError:
            return None

    def test_reading_begins_and_ends_while_the_program_runs(self):
        with self.running(sys.executable, "-c", HOST,
                          options=("-o", "host=on", "-o", "control=always")) as (pid, _):
            before = self.good("sites", str(pid))
            self.assertEqual(self.sites(pid)["reading"], "none")
            self.assertIn("from now on", self.good("sites", str(pid), "--read", "always"))
            self.assertEqual(self.sites(pid)["reading"], "both")
            self.assertIn("not read any more", self.good("sites", str(pid), "--read", "policy"))
        self.assertIn("0 of 0 sites", before)
        self.assertIn("--read always", before)
        self.refused("no order", "sites", "1", "--by", "age", status=2)
        self.refused("no number", "sites", "1", "--top", "many", status=2)
        self.refused("no tag", "sites", "1", "--tag", "stone", status=2)

    def by_caller(self, pid):
        """What is alive, by the innermost function of its path."""
        sums = {}
        for site in self.sites(pid, "--host", "--top", "0")["sites"]:
            name = site["frames"][0]["symbol"]
            sums[name] = sums.get(name, 0) + site["requested"]
        return sums

    def test_small_blocks_are_known_by_samples(self):
        # One sample in 4096 bytes: of the least, 2 MB, some 500; 35% are more than six deviations.
        with self.running(PROGRAM["many"], "100000",
                          options=(*SAMPLED, "-o", "site-sample=4K")) as (pid, said):
            live = self.by_caller(pid)
            answer = self.sites(pid, "--top", "0")
            text = self.good("sites", str(pid), "--full")
            nodes = next(s for s in answer["sites"] if s["frames"][0]["symbol"] == "new_node")
            explained = self.good("explain", str(pid), "#%d" % nodes["site"])
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            self.assertEqual(self.process.stdout.readline(), "freed\n")
            after = self.by_caller(pid)
        for what, caller in (("nodes", "new_node"), ("texts", "new_text"),
                             ("lines", "longer_line"), ("names", "new_names")):
            self.assertAlmostEqual(live[caller] / int(said[what]), 1, delta=0.35, msg=what)
        self.assertTrue(nodes["estimate"])
        self.assertEqual([f["symbol"] for f in nodes["frames"][:3]], ["new_node", "keep", "main"])
        self.assertGreater(nodes["cells"][0]["samples"], 500)
        self.assertRegex(text, r"#%d +~[0-9.]+ MiB +~" % nodes["site"])
        self.assertRegex(text, r"smaller blocks are known from samples, one in 4\.00 KiB")
        self.assertRegex(explained, r"estimated from \d+ samples")
        self.assertEqual({after[name] for name in ("new_node", "new_text", "longer_line",
                                                   "new_names", "new_line")}, {0})

    def test_samples_begin_and_end_with_the_reading(self):
        with self.running(PROGRAM["many"], "64") as (pid, _):
            self.assertEqual(self.sites(pid)["sample_interval"], 0)
        with self.running(PROGRAM["many"], "1000",
                          options=(*SAMPLED, "-o", "site-sample=1")) as (pid, said):
            # Every block is one, and counts for itself.
            live = self.by_caller(pid)
            self.good("sites", str(pid), "--read", "policy")
            self.assertEqual(self.sites(pid)["sample_interval"], 0)
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            self.assertEqual(self.process.stdout.readline(), "freed\n")
            after = self.by_caller(pid)
        self.assertEqual(live["new_node"], int(said["nodes"]))
        self.assertEqual(live["longer_line"], int(said["lines"]))
        self.assertEqual((after["new_node"], after["longer_line"]), (0, 0))

    def test_python_names_its_own_functions(self):
        with self.running(sys.executable, "-c", HOST) as (pid, _):
            answer = self.sites(pid, "--full", "--host")
        big = answer["sites"][0]
        self.assertEqual((big["blocks"], big["requested"] // 3 >= 2 << 20), (3, True))
        self.assertTrue(any(f["symbol"] and f["symbol"].startswith("Py") for f in big["frames"]))

    def test_device_blocks_have_sites(self):
        self.env["LD_LIBRARY_PATH"] = FAKE_CUDA
        options = ("-o", "sites=always", "-o", "host=off")
        with self.running(sys.executable, "-c", DEVICE, options=options) as (pid, said):
            answer = self.sites(pid, "--device", "--full")
            block = self.good("explain", str(pid), said["device"])
            ordered = json.loads(self.good("explain", str(pid), said["ordered"], "--json"))
            host = self.sites(pid, "--host")
        account = sorted((s["requested"], s["blocks"], s["allocs"], s["frees"])
                         for s in answer["sites"])
        total = [sum(column) for column in zip(*account)]
        self.assertEqual(total, [3 * (4 << 20) + 300000, 4, 25, 21])
        self.assertTrue(all(s["cells"][0]["tier"] == "device" for s in answer["sites"]))
        self.assertIn("tier device (device), device 0, own segment", block)
        self.assertIn("on the device: 4.00 MiB requested", block)
        self.assertEqual(ordered["block"]["segment"], "stream")
        self.assertEqual(ordered["block"]["requested"], 300000)
        self.assertEqual(host["sites"], [])


if __name__ == "__main__":
    if not ctypes.util.find_library("unwind"):
        print("skipped: libunwind.so.8 is not installed")
        sys.exit(77)
    BERTH, FAKE_CUDA = sys.argv[1:3]
    rest = sys.argv[3:]
    while rest and "=" in rest[0]:
        name, _, file_path = rest.pop(0).partition("=")
        PROGRAM[name] = file_path
    unittest.main(argv=[sys.argv[0], *rest])
