# SPDX-License-Identifier: Apache-2.0
"""The guest's Python: an interpreter of the host's, with the standard library.

Modules are compiled here, and lie in the guest without their sources: an emulated processor takes
seconds to compile what the first script imports.
"""

import json
import os
import pathlib
import subprocess
import sys

# What no test needs: most of the library's bytes, which would all be unpacked at boot.
LEFT_OUT = {"curses", "dbm", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "sqlite3",
            "test", "tests", "tkinter", "turtledemo", "venv", "wsgiref", "xml", "xmlrpc",
            "site-packages", "dist-packages", "lib-dynload", "__pycache__"}
# The same of what is written in C, which has libraries of its own.
EXTENSIONS = ("_asyncio", "_bisect", "_blake2", "_contextvars", "_csv", "_ctypes", "_datetime",
              "_elementtree", "_heapq", "_json", "_md5", "_multiprocessing", "_opcode", "_pickle",
              "_posixshmem", "_posixsubprocess", "_queue", "_random", "_sha1", "_sha256", "_sha3",
              "_sha512", "_socket", "_statistics", "_struct", "_typing", "_zoneinfo", "array",
              "binascii", "cmath", "fcntl", "grp", "math", "mmap", "pyexpat", "resource", "select",
              "syslog", "termios", "unicodedata", "zlib")

# Runs in the interpreter itself, whose modules only it can compile. What it has compiled when it was
# installed is taken as it is.
COMPILE = r"""
import importlib.util, json, marshal, os, sys, sysconfig
out, left_out = sys.argv[1], set(json.loads(sys.argv[2]))
library = os.path.dirname(os.__file__)

def compiled(path):
    with open(path, "rb") as file:
        source = file.read()
    try:
        with open(importlib.util.cache_from_source(path), "rb") as file:
            ready = file.read()
        told = importlib.util.MAGIC_NUMBER + bytes(4) + b"".join(
            (int(n) & 0xffffffff).to_bytes(4, "little") for n in (os.stat(path).st_mtime, len(source)))
        if ready[:16] == told:
            return ready
    except OSError:
        pass
    code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)

for folder, folders, files in os.walk(library):
    folders[:] = [f for f in folders if f not in left_out and not f.startswith("config-")]
    for name in files:
        if name.endswith(".py"):
            path = os.path.join(out, os.path.relpath(folder, library), name + "c")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(compiled(os.path.join(folder, name)))
print(json.dumps({"program": os.path.realpath(sys.executable), "library": library,
                  "extensions": sysconfig.get_config_var("DESTSHARED")}))
"""


def ask(python, folder):
    """Fills the folder with the compiled library; where the interpreter has its parts."""
    done = subprocess.run([python, "-I", "-S", "-c", COMPILE, str(folder),
                           json.dumps(sorted(LEFT_OUT))], capture_output=True, text=True)
    if done.returncode != 0:
        raise LookupError(f"{python} does not compile its library: {done.stderr.strip()[-200:]}")
    return json.loads(done.stdout)


def add(tree, work):
    """Adds an interpreter to the guest's root; by which path it is started there."""
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    folder = work / "library"
    told = ask(python, folder)
    tree.program(told["program"])
    for path in folder.rglob("*.pyc"):
        tree.data(pathlib.Path(told["library"]) / path.relative_to(folder), path.read_bytes())
    extensions = pathlib.Path(told["extensions"])
    tree.folder(extensions)
    for path in sorted(extensions.glob("*.so")):
        if path.name.split(".")[0] in EXTENSIONS:
            tree.program(path)
    return told["program"]
