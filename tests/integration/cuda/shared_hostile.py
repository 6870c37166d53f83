#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs that share device memory, and whoever means them harm: wrong requests, strangers on the
socket, a driver that fails.

Usage: shared_hostile.py DRIVER_DIR BERTH CLIENT [unittest's arguments]
"""
import array
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import unittest

from shared_case import BERTH, PATIENCE_S, MIB, UUID, policy, until, Program, Case


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
             if n.startswith(f"{theirs.pid}-") and n.endswith(".sock")), None))
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
                    self.assertIn("tier hot stays empty: ", program.said())
                    self.assertEqual(program.account()["reserved"], 0)
                    program.alloc(MIB, "device")
                    self.attach_or_find(program)
                    program.tell(f"free {program.alloc(MIB, 'hot')}")
                    program.pool("detach", "hot")
                    self.check_given_back(log)
                    program.end()

    def attach_or_find(self, program):
        """A block that missed the tier a second after the first attempt has it tried again."""
        done = self.try_berth("pool", "attach", str(program.pid), "hot")
        self.assertTrue(done.returncode == 0 or "is attached already" in done.stderr, done.stderr)

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
        self.attach_or_find(program)
        program.alloc(MIB, "hot")
        self.refuses("the driver kept the segment: CUDA error 999", keeper, "drop", "w")
        keeper.pool("drop", "w")


class Legacy(Case):
    """Where the driver shares no descriptors"""

    NONE = {"BERTH_FAKE_FAIL": "cuDeviceGetAttribute:1+=999"}

    def attached(self, keeper):
        """A legacy handle needs a context: the first block finds the tier empty."""
        program = self.borrower(keeper)
        program.first = program.alloc_until("hot")
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
        self.assertEqual(program.tier()["state"], "attached")
        self.assertEqual(program.tell(f"free {program.first}"), "ok")
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
        program.alloc_until("hot")
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
