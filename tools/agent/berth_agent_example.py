#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An agent for Berth: reads where a process's memory is, and changes where a rule puts it.
usage: berth_agent_example.py PID RULE PLACE...    See berth-protocol(7)."""
import glob, json, os, socket, sys

pid, rule, places = sys.argv[1], sys.argv[2], sys.argv[3:]
runtime = os.environ.get("XDG_RUNTIME_DIR", "")
for directory in (runtime + "/berth", f"/tmp/berth-{os.getuid()}"):
    names = glob.glob(f"{glob.escape(directory)}/{pid}-*.sock")
    if names:
        break
else:
    sys.exit(f"process {pid} has no control socket")

connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.settimeout(5)
connection.connect(names[0])
lines = connection.makefile("rw", encoding="utf-8")
print("connected to", json.loads(lines.readline())["program"])

def ask(**request):
    print(json.dumps(request), file=lines, flush=True)
    answer = json.loads(lines.readline())
    if not answer["ok"]:
        sys.exit(f"refused: {answer['error']['message']}")
    return answer

stat = ask(op="stat")
for tier in stat["tiers"]:
    for cell in tier["tags"]:
        print(f"{cell['tag']} in {tier['name']}: {cell['held']} bytes, {cell['blocks']} blocks")

version = stat["table"]["version"]
change = {"rule": rule, "places": places}
answer = ask(op="policy.patch", origin="example agent", if_version=version, changes=[change])
print(f"version {answer['version']} is in force: {rule} goes to {', '.join(places)}")
