#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs all of tests/integration in a virtual machine, on ext4 that is mounted with dax=always.

usage: whole.py BUILD [EXPRESSION...]

The machines of run.py have three minutes, and a root of which every byte is unpacked at boot: they
leave out what takes long, and programs that load hundreds of libraries. Here the guest's root is this
machine's, under a layer of memory that takes what is written, so that every program is there, and
nobody counts the minutes: an hour and more. Each EXPRESSION chooses the tests whose names it
matches; without one it is all but those about a device's memory, which is simulated.

It is started by hand, by root, who may serve a root file system:

    ninja -C build && sudo tests/vm/whole.py build
    ninja -C build && sudo tests/vm/whole.py build 'client-(java|node)' torch

What it says is like what run.py says, and BUILD/tests/vm/whole has the same logs.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import initramfs
import kernel
import machine
import run

# What a guest needs to have another's files as its root.
ROOT = ["virtio_pci", "virtiofs", "overlay"]
SERVERS = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"]
# About a device's memory, which is simulated.
SIMULATED = re.compile(r"cuda-")


class WholeMachine(machine.Machine):
    """One whose memory the server of its root maps, and writes to."""

    PROCESSORS = 2
    MEMORY = "memory-backend-memfd,share=on"
    # A single case may be a whole run of a large program.
    HUNG_BUSY_SECONDS = 3600

    def more_devices(self):
        socket = machine.escape(self.folder / "root.socket")
        return ["-chardev", f"socket,id=root,path={socket}",
                "-device", "vhost-user-fs-pci,chardev=root,tag=root"]


class RootServer:
    """Serves this machine's root to one guest, which ends it."""

    def __init__(self, folder):
        server = next(filter(os.path.exists, SERVERS), None)
        if not server:
            run.skip("virtiofsd is not installed; in Debian 12 it comes with qemu-system-common")
        if os.geteuid() != 0:
            run.skip("only root may serve a root file system")
        with open(folder / "virtiofsd.log", "wb") as log:
            self.process = subprocess.Popen(
                [server, f"--socket-path={folder}/root.socket", "-o", "source=/",
                 "-o", "sandbox=chroot", "-o", "cache=always"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.process.kill()
        self.process.wait()


def chosen_tests(build, expressions):
    """What meson knows of the tests: their names, commands, environments and folders."""
    told = subprocess.run(["meson", "introspect", "--tests", build], check=True, capture_output=True)
    tests = [test for test in json.loads(told.stdout) if "berth:integration" in test["suite"]]
    if expressions:
        tests = [test for test in tests
                 if any(re.fullmatch(expression, test["name"]) for expression in expressions)]
    else:
        tests = [test for test in tests if not SIMULATED.match(test["name"])]
    return [{"name": test["name"], "command": test["cmd"], "environment": test["env"],
             "folder": test["workdir"] or str(build)} for test in tests]


def make_tree(work, tools, found, tests):
    tree = initramfs.Tree()
    scripts = pathlib.Path(__file__).parent / "guest"
    for path in filter(pathlib.Path.is_file, scripts.iterdir()):
        tree.data(f"/vm/{path.name}", path.read_bytes())
    tree.data("/init", (scripts / "init").read_bytes(), 0o755)
    tree.device("/dev/console", 5, 1)
    tree.program(tools["busybox"], "/bin/busybox")
    for name in set(tools) & set(run.TOOLS):
        tree.program(tools[name], f"/usr/sbin/{name}")
    if os.path.exists("/etc/mke2fs.conf"):
        tree.file("/etc/mke2fs.conf")
    lines = run.add_modules(tree, found, ROOT, work)
    lines.append(f"PYTHON='{os.path.realpath(sys.executable)}'")
    tree.data("/vm/environment", ("\n".join(lines) + "\n").encode())
    tree.data("/vm/whole.json", json.dumps(tests).encode())
    return tree


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__.split("\n\n")[1])
    build = pathlib.Path(sys.argv[1]).absolute()
    tests = chosen_tests(build, sys.argv[2:])
    if not tests:
        sys.exit("whole.py: no test of tests/integration has such a name")
    tools, found = run.find_tools(), run.find_kernel()
    if not found.has(ROOT):
        run.skip(f"kernel {found.release} has no virtiofs, or no overlay file system")
    # As when it is interrupted: the machine ends, and its files go.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    work = build / "tests/vm/whole"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    archive, unpacked = work / "initramfs", work / "vmlinux"
    try:
        found.unpack(unpacked)
        make_tree(work, tools, found, tests).write(archive)
        host = WholeMachine(tools["qemu-system-x86_64"], found, work, [6144, 384], [4096])
        report = run.Report(host.busy_seconds, open(work / "times.log", "w", 1, encoding="utf-8"))
        host.make_images()
        with RootServer(work):
            run.boot(host, "whole", archive, report, ["norandmaps"])
    finally:
        archive.unlink(missing_ok=True)
        unpacked.unlink(missing_ok=True)
    report.say(f"1..{report.count}")
    return report.failed > 0


if __name__ == "__main__":
    sys.exit(main())
