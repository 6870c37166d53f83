#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What libberth-malloc.so is as a library, and what it does to whole programs.

usage: preload.py LIBRARY BERTH OWN_MALLOC AUDITOR OWN_ATFORK OWN_WRAPPER BESIDE_OTHER
                  OWN_SOCKET
"""
import errno
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from xml.etree import ElementTree

(library, berth, own_malloc, auditor, own_atfork, own_wrapper, beside_other, own_socket,
 fork_amid, stop_all, forks_early, forks_old, late_atfork) = map(os.path.abspath, sys.argv[1:14])
failures = []


def check(name, truth, shown=""):
    print(("ok " if truth else "FAILED ") + name, "" if truth else shown)
    if not truth:
        failures.append(name)


def run(argv, table=None, options=None, more_environment=(), **more):
    env = dict(os.environ, LD_PRELOAD=library, BERTH_CONTROL="never", **dict(more_environment))
    if table:
        env["BERTH_POLICY"] = table
    if options:
        env["BERTH_OPTIONS"] = options
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, **more)


def compile_policy(scratch, name, text):
    source = os.path.join(scratch, name)
    with open(source, "w") as f:
        f.write(text)
    subprocess.run([berth, "policy", "compile", source, "-o", source + ".table"], check=True)
    return source + ".table"


def far(path, more=""):
    return f"""tier far {{
  kind = file
  path = {path}
  {more}
}}
rule everything {{
  side = host
  min-size = 64K
  place = {{ far, dram }}
}}
"""


def library_checks():
    # The CUDA side lies beside this one.
    for of in [library, os.path.join(os.path.dirname(library), "libberth.so")]:
        needed = re.findall(r"NEEDED.*\[(.*)\]", subprocess.run(
            ["readelf", "-d", of], capture_output=True, text=True).stdout)
        allowed = {"libc.so.6", "libm.so.6", "libgcc_s.so.1"}
        check("needs_only_the_c_library", needed and set(needed) <= allowed, f"{of}: {needed}")
        units = subprocess.run(["readelf", "--debug-dump=info", "--dwarf-depth=1", of],
                               capture_output=True, text=True).stdout
        check("tells_debuggers_nothing_wrong_of_its_functions", "assembler" not in units, of)
    names = {line.split()[-1] for line in subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True,
        text=True).stdout.splitlines()}
    # By its plain name it would be what Berth's own calls are bound to, or another library's.
    check("has_the_old_pthread_atfork_by_its_version_alone", "pthread_atfork" not in names and
          (platform.machine() != "x86_64" or "pthread_atfork@GLIBC_2.2.5" in names))
    check("hides_its_jemalloc", not [n for n in names if n.startswith(("je_", "berth_je_"))])
    family = """malloc calloc realloc free posix_memalign aligned_alloc memalign valloc pvalloc
        reallocarray malloc_usable_size cfree free_sized free_aligned_sized malloc_trim mallopt
        malloc_info mallinfo mallinfo2 malloc_stats mallocx rallocx xallocx sallocx dallocx sdallocx
        nallocx mallctl mallctlnametomib mallctlbymib malloc_stats_print malloc_conf malloc_message
        fork _Fork forkpty daemon __register_atfork clone syscall mlockall setrlimit prlimit
        dlopen dlmopen dlclose
        __libc_malloc __libc_calloc __libc_realloc __libc_free __libc_memalign __libc_valloc
        __libc_pvalloc __libc_mallopt __libc_mallinfo""".split()
    check("exports_the_whole_family", set(family) <= names, set(family) - names)
    places = {line.split()[-1]: line.split()[0] for line in subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True,
        text=True).stdout.splitlines()}
    # valgrind knows a function by its address, and tells new from malloc.
    check("frees_by_each_family_in_a_place_of_its_own",
          len({places[name] for name in ("free", "_ZdlPv", "_ZdaPv")}) == 3, places)
    operators = [n for n in names if re.match(r"_Z(n[wa]m|d[la]Pv)", n)]
    check("exports_every_new_and_delete", len(operators) == 20, sorted(operators))


def quiet_checks():
    result = run(["true"])
    check("a_small_program_notices_nothing", (result.returncode, result.stdout, result.stderr) ==
          (0, "", ""), result.stderr)
    shown = [subprocess.run(["ls", "/proc/self/fd"], capture_output=True, text=True).stdout,
             run(["ls", "/proc/self/fd"]).stdout]
    check("no_descriptor_without_a_tier", shown[0] == shown[1], shown)
    maps = run(["cat", "/proc/self/maps"], options="record-threshold=1G").stdout
    sizes = [int(b, 16) - int(a, 16)
             for a, b in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) ", maps, re.M)]
    check("nothing_is_reserved_before_it_is_needed", max(sizes) < 1 << 32, max(sizes))


FORKING = """
import errno, os
blocks = [bytearray(300000) for i in range(20)]
try:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    print("forked")
except OSError as e:
    print(errno.errorcode[e.errno])
blocks.append(bytearray(300000))
print(len(blocks))
"""


# By libc's own daemon(), which does not return in the process that it leaves, and its forkpty().
FORKING_WITHIN = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
blocks = [bytearray(300000) for i in range(20)]
master = ctypes.c_int(-1)
terminal = libc.forkpty(ctypes.byref(master), None, None, None)
if terminal == 0:
    os._exit(0)
print(terminal, ctypes.get_errno(), master.value, flush=True)
print(libc.daemon(1, 1), ctypes.get_errno(), flush=True)
"""


def fork_checks(scratch):
    if not shutil.which("python3"):
        return
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
    table = compile_policy(scratch, "limit", far(place, "fork-copy-max = 1M"))
    result = run([sys.executable, "-c", FORKING], table)
    check("a_fork_over_the_limit_is_refused", result.stdout == "ENOMEM\n21\n", result.stdout)
    check("and_says_why_in_one_line", result.stderr.count("\n") == 1 and
          "fork-copy-max" in result.stderr, result.stderr)
    result = run([sys.executable, "-c", FORKING_WITHIN], table)
    check("so_are_those_within_the_c_library", result.stdout == f"-1 {errno.ENOMEM} -1\n" +
          f"-1 {errno.ENOMEM}\n" and result.returncode == 0, (result.stdout, result.returncode))
    table = compile_policy(scratch, "room", far(place))
    result = run([sys.executable, "-c", FORKING], table)
    check("a_fork_with_room_is_not", (result.stdout, result.stderr) == ("forked\n21\n", ""),
          result.stdout + result.stderr)


def missing_checks(scratch):
    directory = os.path.join(scratch, "gone")
    os.mkdir(directory)
    table = compile_policy(scratch, "missing", far(directory))
    os.rmdir(directory)
    result = run([sys.executable, "-c", FORKING], table)
    check("a_tier_that_is_not_there_stops_nothing", result.stdout == "forked\n21\n", result.stdout)
    check("and_is_said_once", result.stderr.count("\n") == 1 and directory in result.stderr,
          result.stderr)


def unread_checks(scratch):
    """As in a mount namespace without the table: what the first process says, others need not."""
    gone = os.path.join(scratch, "gone.table")
    result = run(["sh", "-c", "/bin/true; sh -c '/bin/true; /bin/echo end'; ls /"], gone)
    check("a_policy_that_cannot_be_read_stops_nothing", result.returncode == 0 and
          result.stdout.startswith("end\n"), result)
    check("and_is_said_by_one_process", result.stderr.count("\n") == 1 and gone in result.stderr,
          result.stderr)
    # More than may be mapped: this process's trouble alone.
    large = os.path.join(scratch, "large.table")
    with open(large, "wb") as f:
        f.truncate(1 << 30)
    result = run(["sh", "-c", "printenv BERTH_POLICY"], large, preexec_fn=lambda:
                 resource.setrlimit(resource.RLIMIT_AS, 2 * (512 << 20,)))
    check("a_policy_that_cannot_be_read_now_is_not_forgotten", result.returncode == 0 and
          result.stdout == large + "\n" and result.stderr.count("Cannot allocate memory") == 2,
          result)


READ_ONLY = """
import ctypes, mmap, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
page = libc.mmap(None, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE,
                 mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
ctypes.memmove(page, b"BERTH_POLICY=/gone/table", 25)
libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ)
libc.putenv(ctypes.c_void_p(page))
ctypes.CDLL(sys.argv[1])
print("end")
"""


def own_environment_checks():
    """A program that opens the library itself may have its environment where nobody may write."""
    opened = os.path.join(os.path.dirname(library), "libberth.so")
    if not os.path.exists(opened):
        return
    result = subprocess.run([sys.executable, "-c", READ_ONLY, opened], capture_output=True,
                            text=True, timeout=60, env=dict(os.environ, BERTH_CONTROL="never"))
    # Where the loader has no room for it, or a sanitizer is not first, it is not opened.
    check("an_environment_that_cannot_be_written_is_left_alone", result.returncode >= 0, result)


LIMITED = """
import os, resource
blocks = [bytearray(300000) for i in range(20)]
resource.setrlimit(resource.RLIMIT_AS, (512 << 20, resource.RLIM_INFINITY))
pid = os.fork()
if pid == 0:
    os._exit(len(blocks) + len(bytearray(50 << 20)) % 3)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), len(bytearray(100 << 20)))
"""


def limit_checks(scratch):
    """What is reserved for blocks that may move makes room for a limit, too."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
    table = compile_policy(scratch, "moves", far(place).replace("side = host", "side = host  movable = yes"))
    shown = [subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True).stdout,
             run([sys.executable, "-c", LIMITED], table).stdout]
    check("a_limit_of_addresses_leaves_room", shown[0] == shown[1], shown)
    shell = ["sh", "-c", "ulimit -v 100000; echo $(echo captured); (echo child); ls -d /; echo $?"]
    recorded = far(place).replace("64K", "256") + "options {\n  record-threshold = 0\n}\n"
    result = run(shell, compile_policy(scratch, "shell", recorded))
    check("a_shell_that_limits_its_addresses_has_children",
          result.stdout == "captured\nchild\n/\n0\n" and "fork" not in result.stderr, result)
    small = ["sh", "-c", "ulimit -v 60000 && exec sort -S 1M /dev/null"]
    result = run(small)
    check("a_small_process_notices_nothing", (result.returncode, result.stderr) == (0, ""), result)
    result = run(small, compile_policy(scratch, "small", far(place).replace("64K", "1")))
    check("nor_does_one_without_its_tier_but_for_one_line", result.returncode == 0 and
          result.stderr.count("\n") == 1 and "tier far cannot be had" in result.stderr, result)


def other_checks():
    """Another allocator may come first, without all of the functions that this one has."""
    path = "libjemalloc.so.2"
    native = subprocess.run(["ls", "-l", "/usr/bin"], capture_output=True, text=True,
                            env=dict(os.environ, LD_PRELOAD=path))
    if native.stderr:
        print("not run, because there is no other allocator: another_may_come_first")
        return
    under = subprocess.run(["ls", "-l", "/usr/bin"], capture_output=True, text=True,
                           env=dict(os.environ, LD_PRELOAD=path + ":" + library))
    check("another_may_come_first", (native.returncode, native.stdout) ==
          (under.returncode, under.stdout), (under.returncode, under.stderr))


def socket_checks(scratch):
    """The thread of the socket answers clients, and asks the program's allocator for nothing."""
    both = library + ":" + os.path.join(os.path.dirname(library), "libberth.so")
    env = dict(os.environ, XDG_RUNTIME_DIR=scratch)
    program = subprocess.Popen([own_socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True,
                               env=dict(env, LD_PRELOAD=both, BERTH_CONTROL="always"))
    answers = []
    for command in ("stat", "sites", "options"):
        while program.poll() is None:
            answer = subprocess.run([berth, command, str(program.pid)], env=env, text=True,
                                    capture_output=True, timeout=60)
            if "no control socket" not in answer.stderr:
                answers.append((answer.returncode, answer.stderr))
                break
    said = program.communicate(timeout=60)
    check("the_socket_does_not_enter_the_program's_allocator",
          (program.returncode, said, answers) == (0, ("never entered\n", ""), [(0, "")] * 3),
          (program.returncode, said, answers))


def early_checks(table, program, how_registered):
    """Handlers registered before anything was allocated: a fork that hangs has all signals blocked."""
    argv = [program, late_atfork]
    alone = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    check("handlers_of_the_first_hour_" + how_registered + "natively", (alone.returncode, alone.stdout) == (0, "0\n"), alone)
    for how, of in (("far", table), ("near", None)):
        try:
            result = run(argv, of)
        except subprocess.TimeoutExpired as hung:
            check("handlers_of_the_first_hour_may_allocate_" + how_registered + how, False, hung)
            continue
        check("handlers_of_the_first_hour_may_allocate_" + how_registered + how,
              (result.returncode, result.stdout, result.stderr) == (0, "0\n", ""), result)


def program_checks(scratch):
    """Programs with an allocator of their own, with auditors, and such that bear no library."""
    table = compile_policy(scratch, "own", far(scratch))
    result = run([own_malloc], table)
    check("an_allocator_in_the_program_is_not_used_to_free_before_main",
          (result.returncode, result.stdout, result.stderr) == (0, "1\n", ""), result)
    result = run([own_wrapper], table, options="sites=always")
    check("a_program_may_look_up_what_frees_when_it_first_frees",
          (result.returncode, result.stdout, result.stderr) == (0, "1\n", ""), result)
    result = run([beside_other])
    check("no_other_allocator_gives_what_this_one_has_not",
          (result.returncode, result.stdout, result.stderr) == (0, "none\n", ""), result)
    for how, of in (("far", table), ("near", None)):
        result = run([own_atfork], of)
        check("fork_handlers_may_be_run_by_the_program_" + how,
              (result.returncode, result.stdout, result.stderr) == (0, "0\n", ""), result)
    alone = subprocess.run([fork_amid], capture_output=True, text=True, timeout=120, check=False)
    check("a_fork_amid_a_fork_natively", (alone.returncode, alone.stdout) == (0, "0 6\n"), alone)
    for how, of in (("far", table), ("near", None)):
        result = run([fork_amid], of)
        check("a_signals_handler_may_fork_amid_a_fork_" + how,
              (result.returncode, result.stdout, result.stderr) == (0, "0 6\n", ""), result)
    for how, of in (("far", table), ("near", None)):
        result = run([stop_all], of)
        check("signals_may_stop_all_threads_while_one_forks_" + how,
              (result.returncode, result.stdout, result.stderr) == (0, "1\n", ""), result)
    early_checks(table, forks_early, "")
    early_checks(table, forks_old, "by_the_old_name_")
    result = subprocess.run(["env", "LD_AUDIT=" + auditor, berth, "run", "-o", "host=on", "--", "true"],
                            capture_output=True, text=True, check=False)
    check("an_audited_program_runs", (result.returncode, result.stderr) == (0, ""), result)
    with open("/bin/true", "rb") as f:
        image = f.read()
    loader = re.search(rb"/lib(64)?/ld-linux[^\0]*\0", image)
    musl = b"/lib/ld-musl-x86.so.1\0"
    if not loader or len(loader.group()) < len(musl):
        return
    program = os.path.join(scratch, "musl")
    with open(program, "wb") as f:
        f.write(image.replace(loader.group(), musl.ljust(len(loader.group()), b"\0")))
    os.chmod(program, 0o755)
    result = subprocess.run([berth, "run", "-o", "host=on", "--", program], capture_output=True,
                            text=True, check=False)
    check("a_program_of_musl_is_left_alone", "musl; it runs without Berth" in result.stderr, result)


EXITS_WITH_4 = ".globl _start\n_start: mov $4, %ebx\nmov $1, %eax\nint $0x80\n"
RETURNS_4 = "int main(void) { return 4; }\n"


def narrow_checks(scratch):
    """Programs of 32 bits: started by berth run, and by a program that runs under it."""
    if os.uname().machine != "x86_64":
        return
    for how, source, arguments in (("static", EXITS_WITH_4, ["-x", "assembler", "-nostdlib", "-static"]),
                                   ("dynamic", RETURNS_4, ["-x", "c"])):
        program = os.path.join(scratch, "narrow")
        built = subprocess.run(["cc", "-m32", *arguments, "-o", program, "-"], input=source,
                               capture_output=True, text=True, check=False)
        try:
            native = subprocess.run([program], check=False).returncode if built.returncode == 0 else -1
        except OSError:
            native = -1
        if native != 4:
            print("not run, because there are no programs of 32 bits here: " + how)
            continue
        under = [berth, "run", "-o", "host=on", "--"]
        result = subprocess.run([*under, program], capture_output=True, text=True, check=False)
        check("a_program_of_32_bits_is_left_alone_" + how, result.returncode == 4 and
              result.stderr == f"berth: run: {program}: it is a program of another machine or word "
              "size; it runs without Berth\n", result)
        result = subprocess.run([*under, "sh", "-c", program + "; exit $?"], capture_output=True,
                                text=True, check=False)
        # The dynamic linker says itself that it cannot preload.
        check("so_is_one_that_a_program_starts_" + how, result.returncode == 4 and
              "berth[" not in result.stderr and
              all("wrong ELF class" in line for line in result.stderr.splitlines()), result)


INFO = """
import ctypes, os
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
blocks = [bytearray(70000) for i in range(100)]
assert libc.malloc_info(0, out) == 0
libc.fflush(out)
os._exit(0)
"""


def info_checks():
    """malloc_info's document is XML, and its numbers are those of a heap that holds something."""
    document = ElementTree.fromstring(run([sys.executable, "-c", INFO]).stdout)
    totals = {e.get("type"): int(e.get("size")) for e in document.findall("system")}
    check("malloc_info_writes_xml", document.tag == "malloc" and document.get("version") == "1" and
          document.find("heap/sizes") is not None, document)
    check("malloc_info_counts", totals["max"] >= totals["current"] >= 7000000, totals)


# Blocks of 300000 bytes again and again, whose first bytes are shown by what was first found there.
FILLED = """
import ctypes
c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_void_p
c.free.argtypes = [ctypes.c_void_p]
found = set()
for size in [300000] * 20 + [40 << 20]:
    p = c.malloc(size)
    found |= {ctypes.string_at(p + at, 1) for at in (0, size // 2, size - 1)}
    ctypes.memset(p, 1, size)
    c.free(p)
print(sorted(found))
"""

# What a program or its user may tell jemalloc, and what fills its blocks.
JEMALLOC_OPTIONS = {
    "junk:true": b"\xa5", "junk:alloc": b"\xa5", "junk:free": None, "zero:true": b"\0",
    "dirty_decay_ms:-1": None, "muzzy_decay_ms:-1": None, "dirty_decay_ms:0": None,
    "retain:false": None, "tcache:false": None, "narenas:1": None, "percpu_arena:percpu": None,
    "background_thread:true": None, "thp:always": None, "metadata_thp:always": None,
    "lg_extent_max_active_fit:20": None, "hpa:true": None, "dss:primary": None,
    "oversize_threshold:0": None, "zero:true,dirty_decay_ms:-1": b"\0",
}


def jemalloc_option_checks(scratch):
    """MALLOC_CONF is obeyed, and ends no program, in ordinary memory and in a file tier."""
    for table in (None, compile_policy(scratch, "filled", far(scratch))):
        where = "a_file_tier" if table else "ordinary_memory"
        for option, byte in JEMALLOC_OPTIONS.items():
            result = run([sys.executable, "-c", FILLED], table,
                         more_environment={"MALLOC_CONF": option})
            shown = (result.returncode, result.stdout, result.stderr)
            filled = result.stdout == f"{[byte]}\n" if byte else result.stdout
            check(f"{option}_is_obeyed_in_{where}",
                  result.returncode == 0 and not result.stderr and filled, shown)


def privileged_checks(scratch):
    """The loader does not preload into a program with rights of its own; that must be no failure."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return
    program = os.path.join(scratch, "program")
    shutil.copy("/bin/true", program)
    os.chmod(scratch, 0o755)
    os.chmod(program, 0o4755)
    result = run(["setpriv", "--reuid=65534", "--clear-groups", program])
    check("a_setuid_program_runs", (result.returncode, result.stdout) == (0, ""), result.stderr)
    policy = os.path.join(scratch, "of_root")
    with open(policy, "w", encoding="utf-8") as f:
        f.write(far(scratch))
    result = subprocess.run([berth, "run", "--policy", policy, "--", "setpriv", "--reuid=65534",
                             "--clear-groups", "echo", "here"], capture_output=True, text=True, check=False)
    check("another_user_notices_nothing_of_the_policy", (result.returncode, result.stdout) ==
          (0, "here\n") and "berth[" not in result.stderr, result)


def emulated_checks(scratch):
    """An emulator of user programs keeps a record of every page: a large reservation hangs in it."""
    emulator = shutil.which("qemu-" + os.uname().machine)
    if not emulator:
        print("not run, because there is no emulator of user programs: an_emulated_program_runs")
        return
    table = compile_policy(scratch, "emulated", far(scratch))
    result = subprocess.run(
        [emulator, "-E", "LD_PRELOAD=" + library, "-E", "BERTH_POLICY=" + table,
         "-E", "BERTH_CONTROL=never", shutil.which("sort"), "-S", "1M", "-n"],
        input="".join(f"{i * 7919 % 20011}\n" for i in range(20000)), capture_output=True,
        text=True, timeout=100, check=False)
    check("an_emulated_program_runs", result.returncode == 0 and result.stdout.count("\n") == 20000,
          result.stderr)


library_checks()
quiet_checks()
info_checks()
other_checks()
own_environment_checks()
with tempfile.TemporaryDirectory() as scratch_directory:
    fork_checks(scratch_directory)
    missing_checks(scratch_directory)
    unread_checks(scratch_directory)
    limit_checks(scratch_directory)
    socket_checks(scratch_directory)
    program_checks(scratch_directory)
    narrow_checks(scratch_directory)
    jemalloc_option_checks(scratch_directory)
    privileged_checks(scratch_directory)
    emulated_checks(scratch_directory)
sys.exit(1 if failures else 0)
