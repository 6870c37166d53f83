#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""berth-infer under Berth: its bytes lie where the policy says, and its text does not change.

    test_under_berth.py BERTH BERTH-INFER SHIPPED-MODEL

What each tag must hold is computed from the model's own header, and compared with what
`berth stat` tells, to the byte.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from conversation import THRESHOLD, Conversation, kv_bytes, weight_bytes

BERTH, PROGRAM, MODEL = sys.argv[1:4]
PROMPTS = ["In the beginning", "And the king said unto his servants,"]
# Each word takes an emulated processor tenths of a second.
WORDS = "3" if os.environ.get("CHECK_EMULATED") else "24"
GENERATE = [PROGRAM, "--model", MODEL, "--max-tokens", WORDS]

TIERS = """
tier far {{ kind = file path = "{folder}/far" }}
tier spare {{ kind = file path = "{folder}/spare" }}
"""
WEIGHTS_FAR = TIERS + """
rule weights {{ tag = weight min-size = 64K place = {{ far, dram }} }}
rule rest {{ min-size = 64K place = dram }}
"""
REST_SPARE = TIERS + """
rule rest {{ tag = {{ kv, activation }} min-size = 64K place = spare }}
rule weights {{ tag = weight min-size = 64K place = {{ far, dram }} }}
rule others {{ min-size = 64K place = dram }}
"""
ALL_FAR = TIERS + """
rule all {{ min-size = 4K place = far }}
"""


class UnderBerth(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = holder.name
        for name in "far", "spare":
            os.mkdir(os.path.join(self.folder, name))

    def policy(self, name, text):
        path = os.path.join(self.folder, name)
        pathlib.Path(path).write_text(text.format(folder=self.folder), "utf-8")
        return path

    def start(self, policy, *options):
        talk = Conversation([BERTH, "run", "--policy", policy, "--", *GENERATE, *options])
        self.addCleanup(talk.close)
        return talk

    def native(self, prompt):
        return subprocess.run([*GENERATE, "--prompt", prompt], capture_output=True, text=True,
                              check=True).stdout

    def requested(self, child):
        """{tier: {tag: bytes}} of the blocks that are accounted one by one."""
        told = subprocess.run([BERTH, "stat", str(child.pid), "--json"], capture_output=True,
                              text=True, check=True).stdout
        return {tier["name"]: {row["tag"]: row["requested"] for row in tier["tags"]
                               if row["requested"] > 0}
                for tier in json.loads(told)["tiers"]}

    def test_bytes_lie_where_the_policy_says_and_follow_a_changed_one(self):
        child = self.start(self.policy("first", WEIGHTS_FAR), "--keep-sessions")
        self.assertEqual(child.answer(PROMPTS[0]), self.native(PROMPTS[0]))
        first = self.requested(child)
        self.assertEqual(first["far"], {"weight": weight_bytes(MODEL)})
        self.assertEqual(first["dram"]["kv"], kv_bytes(MODEL))
        self.assertGreater(first["dram"]["activation"], THRESHOLD)
        self.assertNotIn("weight", first["dram"])

        subprocess.run([BERTH, "policy", "apply", str(child.pid),
                        self.policy("second", REST_SPARE)], check=True, capture_output=True)
        self.assertEqual(child.answer(PROMPTS[1]), self.native(PROMPTS[1]))
        second = self.requested(child)
        self.assertEqual(second["far"], first["far"])
        self.assertEqual(second["dram"]["kv"], first["dram"]["kv"])
        self.assertEqual(second["spare"], {"kv": kv_bytes(MODEL),
                                           "activation": first["dram"]["activation"]})
        self.assertEqual(child.close(), 0)

    def test_a_session_gives_its_memory_back(self):
        child = self.start(self.policy("first", WEIGHTS_FAR))
        for _ in range(3):
            child.answer(PROMPTS[0])
        held = self.requested(child)
        self.assertEqual(held["far"], {"weight": weight_bytes(MODEL)})
        # One session at most is there, its end mark may precede its end.
        self.assertLessEqual(held["dram"].get("kv", 0), kv_bytes(MODEL))

    def test_everything_on_a_file_gives_the_same_text(self):
        child = self.start(self.policy("all", ALL_FAR))
        for prompt in PROMPTS:
            self.assertEqual(child.answer(prompt), self.native(prompt))
        far = self.requested(child)["far"]
        self.assertGreaterEqual(far["weight"], weight_bytes(MODEL))

    def test_the_exit_code_is_the_programs(self):
        done = subprocess.run([BERTH, "run", "--policy", self.policy("first", WEIGHTS_FAR), "--",
                               PROGRAM, "--model", "/nowhere"], capture_output=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"/nowhere/config.json: No such file", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
