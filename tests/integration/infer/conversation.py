# SPDX-License-Identifier: Apache-2.0
"""berth-infer that is asked one prompt after the other, and how many bytes its model needs."""
import json
import os
import pathlib
import struct
import subprocess

MARK = "@@end@@"
THRESHOLD = 64 << 10


def weight_bytes(model):
    """The tensors of the least size that is recorded; each is one allocation."""
    with open(os.path.join(model, "model.safetensors"), "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    ranges = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
    sizes = [end - begin for begin, end in ranges]
    return sum(size for size in sizes if size >= THRESHOLD)


def kv_bytes(model):
    """Keys and values of 512 positions, as f32: what a short prompt is given."""
    config = json.loads(pathlib.Path(model, "config.json").read_text("utf-8"))
    return 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"] \
        * 4 * 512


class Conversation:
    """`command` and what makes it answer prompts until it is closed."""

    def __init__(self, command, env=None, errors=None):
        self.child = subprocess.Popen([*command, "--interactive", "--end-mark", MARK], env=env,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                      text=True)
        self.pid = self.child.pid

    def answer(self, prompt):
        self.child.stdin.write(prompt + "\n")
        self.child.stdin.flush()
        lines = []
        for line in iter(self.child.stdout.readline, ""):
            if line == MARK + "\n":
                return "".join(lines)
            lines.append(line)
        raise AssertionError("the program ended before its answer")

    def close(self):
        """Ends it; its exit status."""
        self.child.stdin.close()
        self.child.stdout.close()
        return self.child.wait()
