#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the tests that need a real kernel's memory devices, in a virtual machine.

usage: run.py NAME WORK BUILD=FOLDER BERTH=PROGRAM VARIABLE=PROGRAM... [TEST_NAME=COMMAND...]

Boots the machine NAME with the programs of the build in its root file system, and tells its cases
in the Test Anything Protocol. In the guest's scripts each program is known by its variable, and is
at the path that it has here. TEST_NAME has the words of a command, with colons between: a test of
tests/integration, with the programs that it needs, which guest/programs.py runs as it is. Where its
second word is --made, it needs what a compiler makes: it is run here with `--make FOLDER` instead, and
in the guest with `--made FOLDER`. WORK is for what is made on the way; console.log there is what the
guest's kernel said last, and times.log after how much processor time of the machine which line came.

All machines, by `meson test --suite vm`, are to take less than three minutes on two processors that
have nothing else to do: each tells at its end how much processor time it took, the making of its root
included, and in between which cases took long. All of it:

    meson test -C build --suite vm
    awk '/^# [0-9]+ s of processor time$/ { s += $2 } END { print s }' build/meson-logs/testlog.txt
"""

import glob
import os
import pathlib
import platform
import re
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys

import initramfs
import interpreter
import kernel
import machine

sys.path.append(str(pathlib.Path(__file__).parent / "guest"))
import programs  # noqa: E402, by the path that was just added

# What takes more processor time than this is told.
SLOW_SECONDS = 2

# Programs of Debian packages that guests use.
TOOLS = ["ndctl", "daxctl", "mkfs.ext4", "fsck.ext4"]
# What tests of tests/integration start, by names; such as are not installed are not tested. A test
# of what is preloaded needs programs that are linked dynamically, which busybox need not be.
STARTED = ["sh", "awk", "bash", "cat", "cp", "date", "echo", "env", "expr", "git", "gzip", "head",
           "ls", "make", "mount", "objcopy", "openssl", "perl", "printenv", "printf", "seq",
           "setpriv", "sort", "sqlite3", "tar", "test", "tr", "true", "unshare", "wc", "xz", "zstd",
           "redis-benchmark", "redis-cli", "redis-server"]
# What the guest's programs open by name.
OPENED = ["libjansson.so.4", "libunwind.so.8", "libgcc_s.so.1", "libpmem.so.1"]

# What tests preload.
LOADED = ["/usr/lib/*/faketime/libfaketime*.so.1"]

# For each machine: the memory of its nodes and of its NVDIMMs, in MiB, and for each time that it
# boots the scripts that it runs, one after the other. Each makes what it needs anew. An emulator
# translates a program anew for each address that it is at: a program is always at the same one, but
# in boots after the first, where persistent blocks are found again by processes that are laid out
# otherwise. A kernel that has no control groups of memory counts no pages for them, at each that is
# touched or given back.
MACHINES = {
    # Those with Python run tests of tests/integration too; one of them has a compiler for these.
    "fsdax": {"memory": [1536], "dimms": [128, 512, 128],
              "boots": ["programs-fsdax,fsdax,malloc-fsdax,programs-moves"], "python": True,
              "compiler": True},
    "devices": {"memory": [1536, 384], "dimms": [384, 128, 256],
                "boots": ["dax,malloc-dax,programs-dax,limits,"
                          "move,move-around,malloc-numa,programs-node,numa"],
                "python": True, "groups": True},
    "power": {"memory": [1024], "dimms": [256, 256, 256, 256],
              "boots": ["persist-write,power-first,power-cut", "persist-read,power-again",
                        "power-last"]},
    "cxl": {"memory": [768], "dimms": [], "cxl": 256, "boots": ["cxl"]},
}


class Report:
    """The cases so far, in the Test Anything Protocol."""

    def __init__(self, clock, times):
        """`clock`: the processor time that the machine has had; `times`: where it is written down
        when which line came."""
        self.clock = clock
        self.times = times
        self.count = 0
        self.failed = 0
        self.ended = False
        self.values = {}
        self.awaited = {}
        self.last = 0

    def say(self, text):
        print(text, flush=True)

    def case(self, truth, name, skipped=""):
        self.count += 1
        self.failed += not truth
        now = self.clock()
        if now - self.last > SLOW_SECONDS:
            self.say(f"# {now - self.last:.1f} s of processor time until the next one")
        self.last = now
        # A # in a name would begin a directive.
        name = name.replace("#", "")
        self.say(f"{'ok' if truth else 'not ok'} {self.count} - {name}{skipped}")

    def reached(self, at_once=False):
        """Whether the guest has come so far that its power is to be cut."""
        if not self.awaited and not at_once:
            return False
        if any(int(self.values.get(name, -1)) < least for name, least in self.awaited.items()):
            return False
        self.awaited = {}
        self.ended = True
        self.say("# its power is cut")
        return True

    def line(self, line):
        """Takes a line from a guest; False when its power is to be cut.

        "cut NAME LEAST..." says when: as soon as all these values, which "value NAME NUMBER" tells,
        are at least so large; "cut" alone, at once. Later boots know the values as VM_NAME.
        """
        self.times.write(f"{self.clock():7.2f} {line}\n")
        word, _, rest = line.partition(" ")
        if line.startswith("#"):
            self.say(line)
        elif word == "ok":
            self.case(True, rest)
        elif line.startswith("not ok "):
            self.case(False, line[len("not ok "):])
        elif word == "skip":
            name, _, reason = rest.partition(": ")
            self.case(True, name, f" # SKIP {reason}")
        elif word == "value":
            name, _, value = rest.partition(" ")
            self.values[name] = value
            return not self.reached()
        elif word == "cut":
            words = rest.split()
            self.awaited = dict(zip(words[::2], map(int, words[1::2])))
            return not self.reached(not words)
        elif word == "end":
            self.ended = True
            self.say(f"# the guest was up for {rest} s")
        else:
            self.say(f"# {line}")
        return True


def skip(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(0)


def find_tools():
    """The programs that a guest needs, by name. Ends as skipped where one is missing."""
    if platform.machine() != "x86_64":
        skip("the guest runs this build's programs on an emulated x86-64 machine, and they are for "
             + platform.machine())
    tools = {}
    for name in ["qemu-system-x86_64", "busybox", "strip"] + TOOLS:
        tools[name] = initramfs.find_program(name)
        if not tools[name]:
            skip(f"{name} is not installed; `tools/install-packages vm` installs what is needed")
    return tools


def find_kernel():
    try:
        return kernel.find()
    except LookupError as error:
        skip(str(error))


def find_cxl(tools, found):
    """What the machine with a CXL device needs besides: the property of QEMU's device that takes its
    memory. Ends as skipped where something is missing."""
    tools["cxl"] = initramfs.find_program("cxl")
    if not tools["cxl"]:
        skip("cxl is not installed; in Debian 12 it comes with ndctl")
    if not found.has(kernel.CXL):
        skip(f"kernel {found.release} has no drivers for CXL memory")
    options = subprocess.run([tools["qemu-system-x86_64"], "-device", "cxl-type3,help"],
                             capture_output=True, text=True).stdout
    for name in ("persistent-memdev", "memdev"):
        if f" {name}=" in options:
            return name
    skip("this QEMU has no CXL memory device")


def lean_module(found, name, work):
    """A module without what describes its types (BTF): to read it, the kernel reads its own first,
    which are millions of bytes."""
    if found.asks_for_signatures:
        return found.module(name)
    whole, lean = work / "whole.ko", work / "lean.ko"
    whole.write_bytes(found.module(name))
    try:
        subprocess.run(["strip", "-g", "-R", ".BTF", "-o", lean, whole], check=True)
        return lean.read_bytes()
    finally:
        whole.unlink()
        lean.unlink(missing_ok=True)


def add_modules(tree, found, more, work):
    """The modules, and the lines of shell that load them."""
    lines = []
    for name in found.ordered(kernel.STORAGE + more):
        tree.data(f"/vm/modules/{name}.ko", lean_module(found, name, work))
        lines.append(f"insmod /vm/modules/{name}.ko")
    # To be loaded once there is something that it serves.
    later = [name for name in found.ordered(kernel.STORAGE + more + kernel.HOTPLUG)
             if f"/vm/modules/{name}.ko" not in tree.entries]
    for name in later:
        tree.data(f"/vm/modules/{name}.ko", lean_module(found, name, work))
    lines.append("load_kmem() { %s; }" % "; ".join(
        [f"insmod /vm/modules/{name}.ko" for name in later] or ["true"]))
    return lines


def add_program(tree, source, work, build):
    """A program of the build, with the files beside it that it loads or starts."""
    source = pathlib.Path(source)
    if source.is_dir():
        # Of a folder of the build, the libraries: the others are its objects.
        is_build = source.is_relative_to(build)
        for path in source.glob("*.so*") if is_build else source.rglob("*"):
            if path.is_file():
                add_program(tree, path, work, build)
        return
    with open(source, "rb") as file:
        is_elf = file.read(4) == b"\x7fELF"
    if is_elf and not source.is_symlink():
        tree.lean_program(source, work)
    else:
        tree.file(source)


def add_python(tree, work):
    """Python, and what tests need that are written in it."""
    python = interpreter.add(tree, work)
    tree.add("/usr/bin/python3", stat.S_IFLNK | 0o777, python.encode())
    tree.data("/etc/passwd", b"root:x:0:0:root:/tmp:/bin/sh\n")
    for name in STARTED:
        program = initramfs.find_program(name)
        if program:
            tree.program(program, f"/usr/bin/{name}")
    for pattern in LOADED:
        for path in glob.glob(pattern):
            tree.program(path)


def add_compiler(tree):
    """The C compiler, with what it starts to make an object; where a wrapper has its name, itself."""
    compiler = "/usr/bin/gcc"
    if not os.access(compiler, os.X_OK):
        return
    tree.program(os.path.realpath(compiler), compiler)
    # Without any folder of headers it fails, though none is asked for.
    tree.folder("/usr/include")
    for name in ("cc1", "as"):
        told = subprocess.run([compiler, f"-print-prog-name={name}"], capture_output=True, text=True)
        path = told.stdout.strip()
        if not path.startswith("/"):
            path = initramfs.find_program(name)
        if path and os.path.exists(path):
            tree.program(path, f"/usr/bin/{name}" if name == "as" else None)


def add_words(tree, words, work, build):
    """Those of the words of a command that are paths here, and the modules beside a script. What is
    named as KEY=PATH stays as it is: its debug information is looked at."""
    for word in words:
        _, _, path = word.partition("=")
        if path.startswith("/") and os.path.exists(path):
            tree.program(path)
        if word.startswith("/") and os.path.exists(word):
            add_program(tree, word, work, build)
            if word.endswith(".py"):
                for path in sorted(pathlib.Path(word).parent.glob("*.py")):
                    tree.file(path)


def make(name, command, folder):
    """Has a test make what it needs in this folder, for those of its cases that guests run."""
    folder.mkdir()
    left = ":".join(programs.UNMADE.get(name, {}))
    done = subprocess.run([sys.executable, command[0], "--make", str(folder), *command[2:]],
                          env={**os.environ, "BERTH_TEST_LEFT": left}, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} --make: {done.stdout}{done.stderr}")


def add_test(tree, name, words, work, build):
    """A test of tests/integration; the words of its command in the guest."""
    if "--made" not in words[1:2]:
        add_words(tree, words, work, build)
        return words
    folder = work / pathlib.Path(words[0]).stem
    make(name, words, folder)
    for path in filter(pathlib.Path.is_file, folder.rglob("*")):
        add_program(tree, path, work, build)
    # The compilers and the sources among its words are what the guest does without.
    add_words(tree, [words[0], *(word for word in words if word.startswith(build + "/"))], work, build)
    return [*words[:2], str(folder), *words[2:]]


def debug_file(library):
    """Where the symbols of a library lie that is installed without them."""
    notes = subprocess.run(["readelf", "-n", library], capture_output=True, text=True).stdout
    number = re.search(r"Build ID: ([0-9a-f]{2})([0-9a-f]+)", notes)
    return number and pathlib.Path(f"/usr/lib/debug/.build-id/{number[1]}/{number[2]}.debug")


def add_valgrind(tree):
    """valgrind with its memcheck, which must know the symbols of the dynamic linker."""
    linker = pathlib.Path("/lib64/ld-linux-x86-64.so.2").resolve()
    symbols = debug_file(linker)
    for path in ("/usr/bin/valgrind", "/usr/bin/valgrind.bin"):
        if os.path.exists(path):
            tree.program(path)
    for name in ("memcheck-amd64-linux", "vgpreload_core-amd64-linux.so",
                 "vgpreload_memcheck-amd64-linux.so", "default.supp"):
        for folder in ("/usr/libexec/valgrind", "/usr/lib/x86_64-linux-gnu/valgrind"):
            if os.path.exists(f"{folder}/{name}"):
                tree.file(f"{folder}/{name}")
    if symbols and symbols.exists():
        tree.file(symbols)


def make_tree(work, tools, found, variables, shape):
    tree = initramfs.Tree()
    scripts = pathlib.Path(__file__).parent / "guest"
    for path in filter(pathlib.Path.is_file, scripts.iterdir()):
        tree.data(f"/vm/{path.name}", path.read_bytes())
    tree.data("/init", (scripts / "init").read_bytes(), 0o755)
    tree.device("/dev/console", 5, 1)
    tree.program(tools["busybox"], "/bin/busybox")
    # By names of their own: busybox's shell prefers its own applets.
    for name in set(tools) & set(TOOLS + ["cxl"]):
        tree.program(tools[name], f"/usr/sbin/{name}")
    if os.path.exists("/etc/mke2fs.conf"):
        tree.file("/etc/mke2fs.conf")
    for name in OPENED:
        library = initramfs.find_library(name)
        if library:
            tree.program(library)
    python = shape.get("python", False)
    more = kernel.CXL if "cxl" in shape else kernel.LOOP if python and found.has(kernel.LOOP) else []
    lines = add_modules(tree, found, more, work)
    if python:
        add_python(tree, work)
    if "TEST_VALGRIND" in variables:
        add_valgrind(tree)
    if shape.get("compiler", False):
        add_compiler(tree)
    for name, value in variables.items():
        paths = value.split(":")
        if name.startswith("TEST_"):
            words = add_test(tree, name[len("TEST_"):], paths, work, variables["BUILD"])
            lines.append(f"export {name}={shlex.quote(':'.join(words))}")
            continue
        lines.append(f"export {name}={shlex.quote(paths[0])}")
        for path in paths:
            if name != "BUILD":
                add_program(tree, path, work, variables["BUILD"])
    # By this folder the programs of a build tree know that they are in one.
    tree.folder(variables["BUILD"] + "/meson-private")
    tree.data("/vm/environment", ("\n".join(lines) + "\n").encode())
    return tree


def boot(host, scripts, archive, report, more):
    """`more`: words for the kernel."""
    report.ended, report.last = False, 0
    words = {"VM_SCRIPTS": scripts}
    words.update({f"VM_{name}": value for name, value in report.values.items()})
    why = host.boot(archive, more, words, report.line)
    if not why and not report.ended:
        why = "the guest ended early"
    if why:
        report.say(f"# its console's last words: {host.last_words('console.log', 12)}")
        report.case(False, f"the boot '{scripts}' came to its end: {why}")


def main():
    name, work = sys.argv[1], pathlib.Path(sys.argv[2]).absolute()
    variables = dict(argument.split("=", 1) for argument in sys.argv[3:])
    shape = MACHINES[name]
    tools, found = find_tools(), find_kernel()
    cxl = None
    if "cxl" in shape:
        cxl = shape["cxl"], find_cxl(tools, found)
    # As when it is interrupted: the machine ends, and its files go.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    archive, unpacked = work / "initramfs", work / "vmlinux"
    try:
        found.unpack(unpacked)
        run(shape, work, archive, tools, found, variables, cxl)
    finally:
        archive.unlink(missing_ok=True)
        unpacked.unlink(missing_ok=True)
    return 0


def run(shape, work, archive, tools, found, variables, cxl):
    try:
        make_tree(work, tools, found, variables, shape).write(archive)
    except LookupError as error:
        skip(str(error))
    host = machine.Machine(tools["qemu-system-x86_64"], found, work, shape["memory"], shape["dimms"],
                           cxl)
    report = Report(host.busy_seconds, open(work / "times.log", "w", 1, encoding="utf-8"))
    report.say(f"# kernel {found.release}; the guest's root has {archive.stat().st_size >> 20} MiB")
    more = [] if shape.get("groups") else ["cgroup_disable=memory"]
    try:
        host.make_images()
        for number, scripts in enumerate(shape["boots"]):
            boot(host, scripts, archive, report, more + ([] if number else ["norandmaps"]))
    finally:
        host.remove_images()
    # What was made before the machine began counts as well.
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(of.ru_utime + of.ru_stime for of in used)
    report.say(f"# {seconds:.0f} s of processor time")
    report.say(f"1..{report.count}")


if __name__ == "__main__":
    sys.exit(main())
