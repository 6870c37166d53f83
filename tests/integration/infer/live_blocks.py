# SPDX-License-Identifier: Apache-2.0
"""All live blocks of a process under Berth from 64 KiB on, each as the operation `explain` of
berth-protocol(7) has it: with `classifier = blind`, beside its tag what the program said.

No operation lists blocks, but explain knows one by any byte in it: so whoever asks for every 64th
KiB of the memory that the process has mapped to write to finds each.
"""
import glob
import json
import os
import socket
import time

STRIDE = 64 << 10
PATIENCE_S = 60


def socket_of(pid, runtime_dir):
    """Who opens it is a thread of its own."""
    pattern = os.path.join(glob.escape(runtime_dir), "berth", f"{pid}-*.sock")
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for path in glob.glob(pattern):
            return path
        time.sleep(0.005)
    raise AssertionError(f"process {pid} has no control socket")


class Asked:
    def __init__(self, pid, runtime_dir):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(socket_of(pid, runtime_dir))
        self.lines = self.socket.makefile("rw", encoding="utf-8")
        self.lines.readline()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.socket.close()

    def explain(self, address):
        """None where no block is known."""
        print(json.dumps({"op": "explain", "address": hex(address)}), file=self.lines, flush=True)
        answer = json.loads(self.lines.readline())
        return answer["block"] if answer["ok"] else None


def ranges(pid):
    """What the process has mapped to write to, and has touched."""
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as file:
        for line in file:
            words = line.split()
            if not words[0].endswith(":"):
                begin, end = [int(word, 16) for word in words[0].split("-")]
                is_written = "w" in words[1]
            elif words[0] == "Rss:" and is_written and words[1] != "0":
                yield begin, end


def live_blocks(pid, runtime_dir):
    found = {}  # by base: a block may reach over mappings
    with Asked(pid, runtime_dir) as asked:
        for begin, end in ranges(pid):
            at = (begin + STRIDE - 1) & -STRIDE
            while at < end:
                block = asked.explain(at)
                if block and block["held"] >= STRIDE:
                    found[block["base"]] = block
                    at = (int(block["base"], 16) + block["held"] + STRIDE - 1) & -STRIDE
                else:
                    at += STRIDE
    return list(found.values())


def shares(blocks, tag):
    """Bytes that the program says are this, that are tagged so, and that are both: of blocks that
    the classifier follows."""
    told = [(block["class"]["program"] == tag, block["tag"] == tag, block["requested"])
            for block in blocks if "program" in block.get("class", {})]
    return (sum(size for said, _, size in told if said),
            sum(size for _, taken, size in told if taken),
            sum(size for said, taken, size in told if said and taken))
