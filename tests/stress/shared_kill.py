#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Workload: programs that borrow device memory of one keeper, each a piece of it, allocate, fill,
check and free in two threads; seeded, some of them are killed meanwhile, and others take their
pieces; at last the keeper is killed, too. Goal: nobody else sees a wrong byte, a refusal or a line;
what is left can be detached, attached anew where its keeper lives, and adds up.

Usage: shared_kill.py DRIVER_DIR BERTH CLIENT [--rounds N] [--seed N]
"""
import argparse
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration",
                                "cuda"))
from shared_case import MIB, Case, Program, policy, until  # noqa: E402

PIECES = 3
PIECE = 8 * MIB
STEPS = 300


class Kill(Case):
    def setUp(self):
        super().setUp()
        self.keeper = Program(self)
        self.keeper.pool("create", "w", str(PIECES * PIECE))
        self.number = 0

    def borrower(self, piece):
        text = policy(self.keeper.pid, f"offset = {piece * PIECE} size = {PIECE}")
        settings = {"BERTH_OPTIONS": OPTIONS[self.number % len(OPTIONS)]}
        self.number += 1
        program = Program(self, text, settings=settings)
        until("the piece is there", lambda: program.tier()["size"] == PIECE)
        return program

    def begin(self, program):
        self.assertEqual(program.tell(f"load {STEPS} {RANDOM.randrange(1 << 20)}"), "begun",
                         program.said())

    def finish(self, program):
        """The program did not notice that others ended."""
        self.assertEqual(program.process.stdout.readline().strip(), "done 0 0", program.said())
        account = program.account()
        self.assertEqual((account["held"], account["blocks"]), (0, 0))
        self.assertGreater(account["allocs"], STEPS / 8)

    def round(self, programs):
        victims = [piece for piece in programs if RANDOM.random() < 0.4]
        for program in programs.values():
            self.begin(program)
        for piece in victims:
            # Now and then after a question, whose answer takes a while.
            if RANDOM.random() < 0.5:
                programs[piece].account()
            programs[piece].kill()
        for piece, program in programs.items():
            if piece not in victims:
                self.finish(program)
        for piece in victims:
            programs[piece] = self.borrower(piece)
        return len(victims)

    def test_nobody_notices_who_is_killed(self):
        programs = {piece: self.borrower(piece) for piece in range(PIECES)}
        killed = sum(self.round(programs) for _ in range(ROUNDS))
        first = programs[0]
        for program in programs.values():
            self.assertEqual(program.said(), "")
        first.pool("detach", "hot")
        first.pool("attach", "hot")
        until("it is there again", lambda: first.tier()["size"] == PIECE)
        for program in programs.values():
            self.begin(program)
        self.keeper.kill()
        for program in programs.values():
            self.finish(program)
            program.pool("detach", "hot")
            self.begin(program)
            self.assertEqual(program.process.stdout.readline().strip(), "done 0 0", program.said())
        print(f"seed {SEED}: {ROUNDS} rounds, {killed} killed, and their keeper")


OPTIONS = ("", "free=lazy", "segments=expandable")

if __name__ == "__main__":
    import unittest
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs=3)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    ROUNDS, SEED = options.rounds, options.seed
    RANDOM = random.Random(SEED)
    unittest.main(argv=sys.argv[:1])
