# SPDX-License-Identifier: Apache-2.0
"""The guest's root file system: programs with the libraries that they need, in a cpio archive."""

import os
import pathlib
import re
import stat
import subprocess

# Folders that lie in /usr on most machines.
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# What every program of this kind of processor names as its interpreter, and what it says of a library,
# which names none.
LINKER = "/lib64/ld-linux-x86-64.so.2"
LINKED_WITHOUT_INTERPRETER = 2


class Tree:
    """Files and folders by their path in the guest."""

    def __init__(self):
        self.entries = {}
        for name in MERGED:
            # Libraries are looked for in folders that are links on most machines, and under names
            # that are links: the guest has the same ones.
            if os.path.islink("/" + name):
                self.entries["/" + name] = (stat.S_IFLNK | 0o777, b"usr/" + name.encode(), (0, 0))
                self.folder("/usr/" + name)

    def add(self, path, mode, content, device=(0, 0)):
        path = pathlib.PurePosixPath(path)
        top = path.parts[1]
        if "/" + top in self.entries and top in MERGED:
            path = pathlib.PurePosixPath("/usr").joinpath(*path.parts[1:])
        if len(path.parts) > 2:
            self.folder(path.parent)
        self.entries.setdefault(str(path), (mode, content, device))

    def folder(self, path):
        self.add(path, stat.S_IFDIR | 0o755, b"")

    def data(self, path, content, mode=0o644):
        self.add(path, stat.S_IFREG | mode, content)

    def device(self, path, major, minor):
        """A character device. An archive may name one whoever writes it."""
        self.add(path, stat.S_IFCHR | 0o600, b"", (major, minor))

    def file(self, source, path=None):
        """A copy of the file, by default at the path that it has here."""
        source = pathlib.Path(source)
        mode = 0o755 if os.access(source, os.X_OK) else 0o644
        if path is None and source.is_symlink():
            self.add(source, stat.S_IFLNK | 0o777, os.fsencode(source.resolve()))
            source = source.resolve()
        self.data(path or source, source.read_bytes(), mode)

    def program(self, source, path=None):
        """A program or library, and every library that it is linked to."""
        self.file(source, path)
        for library in needed_libraries(source):
            self.file(library)

    def lean_program(self, source, work):
        """The same without debug information, which is most of a build's bytes: all of them have
        to be unpacked at boot. `work` is a folder for what is made on the way."""
        lean = work / "lean"
        subprocess.run(["strip", "-g", "-o", lean, source], check=True)
        self.data(source, lean.read_bytes(), 0o755)
        lean.unlink()
        for library in needed_libraries(source):
            self.file(library)

    def write(self, path):
        """The archive, in the format that kernels unpack ("newc")."""
        with open(path, "wb") as out:
            for number, name in enumerate(sorted(self.entries), start=1):
                mode, content, device = self.entries[name]
                write_entry(out, name.lstrip("/"), number, mode, content, device)
            write_entry(out, "TRAILER!!!", 0, 0, b"", (0, 0))


def write_entry(out, name, number, mode, content, device):
    links = 2 if stat.S_ISDIR(mode) else 1
    # Number, mode, owner, group, links, time, size, the archive's device, the node's, name, sum.
    fields = [number, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    out.write(head + b"\0" * (-len(head) % 4))
    out.write(content + b"\0" * (-len(content) % 4))


def needed_libraries(program):
    """What the dynamic linker would load, by the paths under which it looks for them. It is asked
    itself: ldd, which does the same, is a script, and takes ten times as long."""
    if ask_linker("--verify", program).returncode not in (0, LINKED_WITHOUT_INTERPRETER):
        return []  # it is linked statically, or no program
    # By the variable, as ldd does: asked for --list, it ends at what is missing, and names nothing.
    told = ask_linker(None, program).stdout
    missing = re.search(r"^\s*(\S+) => not found", told, re.M)
    if missing:
        raise LookupError(f"{program} needs {missing.group(1)}, which is not there")
    return re.findall(r"(/\S+) \(0x", told)


def ask_linker(question, program):
    environment = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "LD_LIBRARY_PATH")}
    if not question:
        environment["LD_TRACE_LOADED_OBJECTS"] = "1"
    # Where it lies, as the kernel would say: a library may be named by that.
    words = [LINKER, *([question] if question else []), os.path.realpath(program)]
    return subprocess.run(words, env=environment, capture_output=True, text=True)


def find_program(name):
    """A program by its name; ordinary users have no sbin in their PATH."""
    places = os.environ.get("PATH", "").split(":") + ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
    for place in places:
        path = pathlib.Path(place) / name
        if place and path.is_file() and os.access(path, os.X_OK):
            return path.resolve()
    return None


def find_library(name):
    """A library that programs open by name, from the dynamic linker's list. None if absent."""
    ldconfig = find_program("ldconfig")
    if not ldconfig:
        return None
    listed = subprocess.run([ldconfig, "-p"], capture_output=True, text=True).stdout
    found = re.search(rf"^\s*{re.escape(name)} \(libc6,x86-64.*=> (\S+)", listed, re.M)
    return pathlib.Path(found.group(1)) if found else None
