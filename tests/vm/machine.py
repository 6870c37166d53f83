# SPDX-License-Identifier: Apache-2.0
"""A machine under QEMU: processors, memory nodes, NVDIMMs, and what its guest says.

Everything is emulated (TCG): an accelerator that opens but then hangs, as nested ones do, would
hang the tests.
"""

import os
import pathlib
import random
import signal
import subprocess
import threading
import time

MIB = 1 << 20
# The label area lies behind the memory, whose size must be a multiple of 128 MiB (a memory block),
# so that all of it can be given to the kernel as ordinary memory.
LABEL = 128 << 10
# The power goes at any instant within so long after it was asked for.
CUT_SECONDS = 0.3


class Machine:
    """One machine; its NVDIMMs keep what is written to them from boot to boot."""

    def __init__(self, qemu, kernel, folder, memory, dimms):
        """`memory`: the MiB of each node with memory, of which the first has the processor.
        `dimms`: the MiB of each NVDIMM; each makes a node of its own, behind those."""
        self.qemu = qemu
        self.kernel = kernel
        self.folder = pathlib.Path(folder)
        self.memory = memory
        self.dimms = dimms

    def image(self, number):
        return self.folder / f"dimm{number}.img"

    def make_images(self):
        """New NVDIMMs with nothing in them, as files without blocks."""
        for number, size in enumerate(self.dimms):
            self.image(number).unlink(missing_ok=True)
            with open(self.image(number), "wb") as file:
                file.truncate(size * MIB + LABEL)

    def remove_images(self):
        for number in range(len(self.dimms)):
            self.image(number).unlink(missing_ok=True)

    def nodes(self):
        arguments = []
        for number, size in enumerate(self.memory):
            processors = "cpus=0," if number == 0 else ""
            arguments += ["-object", f"memory-backend-ram,id=ram{number},size={size}M",
                          "-numa", f"node,nodeid={number},{processors}memdev=ram{number}"]
        # The kernel numbers nodes by address: theirs must ascend with their numbers.
        for number, size in enumerate(self.dimms):
            node = len(self.memory) + number
            arguments += ["-numa", f"node,nodeid={node}",
                          "-object", f"memory-backend-file,id=dimm{number},share=on,"
                          f"mem-path={escape(self.image(number))},size={size * MIB + LABEL}",
                          "-device", f"nvdimm,id=nvdimm{number},memdev=dimm{number},"
                          f"label-size={LABEL},node={node}"]
        return arguments

    def command(self, initramfs, environment):
        total = sum(self.memory)
        # The kernel hands words of the form NAME=VALUE that it does not know to init.
        # Where the host is busy, the kernel's test of the timer may fail, which is a panic.
        words = ["console=ttyS0", "quiet", "panic=-1", "oops=panic", "mitigations=off",
                 "no_timer_check"]
        words += [f"{name}={value}" for name, value in environment.items()]
        return [str(self.qemu), "-accel", "tcg", "-cpu", "max,-la57", "-smp", "1",
                "-M", "q35,nvdimm=on",
                "-m", f"{total}M,slots={len(self.dimms) + 1},maxmem={total + sum(self.dimms) + 4096}M",
                *self.nodes(),
                "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-serial", f"file:{escape(self.folder / 'console.log')}", "-serial", "stdio",
                "-kernel", str(self.kernel.image), "-initrd", str(initramfs),
                "-append", " ".join(words)]

    def boot(self, initramfs, environment, said, limit):
        """Runs the machine until it powers off, or until said(line) is false for a line that the
        guest said, which is the end of its power. Why it did not come to an end by itself or by
        `said`, else None."""
        with open(self.folder / "qemu.log", "wb") as errors:
            process = subprocess.Popen(self.command(initramfs, environment), stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=errors,
                                       env=dict(os.environ, LC_ALL="C"))
        late = threading.Event()

        def end():
            late.set()
            process.kill()

        timer = threading.Timer(limit, end)
        timer.start()
        try:
            status = listen(process, said)
        finally:
            timer.cancel()
            process.kill()
            process.wait()
            process.stdout.close()
        if late.is_set():
            return f"the machine did not power off within {limit} s"
        if status not in (0, -signal.SIGKILL):
            return f"QEMU ended with status {status}: " + self.last_words("qemu.log", 2)
        return None

    def last_words(self, log, count):
        try:
            text = (self.folder / log).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return " / ".join(text.strip().splitlines()[-count:])


def listen(process, said):
    for line in process.stdout:
        # What is cut off in the middle was not said.
        if line.endswith(b"\n") and not said(line.decode(errors="replace").rstrip()):
            time.sleep(random.uniform(0, CUT_SECONDS))
            process.kill()
    return process.wait()


def escape(path):
    """A path within one of QEMU's options: a comma would end it."""
    return str(path).replace(",", ",,")
