#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs that share device memory: one keeps a segment, others borrow pieces of it.

Usage: shared.py DRIVER_DIR BERTH CLIENT [unittest's arguments]
"""
import array
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

DRIVER_DIR, BERTH, CLIENT = sys.argv[1:4]
PATIENCE_S = 60
POLICY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "tools",
                      "policies", "shared-weights.policy")
MIB = 1 << 20
UUID = "GPU-62657274-682d-6661-6b65-2d6770752d3%d"

RULE = "rule r { side = device min-size = 64K place = { hot, device } }\n"


def policy(source, piece=""):
    """A policy that sends all large blocks to a tier that borrows from `source`."""
    source = f'from = "{source}"' if source else ""
    return f"tier hot {{ kind = shared {source} name = w {piece} }}\n" + RULE


def until(what, condition):
    """What the condition says, as soon as that is not false."""
    end = time.monotonic() + PATIENCE_S
    while True:
        said = condition()
        if said:
            return said
        if time.monotonic() > end:
            raise AssertionError(f"never: {what}")
        time.sleep(0.005)


class Program:
    """One client program under `berth run`."""

    def __init__(self, case, text=None, device=0, settings=None, user=None):
        self.case = case
        command = [BERTH, "run"]
        if text:
            command += ["--policy", case.write(text)]
        env = dict(case.env, **(settings or {}))
        self.errors = tempfile.TemporaryFile(dir=case.directory)
        self.process = subprocess.Popen(
            command + ["--", CLIENT, str(device)], env=env, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.errors, user=user)
        case.programs.append(self)
        self.pid = self.process.pid
        case.assertEqual(self.process.stdout.readline(), "ready\n", self.said())

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def alloc(self, size, tier):
        """The number of a new block, which lies in this tier."""
        answer = self.tell(f"alloc {size}").split()
        self.case.assertEqual(answer[1:], [tier], self.said())
        return int(answer[0])

    def said(self):
        self.errors.seek(0)
        return self.errors.read().decode()

    def pool(self, action, *arguments):
        return self.case.berth("pool", action, str(self.pid), *arguments)

    def tier(self, name="hot"):
        listed = json.loads(self.pool("list", "--json"))
        return {tier["tier"]: tier for tier in listed["tiers"]}[name]

    def stat(self):
        return json.loads(self.case.berth("stat", "--json", str(self.pid)))

    def account(self, name="hot"):
        stat = self.stat()
        tier = {tier["name"]: tier for tier in stat["tiers"]}[name]
        self.case.assertEqual(tier["reserved"], tier["held"] + tier["cached"] + tier["overhead"])
        return tier

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        if self.process.poll() is None:
            self.process.communicate("quit\n", timeout=PATIENCE_S)
        status = self.process.returncode
        self.process.stdin.close()
        self.process.stdout.close()
        self.errors.close()
        return status


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="berth-shared-")
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith("BERTH_") and k != "CUDA_VISIBLE_DEVICES"}
        self.env.update(LD_LIBRARY_PATH=DRIVER_DIR, XDG_RUNTIME_DIR=self.directory,
                        BERTH_FAKE_DEVICES="2")
        self.programs = []

    def tearDown(self):
        statuses = {program.end() for program in self.programs}
        shutil.rmtree(self.directory)
        self.assertLessEqual(statuses, {0, -signal.SIGKILL})

    def write(self, text):
        handle, path = tempfile.mkstemp(dir=self.directory)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def try_berth(self, *arguments):
        """Status and words; asks again while the process has not opened its socket yet."""
        end = time.monotonic() + PATIENCE_S
        while True:
            done = subprocess.run([BERTH, *arguments], env=self.env, capture_output=True, text=True,
                                  timeout=PATIENCE_S)
            # There is no socket yet, or its name stands and nobody listens yet.
            early = "expected one that was started" in done.stderr or \
                "does not answer any more" in done.stderr
            if not early or time.monotonic() > end:
                return done
            time.sleep(0.005)

    def berth(self, *arguments):
        done = self.try_berth(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), arguments)
        return done.stdout

    def refused(self, expected, *arguments):
        done = self.try_berth(*arguments)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(expected, done.stderr)

    def refuses(self, expected, program, *arguments):
        self.refused(expected, "pool", arguments[0], str(program.pid), *arguments[1:])

    def keeper(self, size="16M", *arguments, **settings):
        program = Program(self, **settings)
        program.pool("create", "w", size, *arguments)
        return program

    def borrower(self, keeper, piece="", **settings):
        return Program(self, policy(keeper.pid if keeper else None, piece), **settings)


class Exchange(Case):
    """Memory that is there for several"""

    def test_what_one_writes_the_other_reads(self):
        keeper = self.keeper()
        writer = self.borrower(keeper, "offset = 2M size = 8M")
        reader = self.borrower(keeper, "offset = 2M size = 8M")
        blocks = [(w, writer.alloc(size, "hot"), reader.alloc(size, "hot"))
                  for w, size in (("first", MIB), ("second", 3 * MIB), ("third", 70000))]
        for text, mine, _ in blocks:
            self.assertEqual(writer.tell(f"fill {mine} 46"), "ok")
            self.assertEqual(writer.tell(f"write {mine} {text}"), "ok")
        for text, _, theirs in blocks:
            self.assertEqual(reader.tell(f"read {theirs} 10"), text.ljust(10, "."))
        reader.tell(f"write {blocks[0][2]} answer")
        self.assertEqual(writer.tell(f"read {blocks[0][1]} 6"), "answer")
        # Another piece is other memory.
        other = self.borrower(keeper, "offset = 10M size = 4M")
        self.assertEqual(other.tell(f"fill {other.alloc(4 * MIB, 'hot')} 33"), "ok")
        self.assertEqual(writer.tell(f"read {blocks[1][1]} 6"), "second")
        self.assertEqual([p.said() for p in self.programs], [""] * 4)

    def test_two_tiers_of_a_program_are_kept_apart(self):
        keeper = self.keeper()
        program = Program(self, policy(None) + "tier other { kind = shared }\n")
        where = ("--from", str(keeper.pid), "--name", "w")
        program.pool("attach", "hot", *where, "--offset", "2M", "--size", "4M")
        for piece in ((), ("--offset", "4M", "--size", "4M"), ("--size", "3M")):
            self.refuses("tier 'hot' borrows bytes of that piece already", program, "attach",
                         "other", *where, *piece)
        program.pool("attach", "other", *where, "--offset", "6M")
        self.refuses("is attached already", program, "attach", "hot", *where)

    def test_the_policy_to_start_from(self):
        keeper = Program(self)
        keeper.pool("create", "weights", "4M")
        self.env["BERTH_KEEPER"] = str(keeper.pid)
        with open(POLICY, encoding="ascii") as file:
            program = Program(self, file.read().replace("tag = weight", "tag = untagged"))
        program.alloc(MIB, "hot")
        self.assertIn("ok: 1 tier", self.berth("policy", "check", POLICY))

    def test_the_keeper_may_borrow_of_itself(self):
        keeper = Program(self, policy(None))
        keeper.pool("create", "w", "4M")
        keeper.pool("attach", "hot", "--from", str(keeper.pid))
        reader = self.borrower(keeper)
        keeper.tell(f"write {keeper.alloc(MIB, 'hot')} mine")
        self.assertEqual(reader.tell(f"read {reader.alloc(MIB, 'hot')} 4"), "mine")

    def test_a_borrowed_block_is_an_ordinary_one(self):
        program = self.borrower(self.keeper(), "size = 4M")
        before = program.tell("info")
        block = program.alloc(3 * MIB, "hot")
        self.assertEqual(program.tell(f"range {block}"), "1")
        self.assertEqual(program.tell("info"), before)
        self.assertEqual(program.tell(f"ipc {block}"), "error 1")
        self.assertIn("the memory is borrowed", program.said())
        self.assertEqual(program.tell(f"free {block}"), "ok")
        self.assertEqual(program.tell(f"free {block}"), "error 1")
        self.assertEqual(program.tell("info"), before)
        self.assertEqual(program.account("device")["reserved"], 0)

    def test_the_account_says_what_is_borrowed(self):
        keeper = self.keeper("16M")
        program = self.borrower(keeper, "size = 4M")
        program.alloc(3 * MIB, "hot")
        tier = program.account()
        self.assertEqual((tier["reserved"], tier["held"], tier["cached"]),
                         (4 * MIB, 3 * MIB, MIB))
        self.assertEqual(tier["description"],
                         f"borrowed: 4.00 MiB at 0 of segment 'w' of process {keeper.pid}")
        self.assertEqual(program.stat()["totals"]["borrowed"], 4 * MIB)
        self.assertEqual(keeper.account("device")["overhead"], 16 * MIB)
        self.assertEqual(keeper.stat()["totals"]["borrowed"], 0)
        shown = keeper.pool("list")
        self.assertRegex(shown, rf"\nw +16\.0 MiB +0 +{UUID % 0} +descriptor +1\n")
        keeper.pool("drop", "w")
        self.assertEqual(keeper.account("device")["reserved"], 0)

    def test_a_full_tier_is_counted_and_passed_over(self):
        program = self.borrower(self.keeper(), "size = 4M")
        program.alloc(3 * MIB, "hot")
        program.alloc(2 * MIB, "device")
        small = program.alloc(MIB, "hot")
        program.alloc(65536, "device")
        self.assertEqual(program.tell(f"free {small}"), "ok")
        program.alloc(65536, "hot")
        tier = program.account()
        self.assertEqual((tier["spilled_blocks"], tier["spilled_bytes"]), (2, 2 * MIB + 65536))
        rule = program.stat()["rules"][0]
        self.assertEqual((rule["matched_blocks"], rule["spilled_blocks"]), (5, 2))

    def test_limits_of_the_program_are_not_for_borrowed_memory(self):
        options = {"BERTH_OPTIONS": "device-limit=4M,device-limit-untagged=1M"}
        program = self.borrower(self.keeper(), "size = 8M", settings=options)
        program.alloc(6 * MIB, "hot")
        program.alloc(MIB, "hot")
        self.assertEqual(program.tell(f"alloc {2 * MIB}"), "error 2")
        program.alloc(MIB, "hot")
        self.assertEqual(program.account()["spilled_blocks"], 1)

    def test_freed_blocks_join(self):
        program = self.borrower(self.keeper(), "size = 4M")
        blocks = [program.alloc(65536, "hot") for _ in range(64)]
        program.alloc(65536, "device")
        for block in blocks[::2] + blocks[1::2]:
            self.assertEqual(program.tell(f"free {block}"), "ok")
        program.alloc(4 * MIB, "hot")

    def test_a_capture_gets_no_borrowed_memory(self):
        program = self.borrower(self.keeper())
        block = program.alloc(MIB, "hot")
        self.assertEqual(program.tell("capture"), "ok")
        program.alloc(MIB, "device")
        self.assertEqual(program.tell(f"free {block}"), "ok")
        self.assertEqual(program.tell("endcapture"), "ok")
        program.alloc(MIB, "hot")


class Detach(Case):
    """Giving it up"""

    def test_blocks_that_live_keep_it(self):
        program = self.borrower(self.keeper(), "size = 4M")
        blocks = [program.alloc(MIB, "hot"), program.alloc(65536, "hot")]
        self.refuses("tier 'hot' still has 1114112 bytes (1.06 MiB) of untagged in 2 blocks",
                     program, "detach", "hot")
        self.assertEqual(program.tell(f"free {blocks[0]}"), "ok")
        self.refuses("65536 bytes (64.0 KiB) of untagged in 1 block;", program, "detach", "hot")
        program.alloc(MIB, "hot")
        self.assertEqual(program.tell("free 2"), "ok")
        self.assertEqual(program.tell(f"free {blocks[1]}"), "ok")
        program.pool("detach", "hot")
        self.refuses("tier 'hot' is not attached", program, "detach", "hot")
        self.assertEqual(program.account()["reserved"], 0)
        program.alloc(MIB, "device")
        self.assertEqual(program.tier()["state"], "empty")
        program.pool("attach", "hot")
        self.refuses("is attached already, to segment 'w'", program, "attach", "hot")
        program.alloc(MIB, "hot")
        self.assertEqual(program.said(), "")

    def test_what_was_never_used_can_be_given_up(self):
        program = self.borrower(self.keeper())
        program.pool("detach", "hot")
        self.assertEqual(program.account()["reserved"], 0)

    def test_bytes_stay_in_the_segment(self):
        program = self.borrower(self.keeper())
        program.tell(f"write {program.alloc(MIB, 'hot')} stays")
        program.tell("free 0")
        program.pool("detach", "hot")
        program.pool("attach", "hot")
        self.assertEqual(program.tell(f"read {program.alloc(MIB, 'hot')} 5"), "stays")

    def test_nothing_leaks(self):
        """Every mapping, handle and descriptor that was had is given back."""
        log = os.path.join(self.directory, "log")
        program = self.borrower(self.keeper(), settings={"BERTH_FAKE_LOG": log})
        self.assertEqual(program.tier()["state"], "attached")
        before = program.tell("descriptors")
        for _ in range(5):
            block = program.alloc(MIB, "hot")
            program.tell(f"free {block}")
            program.pool("detach", "hot")
            program.pool("attach", "hot")
        self.assertEqual(program.tell("descriptors"), before)
        program.pool("detach", "hot")
        with open(log, encoding="ascii") as file:
            calls = [line.split("(")[0].split()[-1] for line in file if "(" in line]
        count = {name: calls.count(name) for name in calls}
        self.assertEqual(count["cuMemImportFromShareableHandle"], 6)
        self.assertEqual(count["cuMemRelease"], 6)
        self.assertEqual(count["cuMemAddressReserve"], count["cuMemAddressFree"])
        self.assertEqual(count["cuMemMap"], count["cuMemUnmap"])


class Ends(Case):
    """Processes and contexts that end"""

    def test_the_memory_outlives_its_keeper(self):
        keeper = self.keeper()
        writer, reader = self.borrower(keeper), self.borrower(keeper)
        keeper.kill()
        writer.tell(f"write {writer.alloc(MIB, 'hot')} alive")
        self.assertEqual(reader.tell(f"read {reader.alloc(MIB, 'hot')} 5"), "alive")
        self.assertFalse(reader.tier()["keeper_lives"])
        reader.tell("free 0")
        reader.pool("detach", "hot")
        self.refuses(f"there is no process {keeper.pid}", reader, "attach", "hot")
        reader.alloc(MIB, "device")
        self.assertEqual(writer.tell("read 0 5"), "alive")

    def test_a_borrower_that_is_killed_leaves_the_others_alone(self):
        keeper = self.keeper()
        writer, reader = self.borrower(keeper), self.borrower(keeper)
        writer.tell(f"write {writer.alloc(MIB, 'hot')} alive")
        writer.kill()
        self.assertEqual(reader.tell(f"read {reader.alloc(MIB, 'hot')} 5"), "alive")

    def test_a_context_that_ends_frees_its_blocks(self):
        program = self.borrower(self.keeper(), "size = 4M")
        program.tell(f"write {program.alloc(4 * MIB, 'hot')} still")
        self.assertEqual(program.tell("reset"), "ok")
        self.assertEqual(program.account()["held"], 0)
        block = program.alloc(4 * MIB, "hot")
        self.assertEqual(program.tell(f"read {block} 5"), "still")
        self.assertEqual(program.tell(f"free {block}"), "ok")
        program.pool("detach", "hot")

    def test_one_context_at_a_time(self):
        program = self.borrower(self.keeper())
        program.alloc(MIB, "hot")
        self.assertEqual(program.tell("own"), "ok")
        program.alloc(MIB, "device")
        self.assertEqual(program.account()["spilled_blocks"], 1)
        self.assertEqual(program.tell("free 0"), "ok")
        program.alloc(MIB, "hot")

    def test_a_fork_and_an_exec_leave_all_as_it_was(self):
        program = self.borrower(self.keeper())
        program.tell(f"write {program.alloc(MIB, 'hot')} before")
        self.assertEqual(program.tell("fork"), "ok")
        self.assertEqual(program.tell("read 0 6"), "before")
        self.assertEqual(program.tier()["state"], "attached")
        before = program.tell("descriptors")
        self.assertEqual(program.tell("exec"), "ready")
        self.assertEqual(program.tier()["state"], "attached")
        self.assertEqual(program.tell("descriptors"), before)
        self.assertEqual(program.tell(f"read {program.alloc(MIB, 'hot')} 6"), "before")


class When(Case):
    """The moment at which a tier gets its piece"""

    def test_a_block_that_finds_it_empty_has_it_tried_again(self):
        keeper = Program(self)
        program = self.borrower(keeper)
        program.alloc(MIB, "device")
        self.assertIn(f"tier hot stays empty: process {keeper.pid}: there is no segment 'w'",
                      program.said())
        self.assertEqual(program.tier()["why"],
                         f"process {keeper.pid}: there is no segment 'w'")
        keeper.pool("create", "w", "16M")
        until("a block in hot", lambda: program.tell("alloc 65536").endswith(" hot"))
        self.assertEqual(program.said().count("\n"), 1)
        self.assertGreaterEqual(program.account()["spilled_blocks"], 1)

    def test_a_policy_that_is_applied_attaches_before_it_is_answered(self):
        keeper = self.keeper()
        program = Program(self)
        program.alloc(MIB, "device")
        self.berth("policy", "apply", str(program.pid), self.write(policy(keeper.pid)))
        program.alloc(MIB, "hot")
        self.refused("its from cannot change", "policy", "apply", str(program.pid),
                     self.write(policy(keeper.pid + 1)))

    def test_without_a_source_it_waits_for_one(self):
        keeper = self.keeper()
        program = Program(self, policy(None))
        program.alloc(MIB, "device")
        self.refuses("neither the policy nor the request says from whom", program, "attach", "hot")
        program.pool("attach", "hot", "--from", str(keeper.pid), "--offset", "1M", "--size", "2M")
        program.alloc(2 * MIB, "hot")
        program.alloc(65536, "device")
        tier = program.tier()
        self.assertEqual((tier["offset"], tier["size"], tier["keeper"]),
                         (MIB, 2 * MIB, keeper.pid))

    def test_without_a_control_thread_it_says_so(self):
        program = self.borrower(self.keeper(), settings={"BERTH_CONTROL": "never"})
        program.alloc(MIB, "device")
        program.alloc(MIB, "device")
        self.assertEqual(program.said().count("no control thread to attach it"), 1)

    def test_a_socket_can_be_the_source(self):
        keeper = self.keeper()
        runtime = os.path.join(self.directory, "berth")
        path = next(os.path.join(runtime, name) for name in os.listdir(runtime)
                    if name.startswith(f"{keeper.pid}-"))
        program = Program(self, policy(path))
        program.alloc(MIB, "hot")
        self.assertEqual(program.tier()["keeper"], keeper.pid)


class Devices(Case):
    """Each process numbers its devices as it likes"""

    def test_the_same_device_has_many_numbers(self):
        keeper = self.keeper(settings={"CUDA_VISIBLE_DEVICES": "1"})
        self.assertIn(UUID % 1, keeper.pool("list"))
        program = self.borrower(keeper, device=1)
        block = program.alloc(MIB, "hot")
        self.assertEqual(program.tell(f"range {block}"), "1")
        turned = self.borrower(keeper, settings={"CUDA_VISIBLE_DEVICES": "1,0"})
        program.tell(f"write {block} by UUID")
        self.assertEqual(turned.tell(f"read {turned.alloc(MIB, 'hot')} 7"), "by UUID")

    def test_a_context_of_another_device_gets_nothing(self):
        program = self.borrower(self.keeper(), device=1)
        self.assertEqual(program.tier()["state"], "attached")
        program.alloc(MIB, "device")
        self.assertEqual(program.account()["spilled_blocks"], 1)

    def test_a_device_that_is_not_seen_is_named(self):
        keeper = self.keeper("16M", "--device", UUID % 1)
        program = self.borrower(keeper, settings={"CUDA_VISIBLE_DEVICES": "0"})
        program.alloc(MIB, "device")
        self.refuses(f"the segment lies on {UUID % 1}, which this process does not see", program,
                     "attach", "hot")


class Refusals(Case):
    """What cannot be"""

    def test_wrong_pieces(self):
        keeper = self.keeper("16M")
        program = Program(self, policy(None))
        source = ("attach", "hot", "--from", str(keeper.pid))
        for expected, arguments in (
                ("segment 'w' of process %d has 16.0 MiB" % keeper.pid, ("--size", "17M")),
                ("not 2.00 MiB from byte 15728640 on", ("--offset", "15M", "--size", "2M")),
                ("expected a piece inside it", ("--offset", "16M")),
                ("expected a piece inside it", ("--offset", "8192T")),
                ("no multiples of 512 bytes", ("--offset", "100")),
                ("no multiples of 512 bytes", ("--size", "1000")),
                ('"size" is no size', ("--size", "much")),
                ("there is no segment 'x'", ("--name", "x")),
                ("is not a name", ("--name", 'x"'))):
            self.refuses(expected, program, *source, *arguments)
        self.refuses("no tier 'cold' of kind shared", program, "attach", "cold")
        self.refuses("no tier 'device' of kind shared", program, "detach", "device")
        program.alloc(MIB, "device")
        self.assertEqual(program.account()["reserved"], 0)
        program.pool(*source, "--offset", "15M", "--size", "1M")
        program.alloc(MIB, "hot")

    def test_wrong_sources(self):
        program = Program(self, policy(None))
        plain = subprocess.Popen(["sleep", "60"])
        for expected, source in (
                ("there is no process 999999999", "999999999"),
                (f"process {plain.pid} has no control socket here", str(plain.pid)),
                ("is no process; expected a process id", "its-parent"),
                ("is no process; expected a process id", "0x10"),
                ("has no control socket here", os.path.join(self.directory, "none.sock")),
                ("is no process", self.directory + "/"),
                ("is no process", "/" + "x" * 5000)):
            self.refuses(expected, program, "attach", "hot", "--from", source)
        plain.kill()
        plain.wait()
        program.alloc(MIB, "device")

    def test_wrong_segments(self):
        keeper = self.keeper("1")
        self.assertIn(" 2.00 MiB ", keeper.pool("list"))
        for expected, arguments in (
                ("there is a segment 'w' already", ("w", "1M")),
                ("is not a name", ("a/b", "1M")),
                ("the size is 0", ("x", "0")),
                ('"size" is no size', ("x", "1.3")),
                ("the driver gave no memory for the segment: out of memory", ("x", "100G")),
                ("out of memory", ("x", "8191T")),
                ("sees no device 2", ("x", "1M", "--device", "2")),
                ("does not see " + UUID % 7, ("x", "1M", "--device", UUID % 7)),
                ('"device" is no device', ("x", "1M", "--device", "first"))):
            self.refuses(expected, keeper, "create", *arguments)
        self.refuses("there is no segment 'x'", keeper, "drop", "x")
        self.assertEqual(keeper.account("device")["reserved"], 2 * MIB)

    def test_a_capacity_holds_for_segments_too(self):
        keeper = Program(self, "tier t { kind = device capacity = 1M }\nrule r { place = t }")
        keeper.pool("create", "w", "2M")
        self.assertEqual(keeper.account("t")["reserved"], 0)

    @unittest.skipIf(os.geteuid() != 0, "only root can start another user's process")
    def test_another_users_segment(self):
        os.chmod(self.directory, 0o755)
        runtime = os.path.join(self.directory, "theirs")
        os.mkdir(runtime, 0o700)
        os.chown(runtime, 65534, 65534)
        theirs = Program(self, user=65534, settings={"XDG_RUNTIME_DIR": runtime})
        path = os.path.join(runtime, "berth")
        name = until("its socket", lambda: next(
            (n for n in (os.listdir(path) if os.path.isdir(path) else ())
             if n.startswith(f"{theirs.pid}-")), None))
        program = Program(self, policy(os.path.join(path, name)))
        program.alloc(MIB, "device")
        self.assertIn("belongs to user 65534; expected this user's, or root's", program.said())

    def test_before_the_driver_is_there(self):
        process = subprocess.Popen(
            [BERTH, "run", "-o", "control=always", "--policy", self.write(policy(1)), "--", "cat"],
            env=self.env, stdin=subprocess.PIPE)
        try:
            self.refused("has not initialised the CUDA driver yet", "pool", "create",
                         str(process.pid), "w", "1M")
            self.refused("has not initialised the CUDA driver yet", "pool", "attach",
                         str(process.pid), "hot")
        finally:
            process.communicate(timeout=PATIENCE_S)


class Keeper(threading.Thread):
    """A socket that answers shared.open as it was told, with these descriptors."""

    numbers = itertools.count()

    def __init__(self, directory, answer, descriptors=()):
        super().__init__(daemon=True)
        self.path = os.path.join(directory, f"keeper-{next(self.numbers)}.sock")
        self.answer, self.descriptors = answer, descriptors
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(8)
        self.start()

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                client.sendall(b'{"berth":"0","protocol":1}\n')
                client.recv(4096)
                if self.answer is None:
                    time.sleep(PATIENCE_S)
                fds = array.array("i", self.descriptors)
                client.sendmsg([self.answer], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
                               if self.descriptors else [])
                if self.answer:
                    client.recv(1)

    def close(self):
        self.listener.close()


class Strangers(Case):
    """Keepers that are none, or lie"""

    def offer(self, **changes):
        offer = {"id": None, "ok": True, "size": 4 * MIB, "uuid": UUID % 0, "kind": "descriptor"}
        offer.update(changes)
        return json.dumps({k: v for k, v in offer.items() if v != "gone"}).encode() + b"\n"

    def test_what_they_say_is_checked(self):
        ours = self.keeper()
        program = Program(self, policy(None))
        self.assertEqual(program.tier()["state"], "empty") # its socket is open
        before = program.tell("descriptors")
        pipe = os.pipe()
        named = os.memfd_create("fake-vmm-device-0")
        os.ftruncate(named, 2 * MIB)
        handle = "A" * 86 + "=="
        misunderstood = "gave an answer that was not understood"
        for expected, answer, descriptors in (
                (misunderstood, b"[]\n", ()),
                (misunderstood, b"no JSON\n", ()),
                (misunderstood, b"\n" * 10 + b"{}x\n", ()),
                ("refused and did not say why", b"{}\n", ()),
                ("never heard of it", b'{"ok":false,"error":{"message":"never heard of it"}}\n', ()),
                (misunderstood, b"x" * (2 << 20), ()),
                ("does not answer", b"", ()),
                (misunderstood, self.offer(), ()),
                (misunderstood, self.offer(), (pipe[0], pipe[1])),
                (misunderstood, self.offer(size=0), (named,)),
                (misunderstood, self.offer(size=-1), (named,)),
                (misunderstood, self.offer(size="4M"), (named,)),
                (misunderstood, self.offer(uuid="GPU-1"), (named,)),
                (misunderstood, self.offer(uuid=(UUID % 0)[:-1] + "g"), (named,)),
                (misunderstood, self.offer(uuid=UUID % 0 + "0"), (named,)),
                (misunderstood, self.offer(uuid="gone"), (named,)),
                (misunderstood, self.offer(kind="gift"), (named,)),
                (misunderstood, self.offer(kind="legacy"), ()),
                (misunderstood, self.offer(kind="legacy", handle="AAAA"), ()),
                (misunderstood, self.offer(kind="legacy", handle="!" * 88), ()),
                (misunderstood, self.offer(kind="legacy", handle="A" * 9999), ()),
                (misunderstood, self.offer(kind="legacy", handle=handle), (named,)),
                ("did not open the segment's handle", self.offer(kind="legacy", handle=handle), ()),
                ("which this process does not see", self.offer(uuid=UUID % 9), (named,)),
                ("did not take the segment's descriptor", self.offer(), (pipe[0],)),
                # It has 2 MiB and says 4.
                ("the driver did not map the segment", self.offer(), (named,))):
            stranger = Keeper(self.directory, answer, descriptors)
            self.refuses(expected, program, "attach", "hot", "--from", stranger.path)
            stranger.close()
        self.assertEqual(program.tell("descriptors"), before)
        self.assertEqual(program.account()["reserved"], 0)
        program.pool("attach", "hot", "--from", str(ours.pid))
        program.alloc(MIB, "hot")
        for fd in (*pipe, named):
            os.close(fd)

    def test_silence_is_not_waited_for_long(self):
        stranger = Keeper(self.directory, None)
        program = Program(self, policy(stranger.path))
        program.alloc(MIB, "device")
        self.refuses("has not answered in time", program, "attach", "hot")
        stranger.close()


class Faults(Case):
    """Each call of the driver fails once"""

    def test_in_the_borrower(self):
        keeper = self.keeper()
        for call in ("cuDeviceGetCount", "cuDeviceGetUuid_v2", "cuMemImportFromShareableHandle",
                     "cuMemAddressReserve", "cuMemMap", "cuMemSetAccess"):
            for code in (2, 999):
                with self.subTest(call=call, code=code):
                    log = os.path.join(self.directory, f"log-{call}-{code}")
                    program = self.borrower(keeper, settings={
                        "BERTH_FAKE_FAIL": f"{call}:1={code}", "BERTH_FAKE_LOG": log})
                    program.alloc(MIB, "device")
                    self.assertIn("tier hot stays empty: ", program.said())
                    self.assertEqual(program.account()["reserved"], 0)
                    program.pool("attach", "hot")
                    program.tell(f"free {program.alloc(MIB, 'hot')}")
                    program.pool("detach", "hot")
                    self.check_given_back(log)
                    program.end()

    def check_given_back(self, log):
        with open(log, encoding="ascii") as file:
            good = [line.split("(")[0].split()[-1] for line in file
                    if "(" in line and line.rstrip().endswith("= 0")]
        count = {name: good.count(name) for name in (
            "cuMemImportFromShareableHandle", "cuMemRelease", "cuMemAddressReserve",
            "cuMemAddressFree", "cuMemMap", "cuMemUnmap")}
        self.assertEqual(count["cuMemImportFromShareableHandle"], count["cuMemRelease"])
        self.assertEqual(count["cuMemAddressReserve"], count["cuMemAddressFree"])
        self.assertEqual(count["cuMemMap"], count["cuMemUnmap"])
        self.assertGreaterEqual(count["cuMemMap"], 1)

    def test_when_it_is_given_up(self):
        program = self.borrower(self.keeper(), settings={"BERTH_FAKE_FAIL": "cuMemUnmap:1=999"})
        program.tell(f"write {program.alloc(MIB, 'hot')} kept")
        program.tell("free 0")
        self.refuses("the driver did not unmap the segment; it stays attached", program, "detach",
                     "hot")
        self.assertEqual(program.tell(f"read {program.alloc(MIB, 'hot')} 4"), "kept")
        program.tell("free 1")
        program.pool("detach", "hot")

    def test_in_the_keeper(self):
        for call, expected in (
                ("cuMemGetAllocationGranularity", "does not say in what sizes"),
                ("cuMemCreate", "gave no memory for the segment: CUDA error 999")):
            keeper = Program(self, settings={"BERTH_FAKE_FAIL": f"{call}:1=999"})
            self.refuses(expected, keeper, "create", "w", "1M")
            self.assertEqual(keeper.account("device")["reserved"], 0)
            keeper.pool("create", "w", "1M")
            self.borrower(keeper).alloc(MIB, "hot")
        keeper = self.keeper(settings={
            "BERTH_FAKE_FAIL": "cuMemExportToShareableHandle:1=999,cuMemRelease:1=999"})
        program = self.borrower(keeper)
        program.alloc(MIB, "device")
        self.assertIn("gave no descriptor of the segment: CUDA error 999", program.said())
        program.pool("attach", "hot")
        program.alloc(MIB, "hot")
        self.refuses("the driver kept the segment: CUDA error 999", keeper, "drop", "w")
        keeper.pool("drop", "w")


class Legacy(Case):
    """Where the driver shares no descriptors"""

    NONE = {"BERTH_FAKE_FAIL": "cuDeviceGetAttribute:1+=999"}

    def attached(self, keeper):
        """A legacy handle needs a context: the first block finds the tier empty."""
        program = self.borrower(keeper)
        until("a block in hot", lambda: program.tell("alloc 65536").endswith(" hot"))
        return program

    def test_bytes_are_exchanged(self):
        keeper = self.keeper(settings=self.NONE)
        self.assertIn(" legacy ", keeper.pool("list"))
        writer, reader = self.attached(keeper), self.attached(keeper)
        mine, theirs = writer.alloc(MIB, "hot"), reader.alloc(MIB, "hot")
        writer.tell(f"write {mine} by handle")
        self.assertEqual(reader.tell(f"read {theirs} 9"), "by handle")
        self.assertTrue(reader.tier()["legacy"])
        self.refuses("of untagged in 2 blocks", reader, "detach", "hot")
        self.assertEqual([p.said() for p in self.programs], [""] * 3)

    def test_it_can_be_given_up(self):
        program = self.attached(self.keeper(settings=self.NONE))
        last = until("the block that is in hot", lambda: program.tier()["state"] == "attached")
        self.assertTrue(last)
        for block in range(256):
            if program.tell(f"free {block}") != "ok":
                break
        program.pool("detach", "hot")
        program.pool("attach", "hot")
        program.alloc(MIB, "hot")

    def test_the_keepers_end_is_noticed_and_said(self):
        keeper = self.keeper(settings=self.NONE)
        program = self.attached(keeper)
        keeper.kill()
        until("that it was said", lambda: f"process {keeper.pid}, which keeps" in program.said())
        self.assertEqual(program.tier()["state"], "lost")
        program.alloc(65536, "device")
        self.refuses("still has 65536 bytes", program, "detach", "hot")

    def test_each_call_may_fail(self):
        """Once in the keeper, or once in the borrower; the next attempt works."""
        none = self.NONE["BERTH_FAKE_FAIL"]
        for call in ("cuDevicePrimaryCtxGetState", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2",
                     "cuMemAlloc_v2", "cuPointerGetAttribute"):
            with self.subTest(keeper=call):
                # The program itself takes the primary context by one call.
                nth = 2 if call == "cuDevicePrimaryCtxRetain" else 1
                keeper = Program(self, settings={"BERTH_FAKE_FAIL": f"{none},{call}:{nth}=2"})
                self.assertEqual(self.try_berth("pool", "list", str(keeper.pid)).returncode, 0)
                first = self.try_berth("pool", "create", str(keeper.pid), "w", "4M")
                if first.returncode != 0:
                    self.assertEqual(keeper.account("device")["reserved"], 0)
                    keeper.pool("create", "w", "4M")
                keeper.end()
        keeper = self.keeper(settings={"BERTH_FAKE_FAIL": f"{none},cuIpcGetMemHandle:1=999"})
        for call in ("cuIpcOpenMemHandle_v2", "cuMemGetAddressRange_v2", "cuIpcCloseMemHandle"):
            with self.subTest(borrower=call):
                program = Program(self, policy(None),
                                  settings={"BERTH_FAKE_FAIL": f"{call}:1=999"})
                source = ("hot", "--from", str(keeper.pid))
                first = self.try_berth("pool", "attach", str(program.pid), *source)
                if first.returncode != 0:
                    self.assertEqual(program.account()["reserved"], 0)
                    program.alloc(65536, "device")
                    self.attach_soon(program, *source)
                block = program.alloc(65536, "hot")
                self.assertEqual(program.tell(f"free {block}"), "ok")
                if call == "cuIpcCloseMemHandle":
                    self.refuses("it stays attached", program, "detach", "hot")
                    program.tell(f"free {program.alloc(65536, 'hot')}")
                program.pool("detach", "hot")
                program.end()

    def attach_soon(self, program, *source):
        until("that it is attached", lambda: self.try_berth(
            "pool", "attach", str(program.pid), *source).returncode == 0)

    def test_it_ends_with_a_context(self):
        keeper = self.keeper(settings=self.NONE)
        program = self.attached(keeper)
        self.assertEqual(program.tell("reset"), "ok")
        program.alloc(65536, "device")
        until("a block in hot", lambda: program.tell("alloc 65536").endswith(" hot"))
        self.assertEqual(keeper.tell("reset"), "ok")
        other = self.borrower(keeper)
        other.alloc(65536, "device")
        self.refuses("ended with the context that it was made in", other, "attach", "hot")
        keeper.pool("drop", "w")
        keeper.pool("create", "w", "16M")
        other.pool("attach", "hot")
        other.alloc(65536, "hot")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]])
