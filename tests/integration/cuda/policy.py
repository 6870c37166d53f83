#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A policy's word on device blocks: tags, rules, tiers with a capacity.

Usage: policy.py DRIVER_DIR BERTH CLIENT [LIBBERTH LIBBERTH_MALLOC]
"""
import json
import os
import subprocess
import sys
import tempfile
import time

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


# Brings the host side along, which then installs the policy.
HOST = """
rule host {
  side = host
  min-size = 1G
  place = dram
}
"""

# A path that only device blocks are asked about.
DEVICE_SITE = POLICY.replace("site model {", "site model {\n  side = device")

# tier -> (tag -> (blocks, requested)), bytes cached; what policy_client.c has when it is ready.
ACCOUNT = {
    "device": ({"kv": (1, 3 << 20), "weight": (1, 5 << 20), "untagged": (1, 4 << 20)}, 2 << 20),
    "few": ({"weight": (1, 5 << 20)}, 0),
}


def check_account(berth, pid, env):
    """What `berth stat` says of the process: each byte that the driver gave has its place."""
    deadline = time.monotonic() + 30
    while True:
        # The control thread opens its socket while the program goes on: ask until it answers.
        done = subprocess.run([berth, "stat", "--json", str(pid)], env=env, capture_output=True,
                              text=True, timeout=60)
        if done.returncode == 0:
            break
        if time.monotonic() > deadline:
            return [f"berth stat: {done.stderr}"]
    wrong = []
    tiers = {tier["name"]: tier for tier in json.loads(done.stdout)["tiers"]}
    for name, (tags, cached) in ACCOUNT.items():
        tier = tiers[name]
        seen = {tag["tag"]: (tag["blocks"], tag["requested"]) for tag in tier["tags"]
                if tag["blocks"]}
        if seen != tags:
            wrong.append(f"{name}: {seen}, expected {tags}")
        if tier["held"] + tier["cached"] + tier["overhead"] != tier["reserved"]:
            wrong.append(f"{name} does not add up: {tier}")
        if tier["cached"] != cached or tier["overhead"] != 0:
            wrong.append(f"{name}: cached {tier['cached']}, overhead {tier['overhead']}")
    return wrong


def run(driver_dir, berth, client, policy):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "policy")
        with open(path, "w", encoding="ascii") as file:
            file.write(policy)
        env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
        env.update(LD_LIBRARY_PATH=driver_dir, XDG_RUNTIME_DIR=directory)
        process = subprocess.Popen([berth, "run", "--policy", path, "--", client], env=env,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        output = ""
        for line in process.stdout:
            if line == "ready\n":
                break
            output += line
        wrong = check_account(berth, process.pid, env)
        said = process.communicate("\n", timeout=60)[1]
    sys.stdout.write(output)
    if output != EXPECTED:
        wrong.append("expected:\n" + EXPECTED)
    if said:
        wrong.append(f"said: {said}")
    if process.returncode != 0:
        wrong.append(f"status {process.returncode}")
    for text in wrong:
        print("FAIL", text)
    return not wrong


def run_mismatched(driver_dir, berth, client, libberth, other):
    """Two libraries of different builds: the second one says so, and leaves all to the driver."""
    version = subprocess.run([berth, "version"], capture_output=True, check=True).stdout.split()[1]
    with open(libberth, "rb") as file:
        code = file.read()
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "libberth.so")
        with open(path, "wb") as file:
            file.write(code.replace(version + b"\0", b"?" * len(version) + b"\0"))
        env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
        env.update(LD_LIBRARY_PATH=driver_dir, XDG_RUNTIME_DIR=directory,
                   LD_PRELOAD=os.path.abspath(other) + ":" + path)
        done = subprocess.run([client], env=env, input="\n", capture_output=True, text=True,
                              timeout=60)
    told = [line for line in done.stdout.splitlines() if not line.endswith(": not described")]
    if told == ["ready"] and done.returncode == 0 and "of different builds" in done.stderr:
        return True
    print("FAIL mismatched:", done.returncode, done.stdout, done.stderr)
    return False


def main():
    driver_dir, berth, client = sys.argv[1:4]
    good = run(driver_dir, berth, client, POLICY)
    good &= run(driver_dir, berth, client, POLICY + HOST)
    good &= run(driver_dir, berth, client, DEVICE_SITE)
    if len(sys.argv) > 5:
        good &= run_mismatched(driver_dir, berth, client, *sys.argv[4:6])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
