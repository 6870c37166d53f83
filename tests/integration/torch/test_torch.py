# SPDX-License-Identifier: Apache-2.0
"""Goal: the shipped policy tags a PyTorch model's weights and activations by call path, and the
program computes what it computed without Berth.

usage: test_torch.py BERTH POLICY MODEL-SCRIPT MODEL

Method: the script prints the digest of its outputs and the bytes of its parameters, natively and
under Berth. The bytes tagged weight are to be within 5 % of the parameters, all on the far tier,
and the activations in ordinary memory.
"""
import json
import os
import subprocess
import sys
import tempfile

SKIPPED = 77
TOLERANCE = 0.05


def find_python():
    """An interpreter that has torch: the distribution's package serves the distribution's own."""
    for python in ("/usr/bin/python3", sys.executable):
        if os.path.exists(python):
            found = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
            if found.returncode == 0:
                return python
    return None


def run(command, environment):
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False,
                          env={**os.environ, **environment})
    if done.returncode != 0 or "berth[" in done.stderr:
        sys.exit(f"exit code {done.returncode} of {' '.join(command)}:\n{done.stderr}")
    digest, parameters, *rest = done.stdout.split("\n", 2)
    return digest, int(parameters.split()[1]), rest[0]


def sum_by_tag(account):
    """(tag, tier) -> that cell of the account."""
    return {(cell["tag"], tier["name"]): cell
            for tier in account["tiers"] for cell in tier["tags"]}


def main(berth, policy, script, model):
    python = find_python()
    if not python:
        print("skipped: no Python here has torch")
        return SKIPPED
    native, _, _ = run([python, script, model], {})
    with tempfile.TemporaryDirectory() as directory:
        digest, parameters, stat = run(
            [berth, "run", "--policy", policy, "--", python, script, model, berth, "stat",
             "--json"], {"BERTH_TIER_DIR": directory})
    cells = sum_by_tag(json.loads(stat))
    weights = cells.get(("weight", "slow"), {}).get("requested", 0)
    print(f"{model}: {parameters} bytes of parameters, {weights} tagged weight "
          f"({weights / parameters:.4f}); activations: "
          f"{cells.get(('activation', 'dram'), {}).get('peak', 0)} bytes at most")
    if digest != native:
        return f"the outputs differ: {native} natively, {digest} under Berth"
    if abs(weights - parameters) > TOLERANCE * parameters:
        return "the bytes tagged weight are not those of the parameters"
    misplaced = [cell for cell in (("weight", "dram"), ("activation", "slow"))
                 if cells.get(cell, {}).get("allocs", 0)]
    if misplaced or not cells.get(("activation", "dram"), {}).get("allocs", 0):
        return f"tags are not where the policy has them: {misplaced}"
    return 0


sys.exit(main(*sys.argv[1:]))
