#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: `classifier = blind` judges the blocks that a program tags, and says beside each verdict
what the program said; with `classifier = on` the program's own tags are in force.

    test_blind.py BERTH BERTH-INFER SHIPPED-MODEL

Method: berth-infer, which tags all that is large; its weights are to be known after two steps, to
0.99 of the bytes that are called so, and of those that are.
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

from conversation import Conversation, kv_bytes, weight_bytes
from live_blocks import live_blocks, shares

BERTH, PROGRAM, MODEL = sys.argv[1:4]


class Blind(unittest.TestCase):
    def start(self, classifier):
        """Two steps: the prompt is one, and so is the token after it."""
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
        self.env.update(XDG_RUNTIME_DIR=holder.name, BERTH_CONTROL="always",
                        BERTH_OPTIONS=f"classifier={classifier},host=on,sites=always")
        self.talk = Conversation([BERTH, "run", "--", PROGRAM, "--model", MODEL, "--max-tokens",
                                  "2", "--ignore-eos", "--keep-sessions"], self.env)
        self.addCleanup(self.talk.close)
        self.talk.answer("In the beginning")
        return live_blocks(self.talk.pid, holder.name)

    def ask(self, what, *arguments):
        return subprocess.run([BERTH, what, str(self.talk.pid), *arguments], env=self.env,
                              capture_output=True, text=True, check=True).stdout

    def counted(self):
        """Bytes by tag, as `berth stat` has them."""
        total = {}
        for tier in json.loads(self.ask("stat", "--json"))["tiers"]:
            for row in tier["tags"]:
                total[row["tag"]] = total.get(row["tag"], 0) + row["requested"]
        return total

    def at_sites(self, tag):
        sites = json.loads(self.ask("sites", "--tag", tag, "--top", "0", "--json"))["sites"]
        return sum(site["requested"] for site in sites)

    def test_blind_judges_what_the_program_tags(self):
        blocks = self.start("blind")
        there, taken, both = shares(blocks, "weight")
        self.assertEqual(there, weight_bytes(MODEL))
        self.assertEqual(shares(blocks, "kv")[0], kv_bytes(MODEL))
        self.assertGreaterEqual(both, 0.99 * taken)
        self.assertGreaterEqual(both, 0.99 * there)

        # The verdict is what is in force, and what everything else tells.
        self.assertNotIn("program", {block["tagged_by"] for block in blocks})
        self.assertEqual(self.counted()["weight"], taken)
        self.assertEqual(self.at_sites("weight"), taken)
        known = next(b for b in blocks if b["tag"] == b["class"]["program"] == "weight")
        self.assertEqual(known["class"]["tag"], "weight")
        self.assertIn(known["class"]["certainty"], ("tentative", "firm", "final"))
        text = self.ask("explain", known["base"])
        self.assertIn("tag      weight, by the classifier\n", text)
        self.assertIn("program  weight, which is noted and not heeded\n", text)
        other = next(b for b in blocks if b["class"]["program"] == "kv")
        self.assertIn("program  kv, which", self.ask("explain", other["base"]))

    def test_else_the_programs_tags_are_in_force(self):
        blocks = self.start("on")
        own = [block for block in blocks if block["tagged_by"] == "program"]
        self.assertEqual(sum(b["requested"] for b in own if b["tag"] == "weight"),
                         weight_bytes(MODEL))
        self.assertEqual(sum(b["requested"] for b in own if b["tag"] == "kv"), kv_bytes(MODEL))
        self.assertEqual(self.counted()["kv"], kv_bytes(MODEL))
        self.assertNotIn("program  ", self.ask("explain", own[0]["base"]))
        self.assertFalse(any("program" in block.get("class", {}) for block in blocks))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
