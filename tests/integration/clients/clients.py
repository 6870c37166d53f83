#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs that nobody here wrote, natively and under Berth: same output, same exit code.

usage: clients.py BERTH CLIENT MODE

BERTH is the command line tool. MODE says where the policy puts host blocks: `dram` (no far tier),
`far` (every block on a file tier), `mixed` (size classes alternate between DRAM and two file tiers).
BERTH_TEST_TIER in the environment may say of which kind the first of these tiers is instead, as a
policy does; TMPDIR, where the files are; BERTH_TEST_PROBED, with commas between, for which modes
another client has just looked whether Berth is there and places blocks so.
Each client is a function that runs the same work with a given command prefix and returns what must
not differ. Exits 77 with the reason where the client is not installed.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

POLICIES = {
    "dram": """
rule all { side = host  min-size = 64K  place = { dram } }
""",
    "far": """
tier far { @FAR@  capacity = 2G }
rule all { side = host  place = { far } }
""",
    "mixed": """
tier far { @FAR@  capacity = 2G }
tier other { kind = file  path = "@DIR@"  capacity = 16M }
rule tiny { side = host  max-size = 128  place = { other, far } }
rule small { side = host  min-size = 1K  max-size = 4K  place = { far } }
rule middle { side = host  min-size = 16K  max-size = 256K  place = { other, dram } }
rule large { side = host  min-size = 1M  place = { far } }
""",
}


def rounds(count):
    """How often something is done: an emulated processor takes some forty times as long for it."""
    return max(count // 20, 1) if os.environ.get("CHECK_EMULATED") else count


def need(program):
    """Skips the test where the program is missing."""
    path = shutil.which(program)
    if not path:
        print(f"{program} is not installed")
        sys.exit(77)
    return path


def run(prefix, command, folder, stdin=b"", environment=None):
    """Runs a command to its end; its exit code, and its output as bytes."""
    done = subprocess.run(prefix + command, cwd=folder, input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=240, check=False,
                          env={**os.environ, **(environment or {})})
    if b"berth[" in done.stderr:
        print(done.stderr.decode(errors="replace")[-2000:], file=sys.stderr)
        raise AssertionError("Berth had something to say")
    if done.returncode != 0:
        print(f"{command[0]} ended with {done.returncode}:"
              f" {done.stderr.decode(errors='replace')[-1000:]}", file=sys.stderr)
    return done.returncode, done.stdout


def digest(data):
    """A short name for some bytes."""
    return hashlib.sha256(data).hexdigest()


def client_sqlite3(prefix, folder):
    """A table of 60,000 rows, an index, sorting, text functions; in memory and in a file."""
    script = f"""
create table t(a integer primary key, b text, c blob);
with recursive n(i) as (select 1 union all select i+1 from n where i < {rounds(60000)})
insert into t select i, printf('row-%08d-%s', (i*7919)%60013, hex(zeroblob(i%40))), zeroblob(i%700) from n;
create index tb on t(b);
select count(*), sum(length(b)), sum(length(c)), min(b), max(b) from t;
select group_concat(b, ',') from (select b from t order by b desc limit {rounds(2000)});
delete from t where a % 3 = 0;
vacuum;
pragma integrity_check;
select sum(a), count(distinct b) from t;
"""
    outputs = [run(prefix, [need("sqlite3"), name], folder, script.encode())
               for name in (":memory:", "db.sqlite")]
    (folder / "db.sqlite").unlink()
    return outputs


def client_python(prefix, folder):
    """CPython on malloc: objects, threads, fork, subprocesses, a C++ extension's exceptions."""
    script = r"""
import json, hashlib, os, re, sys, threading, zlib, subprocess, multiprocessing
data = [{"k%d" % i: list(range(i % 50)), "s": "x" * (i % 300)} for i in range(OBJECTS)]
text = json.dumps(data)
assert json.loads(text) == data
print(hashlib.sha256(text.encode()).hexdigest(), len(zlib.compress(text.encode())))
out = [None] * 8
def work(n):
    parts = []
    for i in range(PARTS):
        parts.append(bytearray(n * 37 + i * 11))
        if len(parts) > 100:
            del parts[::2]
    out[n] = sum(map(len, parts))
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(out)
big = bytearray(os.urandom(1) * (8 << 20))
mine = big[0]
pid = os.fork()
if pid == 0:
    big[:] = bytes(len(big))
    os._exit(0 if not any(big[::4096]) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), all(b == mine for b in big[::4096]))
print(subprocess.run([sys.executable, "-c", "print(len([0]*10**6))"], capture_output=True).stdout)
with multiprocessing.get_context("fork").Pool(3) as pool:
    print(sum(pool.map(len, ["a" * i for i in range(500)])))
print(len(re.findall(r"(\w+)\s", text[:500000])))
"""
    numbers = f"OBJECTS, PARTS = {rounds(20000)}, {rounds(3000)}"
    return run(prefix, [need("python3"), "-c", numbers + script], folder,
               environment={"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"})


def client_gcc(prefix, folder):
    """g++ compiles a large translation unit; the object must be the same to the byte."""
    source = ["#include <algorithm>", "#include <map>", "#include <regex>", "#include <string>",
              "#include <unordered_map>", "#include <vector>"]
    for i in range(120):
        source.append(f"std::map<std::string,std::vector<int>> f{i}(const std::vector<int> &v) {{"
                      f" std::map<std::string,std::vector<int>> m; for (int x : v)"
                      f" m[std::to_string(x % {i + 3})].push_back(x);"
                      f" for (auto &p : m) std::sort(p.second.begin(), p.second.end()); return m; }}")
    (folder / "large.cpp").write_text("\n".join(source))
    code, output = run(prefix, [need("g++"), "-O1", "-c", "large.cpp", "-o", "large.o"], folder)
    return code, output, digest((folder / "large.o").read_bytes())


def client_cc(prefix, folder):
    """The C compiler and the assembler, each a process of its own; the same object to the byte."""
    source = []
    for i in range(rounds(100)):
        source.append(f"struct s{i} {{ int n; struct s{i} *next; double x[{i + 3}]; }};\n"
                      f"double f{i}(struct s{i} *s, int k) {{ double sum = 0;"
                      f" for (; s && s->n != k; s = s->next) for (int j = 0; j < {i + 3}; j++)"
                      f" switch (j % 5) {{ case 0: sum += s->x[j]; break; case 3: sum -= j * {i}; break;"
                      f" default: sum *= s->x[(j + k) % {i + 3}]; }} return sum; }}")
    (folder / "small.c").write_text("\n".join(source))
    # It includes nothing, and a guest has no folder of headers, which is an error by itself.
    code, output = run(prefix, [need("gcc"), "-nostdinc", "-O2", "-g", "-c", "small.c", "-o",
                                "small.o"], folder)
    return code, output, digest((folder / "small.o").read_bytes())


def client_git(prefix, folder):
    """A history of 300 commits: import, log -p, gc, fsck, blame."""
    need("git")
    stream = []
    body = []
    for i in range(rounds(300)):
        body.append(f"line {i} {'abc' * (i % 20)}\n")
        text = "".join(body)
        stream.append(f"commit refs/heads/main\ncommitter A <a@b.c> {1700000000 + i} +0000\n"
                      f"data {len(f'commit {i}')}\ncommit {i}\n"
                      f"M 100644 inline file.txt\ndata {len(text)}\n{text}\n")
    repository = folder / "repository"
    shutil.rmtree(repository, ignore_errors=True)
    environment = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    outputs = [run(prefix, ["git", "init", "-q", "-b", "main", "repository"], folder,
                   environment=environment)]
    for command, stdin in ((["fast-import", "--quiet"], "".join(stream).encode()),
                           (["log", "-p", "--stat"], b""), (["gc", "-q", "--aggressive"], b""),
                           (["fsck", "--full", "--no-progress"], b""),
                           (["blame", "main", "--", "file.txt"], b"")):
        code, output = run(prefix, ["git", "-C", str(repository)] + command, folder, stdin,
                           environment)
        outputs.append((code, digest(output), len(output)))
    return outputs


def client_node(prefix, folder):
    """V8: buffers, JSON, worker threads, a child process."""
    script = r"""
const { Worker, isMainThread } = require('worker_threads');
const crypto = require('crypto'), zlib = require('zlib'), cp = require('child_process');
let parts = [];
for (let i = 0; i < 3000; i++) parts.push(Buffer.alloc((i * 7919) % 100000, i & 255));
const h = crypto.createHash('sha256'); parts.forEach(p => h.update(p));
console.log(h.digest('hex'));
const o = Array.from({ length: 20000 }, (_, i) => ({ i, s: 'x'.repeat(i % 100) }));
console.log(JSON.stringify(JSON.parse(JSON.stringify(o))).length);
console.log(zlib.gunzipSync(zlib.gzipSync(Buffer.concat(parts.slice(0, 500)))).length);
console.log(cp.execFileSync(process.execPath, ['-e', 'console.log(6*7)']).toString());
const w = new Worker('let a=[];for(let i=0;i<1e5;i++)a.push({i});require("worker_threads").parentPort.postMessage(a.length)', { eval: true });
w.on('message', m => console.log(m));
w.on('exit', c => console.log('exit', c));
"""
    return run(prefix, [need("node"), "-e", script], folder)


def client_bash(prefix, folder):
    """A shell: loops, pipes, subshells, here documents, traps, exit status."""
    script = r"""
set -u
times=TIMES
trap 'echo bye' EXIT
declare -A seen
for i in $(seq 1 $((times * 15))); do seen[$((i % 97))]+="$i,"; done
for k in $(printf '%s\n' "${!seen[@]}" | sort -n); do echo "$k ${#seen[$k]}"; done
seq 1 2000 | sort -r | head -5 | tr '\n' ' '
(cd / && pwd; exit 3); echo "status $?"
cat <<EOF | wc -c
$(printf 'word %.0s' {1..5000})
EOF
x=$(for i in $(seq 1 $times); do /bin/echo -n "$i"; done); echo "${#x}"
kill -TERM $BASHPID & wait; exit 41
"""
    return run(prefix, [need("bash"), "-c", script.replace("TIMES", str(rounds(200)))], folder)


@contextlib.contextmanager
def redis(prefix, folder):
    """A server on a Unix socket, ready; ended by SHUTDOWN."""
    path = folder / "redis.sock"
    server = subprocess.Popen(
        prefix + [need("redis-server"), "--port", "0", "--unixsocket", str(path), "--save", "",
                  "--dir", str(folder), "--loglevel", "notice", "--daemonize", "no",
                  "--enable-debug-command", "yes"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder)
    log = []
    for line in server.stdout:
        log.append(line)
        if b"ready to accept connections" in line.lower():
            break
    else:
        raise AssertionError("redis did not start: " + b"".join(log).decode())
    try:
        yield str(path), server
    finally:
        server.kill()
        server.wait()


def client_redis(prefix, folder):
    """redis-server (linked to jemalloc itself): a benchmark, all types, a forked save, a digest."""
    cli = need("redis-cli")
    outputs, keys = [], rounds(20000)
    with redis(prefix, folder) as (path, server):
        bench = subprocess.run([need("redis-benchmark"), "-s", path, "-n", str(rounds(5000)), "-q",
                                "-c", str(max(rounds(50), 5)), "-r", "1000", "-t", "set,get,lpush,hset,sadd"],
                               stdout=subprocess.PIPE, check=True)
        outputs.append(bench.stdout.count(b"requests per second"))

        def ask(*command):
            return subprocess.run([cli, "-s", path, *command], stdout=subprocess.PIPE,
                                  check=True).stdout

        ask("flushall")
        ask("eval", f"for i=1,{keys} do redis.call('set','k'..i,string.rep('v',i%2000)) "
                    "redis.call('rpush','l'..(i%50),i) redis.call('zadd','z',i,i) end", "0")
        outputs.append(ask("dbsize"))
        outputs.append(ask("debug", "digest"))
        outputs.append(ask("eval", f"local s=0 for i=1,{keys} do s=s+#redis.call('get','k'..i) end "
                                   "return s", "0"))
        outputs.append(ask("save"))
        outputs.append(ask("memory", "malloc-stats")[:3] != b"")
        ask("bgsave")
        while b"rdb_bgsave_in_progress:1" in ask("info", "persistence"):
            pass
        outputs.append(b"rdb_last_bgsave_status:ok" in ask("info", "persistence"))
        outputs.append(ask("config", "set", "activedefrag", "yes")[:2])
        outputs.append(ask("flushall"))
        subprocess.run([cli, "-s", path, "shutdown", "nosave"], check=False)
        outputs.append(server.wait())
    return outputs


def client_perl(prefix, folder):
    """Hashes, sorting, a match over a megabyte, a forked child, a command."""
    script = f"my ($pieces, $keys, $words) = ({rounds(120000)}, {rounds(60013)}, {rounds(20000)});"
    script += r"""
my %h; for my $i (1..$pieces) { $h{($i*7919)%$keys} .= chr(65+$i%26); }
my $s = 0; for my $k (sort {$a<=>$b} keys %h) { $s = ($s*31 + length($h{$k})*ord($h{$k})) % 1000000007; }
print "$s\n";
my $t = join(",", map { "k$_=".("x" x ($_%50)) } 1..$words); my $n = 0; $n++ while $t =~ /k(\d+)=(x*)/g;
print "$n ", length($t), "\n";
my @big = map { "a" x (100000+$_) } 1..50; print length(join("", @big)), "\n";
$| = 1; my $pid = fork(); if (!$pid) { $big[3] = "z"; print length($big[4]), "\n"; exit 3; }
waitpid($pid, 0); print $? >> 8, " ", length($big[3]), "\n"; print `echo from a command`;
"""
    return run(prefix, [need("perl"), "-e", script], folder)


def client_openssl(prefix, folder):
    """Digests, a cipher over some megabytes, and a signature that is verified."""
    openssl = need("openssl")
    (folder / "data").write_bytes(bytes(range(256)) * rounds(20000))
    outputs = [run(prefix, [openssl, *command], folder) for command in (
        ["dgst", "-sha512", "data"],
        ["enc", "-aes-256-cbc", "-K", "11" * 32, "-iv", "22" * 16, "-in", "data"],
        ["genrsa", "-out", "key", "1024"],
        ["dgst", "-sha256", "-sign", "key", "-out", "signature", "data"],
        ["rsa", "-in", "key", "-pubout", "-out", "public"],
        ["dgst", "-sha256", "-verify", "public", "-signature", "signature", "data"])]
    return [(code, digest(output)) for code, output in outputs]


def client_java(prefix, folder):
    """A virtual machine: its heap is its own, its compiler's and its buffers' memory is malloc's."""
    (folder / "Client.java").write_text("""
import java.util.*; import java.util.stream.*;
public class Client { public static void main(String[] a) throws Exception {
  Map<Integer, String> m = new TreeMap<>();
  for (int i = 0; i < 100000; i++) m.put((i * 7919) % 100003, "v" + i);
  System.out.println(m.hashCode());
  java.nio.ByteBuffer d = java.nio.ByteBuffer.allocateDirect(32 << 20);
  for (int i = 0; i < d.capacity(); i += 4096) d.put(i, (byte) i);
  System.out.println(d.get(8192));
  System.out.println(IntStream.range(0, 1000000).parallel().mapToLong(i -> i * 3L).sum());
  Process p = new ProcessBuilder("echo", "child").start();
  System.out.println(new String(p.getInputStream().readAllBytes()) + p.waitFor());
} }
""")
    return run(prefix, [need("java"), "Client.java"], folder)


def client_tools(prefix, folder):
    """Threads that compress, a parallel sort, an archive, make and awk: each as it comes."""
    (folder / "numbers").write_text("".join(f"{i * 7919 % 200003}\n" for i in range(rounds(200000))))
    # From 1 on: where expr prints 0, it fails.
    targets = range(1, rounds(80) + 1)
    (folder / "makefile").write_text(
        "all: " + " ".join(f"t{i}" for i in targets) + "\n" +
        "".join(f"t{i}:\n\t@expr {i} '*' 3 > o{i}\n" for i in targets))
    outputs = []
    for command in (["xz", "-T2", "-1", "-c", "numbers"], ["zstd", "-T2", "-5", "-q", "-c", "numbers"],
                    ["gzip", "-n", "-c", "numbers"], ["sort", "-n", "--parallel=2", "-S", "2M", "numbers"],
                    ["tar", "--mtime=@0", "-cf", "-", "numbers"], ["make", "-s", "-j4"],
                    ["awk", "{ a[$1 % 997] = a[$1 % 997] $1 } END { for (i = 0; i < 997; i++) "
                            "s += length(a[i]); print s }", "numbers"]):
        if shutil.which(command[0]):
            code, output = run(prefix, command, folder)
            outputs.append((command[0], code, digest(output)))
    return outputs


def client_nginx(prefix, folder):
    """A server of two processes: files, compression, a new configuration while it runs."""
    need("curl")
    web = folder / "web"
    web.mkdir(exist_ok=True)
    (web / "file").write_bytes(bytes(range(251)) * 8000)
    path = folder / "nginx.sock"
    path.unlink(missing_ok=True)
    temporary = " ".join(f"{name}_temp_path {folder};" for name in (
        "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(f"""
daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/nginx.log; {user}
events {{ worker_connections 64; }}
http {{ access_log off; {temporary} gzip on; gzip_types *;
  server {{ listen unix:{path}; root {web}; location = /word {{ return 200 "word"; }} }} }}
""")
    server = subprocess.Popen(prefix + [need("nginx"), "-c", str(folder / "nginx.conf"), "-p", str(folder)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def ask(*arguments):
        return subprocess.run(["curl", "-s", "--retry", "9", "--retry-connrefused", "--retry-all-errors",
                               "--unix-socket", str(path), *arguments], stdout=subprocess.PIPE,
                              check=False).stdout

    try:
        outputs = [digest(ask("http://x/file")), digest(ask("--compressed", "http://x/file"))]
        server.send_signal(signal.SIGHUP)
        outputs += [ask("http://x/word") for _ in range(30)]
        outputs.append(ask("-o", "/dev/null", "-w", "%{http_code}", "http://x/nothing"))
        server.send_signal(signal.SIGQUIT)
        said = server.communicate(timeout=60)[0]
    finally:
        server.kill()
    assert b"berth[" not in said, said
    return outputs + [server.returncode]


CLIENTS = {name[7:]: value for name, value in dict(globals()).items() if name.startswith("client_")}


def probe(prefix, folder, mode):
    """Berth must really be there, and put a block where the mode says."""
    script = ("import ctypes as c; b = c.CDLL(None); print(b.berth_active()); "
              "class I(c.Structure): _fields_=[('base',c.c_void_p),('requested',c.c_size_t),"
              "('held',c.c_size_t),('tag',c.c_int),('tier',c.c_char_p),('rule',c.c_char_p)]").replace(
                  "; class", "\nclass")
    script += ("\nb.malloc.restype = c.c_void_p\np = c.c_void_p(b.malloc(c.c_size_t(2 << 20)))\n"
               "i = I()\nprint(b.berth_describe(p, c.byref(i), c.c_size_t(c.sizeof(i))), "
               "i.tier.decode(), i.requested)")
    code, output = run(prefix, [need("python3"), "-c", script], folder)
    where = "dram" if mode == "dram" else "far"
    assert (code, output) == (0, f"1\n0 {where} {2 << 20}\n".encode()), (code, output)


def main(berth, client, mode):
    """Runs one client in one mode and compares."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") and "TMPDIR" not in os.environ else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        folder = pathlib.Path(name)
        policy = folder / "test.policy"
        far = os.environ.get("BERTH_TEST_TIER", 'kind = file  path = "@DIR@"')
        policy.write_text(POLICIES[mode].replace("@FAR@", far).replace("@DIR@", name))
        prefix = [os.path.abspath(berth), "run", "--policy", str(policy), "--"]
        if mode not in os.environ.get("BERTH_TEST_PROBED", "").split(","):
            probe(prefix, folder, mode)
        native = CLIENTS[client]([], folder)
        under = CLIENTS[client](prefix, folder)
        if native != under:
            print(f"{client} differs under Berth ({mode}):\n native {str(native)[:3000]}\n"
                  f" berth  {str(under)[:3000]}")
            return 1
        print(f"{client} ({mode}): same output and exit code: {str(under)[:200]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
