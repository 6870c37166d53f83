# SPDX-License-Identifier: Apache-2.0
"""The kernel that guests boot: its image, and the modules that they load."""

import gzip
import lzma
import os
import pathlib
import re

# In the order in which they are asked for; what each depends on comes before it. The firmware
# table driver finds the devices, so that all that serve them must be there before it.
STORAGE = ["libnvdimm", "nd_btt", "nd_pmem", "dax_pmem", "device_dax", "nfit"]
HOTPLUG = ["kmem"]
# What tests need that make a file system in a file.
LOOP = ["loop"]
# What the machine with a CXL device needs besides; not every kernel has them.
CXL = ["cxl_port", "cxl_pmem", "cxl_pci", "cxl_mem", "cxl_acpi"]

OPENERS = {".ko": open, ".xz": lzma.open, ".gz": gzip.open}


class Kernel:
    """A kernel image and the directory of its modules."""

    def __init__(self, image, modules):
        self.image = image
        self.release = modules.name
        self.files = {}
        for path in modules.rglob("*.ko*"):
            name = path.name.split(".ko")[0].replace("-", "_")
            if path.suffix in OPENERS:
                self.files[name] = path
        self.builtin = set()
        for line in read_lines(modules / "modules.builtin"):
            self.builtin.add(pathlib.Path(line).name.split(".ko")[0].replace("-", "_"))

    def module(self, name):
        """The bytes of a module, as insmod takes them."""
        path = self.files[name]
        with OPENERS[path.suffix](path, "rb") as file:
            return file.read()

    def has(self, names):
        """Whether it has these modules, or does without."""
        try:
            self.ordered(names)
        except LookupError:
            return False
        return True

    def ordered(self, names):
        """These modules with all that they depend on, each behind what it needs."""
        order = []

        def add(name):
            if name in order or name in self.builtin:
                return
            if name not in self.files:
                raise LookupError(f"kernel {self.release} has no module {name}")
            depends = re.search(rb"(?:^|\0)depends=([^\0]*)", self.module(name))
            for needed in depends.group(1).decode().split(",") if depends else []:
                if needed:
                    add(needed.replace("-", "_"))
            order.append(name)

        for name in names:
            add(name)
        return order


def read_lines(path):
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []


def places():
    """Where a kernel may lie: unpacked by tools/install-packages, or the machine's own."""
    if os.environ.get("BERTH_VM_KERNEL"):
        yield pathlib.Path(os.environ["BERTH_VM_KERNEL"])
        return
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    yield pathlib.Path(cache) / "berth" / "kernel"
    yield pathlib.Path("/var/cache/berth/kernel")
    yield pathlib.Path("/")


def find():
    """The first kernel that has every module. LookupError, with the reason, if there is none."""
    why = "no x86-64 kernel that can be read; `tools/install-packages vm` fetches one"
    for place in places():
        try:
            images = sorted((place / "boot").glob("vmlinuz-*"), reverse=True)
        except OSError:
            continue
        for image in images:
            modules = place / "lib" / "modules" / image.name[len("vmlinuz-"):]
            if not modules.is_dir() or not os.access(image, os.R_OK):
                continue
            try:
                kernel = Kernel(image, modules)
                kernel.ordered(STORAGE + HOTPLUG)
                return kernel
            except (LookupError, OSError, EOFError, lzma.LZMAError) as error:
                why = str(error)
    raise LookupError(why)
