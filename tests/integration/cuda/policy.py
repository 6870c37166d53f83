#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A policy's word on device blocks: tags, rules, tiers with a capacity.

Usage: policy.py DRIVER_DIR BERTH CLIENT
"""
import os
import subprocess
import sys
import tempfile

POLICY = """
tier few {
  kind = device
  capacity = 8M
}
site model {
  path = "policy_client!load_model > **"
  tag = weight
  min-size = 1M
}
rule caches {
  tag = kv
  side = device
  min-size = 1M
  place = device
}
rule weights {
  tag = weight
  side = device
  place = { few, device }
}
"""

EXPECTED = """\
pushed: 3145728 bytes, device, tag 3, rule 'caches', base 1
plain: 4194304 bytes, device, tag 0, rule '', base 1
small: 5000 bytes, device, tag 0, rule '', base 1
loaded: 5242880 bytes, few, tag 1, rule 'weights', base 1
no room there: 5242880 bytes, device, tag 1, rule 'weights', base 1
room again: 5242880 bytes, few, tag 1, rule 'weights', base 1
"""


def main():
    driver_dir, berth, client = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "policy")
        with open(path, "w", encoding="ascii") as file:
            file.write(POLICY)
        env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
        env.update(LD_LIBRARY_PATH=driver_dir, XDG_RUNTIME_DIR=directory)
        done = subprocess.run([berth, "run", "--policy", path, "--", client], env=env,
                              capture_output=True, text=True, timeout=60)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return 0 if done.stdout == EXPECTED and done.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
