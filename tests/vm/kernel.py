# SPDX-License-Identifier: Apache-2.0
"""The kernel that guests boot: its image, and the modules that they load."""

import ctypes
import gzip
import lzma
import os
import pathlib
import re
import zlib

# In the order in which they are asked for; what each depends on comes before it. The firmware
# table driver finds the devices, so that all that serve them must be there before it.
STORAGE = ["libnvdimm", "nd_btt", "nd_pmem", "dax_pmem", "device_dax", "nfit"]
HOTPLUG = ["kmem"]
# What tests need that make a file system in a file.
LOOP = ["loop"]
# What the machine with a CXL device needs besides; not every kernel has them.
CXL = ["cxl_port", "cxl_pmem", "cxl_pci", "cxl_mem", "cxl_acpi"]

OPENERS = {".ko": open, ".xz": lzma.open, ".gz": gzip.open}

# Behind a signed module: its signature, 12 bytes that end with the signature's size, and this.
SIGNED = b"~Module signature appended~\n"
SIGNED_SIZE = 12
# The note that says where a kernel is entered that is not unpacked by itself (PVH): without it, QEMU
# does not start one. Sizes of name and address, kind, name.
PVH_NOTE = rb"\x04\0\0\0[\x04\x08]\0\0\0\x12\0\0\0Xen\0"
# How a packed kernel begins. LZ4's blocks have no more than this in them.
LZ4 = b"\x02\x21\x4c\x18"
LZ4_BLOCK = 8 << 20


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
        config = read_lines(image.with_name("config-" + self.release))
        self.asks_for_signatures = "CONFIG_MODULE_SIG_FORCE=y" in config
        self.builtin = set()
        for line in read_lines(modules / "modules.builtin"):
            self.builtin.add(pathlib.Path(line).name.split(".ko")[0].replace("-", "_"))

    def module(self, name):
        """The bytes of a module, as insmod takes them: without a signature, which an emulated
        processor takes long to look at."""
        path = self.files[name]
        with OPENERS[path.suffix](path, "rb") as file:
            module = file.read()
        if self.asks_for_signatures or not module.endswith(SIGNED):
            return module
        end = len(module) - len(SIGNED)
        return module[:end - SIGNED_SIZE - int.from_bytes(module[end - 4:end], "big")]

    def unpack(self, path):
        """Puts the kernel there as it is in memory, so that no emulated processor has to unpack it;
        where that cannot be, nothing, and it unpacks itself."""
        try:
            unpacked = unpack(packed(self.image.read_bytes()))
        except (OSError, ValueError, EOFError, lzma.LZMAError, zlib.error):
            return
        if unpacked.startswith(b"\x7fELF") and re.search(PVH_NOTE, unpacked):
            path.write_bytes(unpacked)
            self.image = path

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


def packed(image):
    """The kernel within a bzImage, as Linux's Documentation/arch/x86/boot.rst has it."""
    def field(at, size):
        return int.from_bytes(image[at:at + size], "little")

    if image[0x202:0x206] != b"HdrS" or field(0x206, 2) < 0x208:
        raise ValueError("not a packed kernel")
    start = ((field(0x1f1, 1) or 4) + 1) * 512 + field(0x248, 4)
    return image[start:start + field(0x24c, 4)]


def unpack(packed):
    """What was packed; behind it is its size, in four bytes."""
    if packed.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=31).decompress(packed)
    if packed.startswith(b"\xfd7zXZ"):
        return lzma.LZMADecompressor().decompress(packed)
    if not packed.startswith(LZ4):
        raise ValueError("packed in a way that is not known here")
    # Debian's apt depends on this library.
    lz4 = ctypes.CDLL("liblz4.so.1")
    room = ctypes.create_string_buffer(LZ4_BLOCK)
    parts = []
    at = len(LZ4)
    while at + 4 < len(packed):
        size = int.from_bytes(packed[at:at + 4], "little")
        block = packed[at + 4:at + 4 + size]
        count = lz4.LZ4_decompress_safe(block, room, len(block), LZ4_BLOCK)
        if count < 0:
            raise ValueError("not LZ4")
        parts.append(ctypes.string_at(room, count))
        at += 4 + size
    return b"".join(parts)


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
