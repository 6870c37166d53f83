#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs that share device memory: one keeps a segment, others borrow pieces of it.

Usage: shared.py DRIVER_DIR BERTH CLIENT [unittest's arguments]
"""
import os
import sys
import unittest

from shared_case import POLICY, MIB, UUID, policy, until, Program, Case


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
        keeper.pool("list")  # it can be asked from now on
        program = self.borrower(keeper)
        program.alloc(MIB, "device")
        self.assertIn(f"tier hot stays empty: process {keeper.pid}: there is no segment 'w'",
                      program.said())
        self.assertEqual(program.tier()["why"],
                         f"process {keeper.pid}: there is no segment 'w'")
        keeper.pool("create", "w", "16M")
        program.alloc_until("hot")
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


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]])
