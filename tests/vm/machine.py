# SPDX-License-Identifier: Apache-2.0
"""A machine under QEMU: processors, memory nodes, NVDIMMs, and what its guest says.

Everything is emulated (TCG): an accelerator that opens but then hangs, as nested ones do, would
hang the tests. Who knows that theirs works may name it by BERTH_VM_ACCEL.
"""

import ctypes
import mmap
import os
import pathlib
import random
import re
import signal
import subprocess
import tempfile
import threading
import time

MIB = 1 << 20
# The power goes at any instant within so long after it was asked for.
CUT_SECONDS = 0.3

# A guest that says nothing for so much processor time has hung. On a host that has other work it may
# say nothing for longer, and has not had that time.
HUNG_BUSY_SECONDS = int(os.environ.get("BERTH_VM_SECONDS", "240"))
# One that waits for nothing takes no time; even a busy host lets it say something in so much longer.
HUNG_IDLE_TIMES = 5

# What the kernel does besides, about which no test asks, and which an emulated processor is slow at:
# addresses of its own that nobody guesses, pages that are cleared before they are given away, and a
# copy for devices that reach little memory, of 64 MiB. Instructions that fill and copy words in one
# go (feature 112, rep_good) are emulated word by word, with all that an instruction takes for each.
# At each start it tries its ciphers, reads certificates and what describes its own types to programs
# for BPF, writes its code anew for a single processor, and compares clocks, of which on a busy host
# none is right. Who may do what is asked of no module.
NOT_BEGUN = ["load_system_certificate_list", "init_encrypted", "cubictcp_register",
             "crypto_kdf108_init", "init_blk_tracer", "bpf_rstat_kfunc_init",
             "bpf_key_sig_kfuncs_init", "kfunc_init", "bpf_prog_test_run_init",
             "bpf_tcp_ca_kfunc_init"]
LEAN = ["nokaslr", "randomize_kstack_offset=off", "init_on_alloc=0", "swiotlb=noforce",
        "clearcpuid=112", "lsm=", "audit=0", "psi=0", "cryptomgr.notests", "noreplace-smp",
        "tsc=reliable", "initcall_blacklist=" + ",".join(NOT_BEGUN)]

# What QEMU looks things up in as it emulates are tables of some megabytes, at random: a processor
# that is itself a guest's looks long for addresses in small pages.
IN_HUGE_PAGES = "glibc.malloc.hugetlb=1"

# Firmware that brings Linux up and nothing else; of QEMU's own, where it has this one.
FIRMWARE = "qboot.rom"

# "rdtsc; shl $32, %rdx; or %rdx, %rax; ret": the processor's clock, which is the emulated one's too.
READ_CLOCK = bytes.fromhex("0f31 48c1e220 4809d0 c3")
CLOCK_SECONDS = 0.05

PR_SET_PDEATHSIG = 1

# So many machines run at a time, mostly; what is free must be enough for all that they have.
MEMORY_MACHINES = 2


class Machine:
    """One machine; its NVDIMMs keep what is written to them from boot to boot."""

    # How many processors it has, all of them at its first node; what its memory is; and devices besides.
    PROCESSORS = 1
    MEMORY = "memory-backend-ram"
    HUNG_BUSY_SECONDS = HUNG_BUSY_SECONDS

    def more_devices(self):
        return []

    def __init__(self, qemu, kernel, folder, memory, dimms, cxl=None):
        """`memory`: the MiB of each node with memory, of which the first has the processor.
        `dimms`: the MiB of each NVDIMM; each makes a node of its own, behind those.
        `cxl`: the MiB of a CXL memory device, and its property that takes them."""
        self.qemu = qemu
        self.kernel = kernel
        self.folder = pathlib.Path(folder)
        self.memory = memory
        self.dimms = dimms
        self.cxl = cxl
        self.images = []
        self.clock = clock_words()
        self.process = None

    def busy_seconds(self):
        """The processor time that the machine has had since it was switched on."""
        return busy_seconds(self.process.pid) if self.process else 0

    def make_images(self):
        """New NVDIMMs with nothing in them: files without blocks. What is written to them is nobody's
        once this process has ended, and is in memory where there is enough: of a disk's file the host
        asks for blocks at each first touch of a page, and writes them."""
        wanted = MEMORY_MACHINES * (sum(self.memory) + sum(self.dimms)) * MIB
        in_memory = free_memory() >= wanted
        for number, size in enumerate(self.dimms):
            self.images.append(open(os.memfd_create(f"dimm{number}"), "w+b") if in_memory
                               else tempfile.TemporaryFile(dir=self.folder))
            self.images[-1].truncate(size * MIB)

    def remove_images(self):
        while self.images:
            self.images.pop().close()

    def nodes(self):
        arguments = []
        for number, size in enumerate(self.memory):
            processors = f"cpus=0-{self.PROCESSORS - 1}," if number == 0 else ""
            arguments += ["-object", f"{self.MEMORY},id=ram{number},size={size}M",
                          "-numa", f"node,nodeid={number},{processors}memdev=ram{number}"]
        # The kernel numbers nodes by address: theirs must ascend with their numbers. NVDIMMs have no
        # labels, which the kernel reads by the firmware's bytecode: each is one namespace, of a size
        # that is a multiple of a memory block, so that all of it can be given to it as ordinary memory.
        for number, size in enumerate(self.dimms):
            node = len(self.memory) + number
            arguments += ["-numa", f"node,nodeid={node}",
                          "-object", f"memory-backend-file,id=dimm{number},share=on,"
                          f"mem-path=/proc/self/fd/{self.images[number].fileno()},"
                          f"size={size * MIB}",
                          "-device", f"nvdimm,id=nvdimm{number},memdev=dimm{number},node={node}"]
        return arguments

    def cxl_devices(self):
        """A CXL device behind a host bridge with two ports: of one with a single port, QEMU 7.2 and
        Linux 6.1 do not think alike. What is in it is lost with the machine."""
        if not self.cxl:
            return []
        size, backing = self.cxl
        return ["-object", f"memory-backend-ram,id=cxl-memory,share=on,size={size}M",
                "-object", "memory-backend-ram,id=cxl-labels,share=on,size=256K",
                "-device", "pxb-cxl,bus_nr=12,bus=pcie.0,id=cxl-bridge",
                "-device", "cxl-rp,port=0,bus=cxl-bridge,id=cxl-port0,chassis=0,slot=2",
                "-device", "cxl-rp,port=1,bus=cxl-bridge,id=cxl-port1,chassis=0,slot=3",
                "-device",
                f"cxl-type3,bus=cxl-port0,{backing}=cxl-memory,lsa=cxl-labels,id=cxl-device",
                "-M", "cxl-fmw.0.targets.0=cxl-bridge,cxl-fmw.0.size=4G"]

    def firmware(self):
        """Firmware that takes half a second less to find the kernel. It leaves bridges to the kernel,
        which then has no addresses for a CXL device behind one."""
        told = subprocess.run([str(self.qemu), "-L", "help"], capture_output=True, text=True).stdout
        has_it = any(os.path.exists(os.path.join(folder, FIRMWARE)) for folder in told.split("\n"))
        return ["-bios", FIRMWARE] if has_it and not self.cxl else []

    def command(self, initramfs, more, environment):
        total = sum(self.memory)
        # The kernel hands words of the form NAME=VALUE that it does not know to init.
        # Where the host is busy, the kernel's test of the timer may fail, which is a panic.
        words = ["console=ttyS0", "quiet", "panic=-1", "oops=panic", "mitigations=off",
                 "no_timer_check", *LEAN, *self.clock]
        words += more + [f"{name}={value}" for name, value in environment.items()]
        accelerator = os.environ.get("BERTH_VM_ACCEL", "tcg")
        # An instruction that fills or copies bytes in one go is emulated byte by byte: without erms,
        # kernel and C library do so by words and vectors.
        # What the kernel may touch of a program's memory it asks twice for each of its calls otherwise.
        # The instruction that computes a checksum (sse4.2) is emulated bit by bit: file systems and
        # stores have tables for processors without it.
        processor = "max,-la57,-erms,-smap,-smep,-pku,-sse4.2"
        if self.cxl:
            # Newer kernels make no CXL region where they see that the processor is emulated.
            processor += ",-hypervisor"
        return [str(self.qemu), "-accel", accelerator, "-cpu", processor,
                "-smp", str(self.PROCESSORS),
                "-M", "q35,nvdimm=on,cxl=on" if self.cxl else "q35,nvdimm=on",
                "-m", f"{total}M,slots={len(self.dimms) + 1},maxmem={total + sum(self.dimms) + 4096}M",
                *self.nodes(), *self.cxl_devices(), *self.more_devices(), *self.firmware(),
                "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-serial", f"file:{escape(self.folder / 'console.log')}", "-serial", "stdio",
                "-kernel", str(self.kernel.image), "-initrd", str(initramfs),
                "-append", " ".join(words)]

    def boot(self, initramfs, more, environment, said):
        """Runs the machine, with these and more words for its kernel, until it powers off, or until
        said(line) is false for a line that the guest said, which is the end of its power. Why it did
        not come to an end by itself or by `said`, else None."""
        libc = ctypes.CDLL(None)
        with open(self.folder / "qemu.log", "wb") as errors:
            # However this process ends, the machine ends with it.
            process = subprocess.Popen(self.command(initramfs, more, environment), stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=errors,
                                       env=environment_of_qemu(),
                                       pass_fds=[image.fileno() for image in self.images],
                                       preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        self.process = process
        watch = Watch(process, self.HUNG_BUSY_SECONDS)
        try:
            status = listen(process, watch, said)
        finally:
            watch.stop()
            process.kill()
            process.wait()
            process.stdout.close()
        if watch.hung:
            return watch.hung
        if status not in (0, -signal.SIGKILL):
            return f"QEMU ended with status {status}: " + self.last_words("qemu.log", 2)
        return None

    def last_words(self, log, count):
        try:
            text = (self.folder / log).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return " / ".join(text.strip().splitlines()[-count:])


def environment_of_qemu():
    """Without what tests are told for their own memory: QEMU is none of them."""
    own = {name: value for name, value in os.environ.items() if name != "MALLOC_PERTURB_"}
    return dict(own, LC_ALL="C", GLIBC_TUNABLES=IN_HUGE_PAGES)


class Watch:
    """Ends a machine that has hung."""

    def __init__(self, process, busy_seconds):
        """`busy_seconds`: the processor time that it may have between two lines that it says."""
        self.process = process
        self.may_take = busy_seconds
        self.hung = None
        self.stopped = threading.Event()
        self.heard()
        threading.Thread(target=self.run, daemon=True).start()

    def heard(self):
        """The machine has said something."""
        self.last = time.monotonic(), busy_seconds(self.process.pid)

    def stop(self):
        self.stopped.set()

    def run(self):
        while not self.stopped.wait(1):
            when, busy = self.last
            if busy_seconds(self.process.pid) - busy > self.may_take:
                self.hung = f"it said nothing for {self.may_take} s of processor time"
            elif time.monotonic() - when > HUNG_IDLE_TIMES * self.may_take:
                self.hung = f"it said nothing for {HUNG_IDLE_TIMES * self.may_take} s"
            if self.hung:
                self.process.kill()
                return


def clock_words():
    """How fast the processor's clock is, for a kernel that would find out by other clocks: on a busy
    host it is wrong by far, and all that waits in the guest waits that much too long or too short.
    Nothing where no memory may be executed."""
    try:
        code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return []
    code.write(READ_CLOCK)
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))

    def both():
        """Both clocks at the same time: the closest of some readings."""
        found = []
        for _ in range(50):
            before, ticks, after = time.monotonic_ns(), read(), time.monotonic_ns()
            found.append((after - before, (before + after) / 2, ticks))
        return min(found)[1:]

    began, first = both()
    time.sleep(CLOCK_SECONDS)
    ended, last = both()
    return [f"tsc_early_khz={(last - first) * 1e6 / (ended - began):.0f}"]


def free_memory():
    """The bytes that the host can give without taking them from anybody. A control group that has
    less is asked too: what it has beyond that ends its processes."""
    with open("/proc/meminfo", encoding="ascii") as file:
        free = int(re.search(r"^MemAvailable:\s*(\d+) kB", file.read(), re.M).group(1)) << 10
    for group in control_groups():
        try:
            limit = (group / "memory.max").read_text(encoding="ascii").strip()
            if limit != "max":
                free = min(free, int(limit) - int((group / "memory.current").read_text()))
        except (OSError, ValueError):
            continue
    return free


def control_groups():
    """Those that this process is in, from the innermost on."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        inner = re.search(r"^0::/(.*)$", file.read(), re.M)
    root = pathlib.Path("/sys/fs/cgroup")
    group = root / inner.group(1) if inner else root
    return [group, *(parent for parent in group.parents if parent.is_relative_to(root))]


def busy_seconds(pid):
    """The processor time that a process has had."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0


def listen(process, watch, said):
    for line in process.stdout:
        watch.heard()
        # What is cut off in the middle was not said.
        if line.endswith(b"\n") and not said(line.decode(errors="replace").rstrip()):
            time.sleep(random.uniform(0, CUT_SECONDS))
            process.kill()
    return process.wait()


def escape(path):
    """A path within one of QEMU's options: a comma would end it."""
    return str(path).replace(",", ",,")
