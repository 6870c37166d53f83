# SPDX-License-Identifier: Apache-2.0
"""How much device memory a trace costs beyond what lives in it: Berth's pool, replayed, beside
simulations of other allocators' policies.

    device_waste.py BERTH [--repeat N] [--effort N] [--scale N] [--generated] [--seed N]
                    [--keep] [--losses] [--disturb SEED...] [--segments KIND]
                    [--infer BERTH-INFER RECORDER] [--torch PYTHON RECORDER] [--only NAME...]
                    [TRACE.csv...]

Prints, for each trace and policy, the most bytes that were reserved over the most that lived at
once, and the driver calls of the first and the last repetition: those that get memory or give it
back, and for Berth those that map it and take it off its addresses. Berth's rows are `berth trace
replay` on the virtual driver; all others are simulations, written here from published descriptions
and reduced to one thread, without streams and without a limit of memory:

  driver        every allocation its own, in pieces of 2 MiB; smaller ones share pieces (best fit)
  pytorch       the caching allocator: multiples of 512; up to 1 MiB from segments of 2 MiB, up to
                10 MiB from segments of 20 MiB, larger ones from their own in multiples of 2 MiB;
                best fit; a rest is split off above 512 bytes (small) or 1 MiB (large)
  pytorch-exp   its expandable segments: one growing range for small, one for large blocks, mapped
                2 MiB and 20 MiB at a time
  tensorflow    BFC with growth: multiples of 256; regions that double from 1 MiB; the smallest chunk
                that fits; split when twice as large or 128 MiB larger
  rmm-pool      coalescing best fit, multiples of 256; grows by as much as it has
  one-heap      best fit in one piece without an end, up to the highest byte that was ever used: what
                is left to lose where no border is in the way, and nothing moves

--generated adds traces of made-up programs (device_programs.py), of the seed that each has or of
the one given; --scale multiplies all sizes of the given ones (for traces of host memory; they are
then replayed as if it were the device's).

The last lines count the programs within the goals, and once more with what a goal allows those of
which less than 1 GiB lives: one segment as large as the pool's are, which is a 64th of what lives
and 2 MiB at least where segments are shared, and a GPU page where they are expandable.

--effort is of the search for plans, see berth-trace(1).

--keep has what a trace never frees stay from the first repetition on, as the weights of a program
that goes on; max-live is then that of a later repetition. A plan is for one run, and left out.

--infer adds what berth-infer allocates on the host, recorded while it answers on a model with random
weights (host_trace.c) and scaled up until 1 GiB lives at once, which the names say.

--torch adds what the tensors of PyTorch programs take (device_torch.py), which run on the CPU, each
to its end, recorded in the same way: of all that they allocate on the host, what PyTorch itself
asks for. What libraries of the device would have beside that, for convolutions, is not in it. Sizes
are scaled up by a power of two until 1 GiB lives at once. --only takes some of these programs.

--losses says where the bytes are that Berth has beyond what lives, in per cent of max-live:

  rounding      to multiples of 512 bytes, at the fullest moment
  gaps          between blocks, in one heap without an end
  threads       what more is needed because threads keep small blocks
  borders       the rest: ends of segments, or of GPU pages; less than nothing where these help

--disturb prints something else: what a program needs that follows the plan of its trace, but not
exactly. 1 % of its blocks are missing and 1 % are up to twice as large, by chance of each SEED (it
may be given more than once); beside it, what it needs undisturbed, and what it needs so disturbed
without the plan, with --segments of this kind (shared). The lines at the end count all of them.
"""
import argparse
import bisect
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

import infer_decode
from device_programs import GENERATED, GIB, HELD_OUT, MIB, write


def up(size, to):
    return -(-size // to) * to


class Block:
    __slots__ = ("address", "size", "prev", "next", "is_free")

    def __init__(self, address, size, prev=None, following=None):
        self.address, self.size, self.prev, self.next = address, size, prev, following
        self.is_free = False


class Heap:
    """Segments with blocks; free ones by size, then address; neighbours are joined."""

    def __init__(self):
        self.free = []  # (size, address)
        self.at = {}
        self.reserved = self.calls = 0
        self.next_address = 1 << 40

    def grow(self, size):
        self.reserved += size
        self.calls += 1
        block = Block(self.next_address, size)
        self.next_address += size + GIB  # never a neighbour of another segment
        self.at[block.address] = block
        return block

    def fit(self, size):
        i = bisect.bisect_left(self.free, (size, 0))
        return self.at[self.free[i][1]] if i < len(self.free) else None

    def add(self, block):
        block.is_free = True
        bisect.insort(self.free, (block.size, block.address))

    def remove(self, block):
        block.is_free = False
        del self.free[bisect.bisect_left(self.free, (block.size, block.address))]

    def split(self, block, size):
        rest = Block(block.address + size, block.size - size, block, block.next)
        if block.next:
            block.next.prev = rest
        block.next, block.size = rest, size
        self.at[rest.address] = rest
        self.add(rest)

    def join(self, block):
        """Frees a block."""
        for first, second in ((block, block.next), (block.prev, block)):
            if not first or not second or (first if second is block else second).is_free is False:
                continue
            self.remove(first if second is block else second)
            first.size += second.size
            first.next = second.next
            if second.next:
                second.next.prev = first
            del self.at[second.address]
            block = first
        self.add(block)


class Policy:
    def __init__(self):
        self.heap = Heap()

    def reserved(self):
        return self.heap.reserved

    def calls(self):
        return self.heap.calls

    def free(self, handle):
        self.heap.join(handle)


class Driver(Policy):
    def __init__(self):
        super().__init__()
        self.own = self.own_calls = 0

    def alloc(self, size):
        if size > MIB:
            self.own += up(size, 2 * MIB)
            self.own_calls += 1
            return up(size, 2 * MIB)
        self.own_calls += 1
        size = up(size, 512)
        block = self.heap.fit(size)
        if block:
            self.heap.remove(block)
        else:
            block = self.heap.grow(2 * MIB)
            self.heap.calls -= 1
        if block.size > size:
            self.heap.split(block, size)
        return block

    def free(self, handle):
        self.own_calls += 1
        if isinstance(handle, Block):
            self.heap.join(handle)
        else:
            self.own -= handle

    def reserved(self):
        return self.heap.reserved + self.own

    def calls(self):
        return self.own_calls


class PyTorch:
    def __init__(self):
        self.small, self.large = Heap(), Heap()

    def alloc(self, size):
        size = up(size, 512)
        is_small = size <= MIB
        heap = self.small if is_small else self.large
        block = heap.fit(size)
        if block:
            heap.remove(block)
        else:
            block = heap.grow(2 * MIB if is_small else
                              20 * MIB if size < 10 * MIB else up(size, 2 * MIB))
        rest = block.size - size
        if rest >= 512 if is_small else rest > MIB:
            heap.split(block, size)
        return heap, block

    @staticmethod
    def free(handle):
        handle[0].join(handle[1])

    def reserved(self):
        return self.small.reserved + self.large.reserved

    def calls(self):
        return self.small.calls + self.large.calls


class PyTorchExpandable(PyTorch):
    """Each heap is one segment, whose last block grows by pages."""

    def __init__(self):
        super().__init__()
        self.last = {}

    def alloc(self, size):
        size = up(size, 512)
        heap, page = (self.small, 2 * MIB) if size <= MIB else (self.large, 20 * MIB)
        block = heap.fit(size)
        if block:
            heap.remove(block)
        else:
            block = self.expand(heap, size, page)
        if block.size > size:
            heap.split(block, size)
        return heap, block

    def expand(self, heap, size, page):
        last = self.last.get(heap)
        if last is None:
            self.last[heap] = last = heap.grow(0)
            heap.calls -= 1
        while last.next:
            last = last.next
        if last.is_free:
            heap.remove(last)
        elif last.size:
            last.next = Block(last.address + last.size, 0, last)
            last = last.next
            heap.at[last.address] = last
        more = up(size - last.size, page)
        heap.calls += more // page
        heap.reserved += more
        last.size += more
        return last


class TensorFlow(Policy):
    def __init__(self):
        super().__init__()
        self.region = MIB

    def alloc(self, size):
        size = up(size, 256)
        block = self.heap.fit(size)
        if block:
            self.heap.remove(block)
        else:
            increased = False
            while self.region < size:
                self.region *= 2
                increased = True
            block = self.heap.grow(self.region)
            if not increased:
                self.region *= 2
        if block.size >= 2 * size or block.size - size >= 128 * MIB:
            self.heap.split(block, size)
        return block


class RmmPool(Policy):
    def alloc(self, size):
        size = up(size, 256)
        block = self.heap.fit(size)
        if block:
            self.heap.remove(block)
        else:
            block = self.heap.grow(max(size, self.heap.reserved, 2 * MIB))
        if block.size > size:
            self.heap.split(block, size)
        return block


class OneHeap(Policy):
    def __init__(self):
        super().__init__()
        block = self.heap.grow(1 << 50)
        self.start, self.high, self.heap.calls = block.address, 0, 1
        self.heap.add(block)

    def alloc(self, size):
        size = up(size, 512)
        block = self.heap.fit(size)
        self.heap.remove(block)
        if block.size > size:
            self.heap.split(block, size)
        self.high = max(self.high, block.address + size - self.start)
        return block

    def reserved(self):
        return self.high


SIMULATED = [("driver", Driver), ("pytorch", PyTorch), ("pytorch-exp", PyTorchExpandable),
             ("tensorflow", TensorFlow), ("rmm-pool", RmmPool),
             ("one-heap", OneHeap)]


def read(path, scale):
    """Events: (pointer, size), size 0 for a free."""
    events = []
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            row = {key.lower(): value for key, value in row.items() if key}
            if row["action"] == "allocate":
                events.append((int(row["pointer"], 0), int(row["size"]) * scale))
            elif row["action"] in ("free", "deallocate"):
                events.append((int(row["pointer"], 0), 0))
    return events


def kept_of(events):
    """Which events allocate what is never freed."""
    last = {}
    for i, (pointer, size) in enumerate(events):
        if size:
            last[pointer] = i
        else:
            last.pop(pointer, None)
    return set(last.values())


def max_live(events, kept=frozenset()):
    """The kept ones live all along."""
    live, now, most = {}, sum(events[i][1] for i in kept), 0
    events = [event for i, event in enumerate(events) if i not in kept]
    for pointer, size in events:
        if size:
            live[pointer] = size
            now += size
        else:
            now -= live.pop(pointer, 0)
        most = max(most, now)
    return most


def simulate(make, events, repeat, kept=frozenset()):
    """The most that was reserved, calls of the first and of the last repetition."""
    policy, peak, calls = make(), 0, [0]
    for repetition in range(repeat):
        live = {}
        for i, (pointer, size) in enumerate(events):
            if i in kept:
                if repetition == 0:
                    policy.alloc(size)
                    peak = max(peak, policy.reserved())
            elif size:
                live[pointer] = policy.alloc(size)
                peak = max(peak, policy.reserved())
            elif pointer in live:
                policy.free(live.pop(pointer))
        for handle in live.values():
            policy.free(handle)
        calls.append(policy.calls())
    return peak, calls[1], calls[-1] - calls[-2]


def replay(berth, path, repeat, options, plan=None, keep=False):
    command = [berth, "trace", "replay", path, "--against", "pool", "--repeat", str(repeat),
               "--json", "--driver", "virtual", "--device-memory", "512G"]
    command += ["--keep"] if keep else []
    for option in options:
        command += ["-o", option]
    env = {**os.environ, **({"BERTH_PLAN": plan} if plan else {})}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    results = json.loads(done.stdout)["results"]
    calls = [result["driver_allocs"] + result["driver_frees"] for result in results]
    maps = [result["driver_maps"] + result["driver_unmaps"] for result in results]
    return (max(result["reserved_peak"] for result in results), calls[0], calls[-1], maps[0],
            maps[-1])


class Goals:
    """Which programs are within them, by kind of segments."""

    LIMITS = {"shared": 1.05, "expandable": 1.02}

    def __init__(self):
        self.seen = {segments: [] for segments in self.LIMITS}  # (reserved, max-live)

    def add(self, segments, figures, most):
        if figures and segments in self.seen:
            self.seen[segments].append((figures[0], most))

    @staticmethod
    def allowance(segments, most):
        if most >= GIB:
            return 0
        return up(most >> 6, 2 * MIB) if segments == "shared" else 2 * MIB

    def show(self):
        for segments, limit in self.LIMITS.items():
            seen = self.seen[segments]
            if not seen:
                continue
            strict = sum(reserved <= limit * most for reserved, most in seen)
            loose = sum(reserved <= limit * most + self.allowance(segments, most)
                        for reserved, most in seen)
            small = sum(most < GIB for _, most in seen)
            print(f"\nberth {segments} within {limit}: {strict} of {len(seen)}; {loose} where the "
                  f"{small} of less than 1 GiB may have one segment more")


def losses(berth, path, events, repeat, most):
    rounded = max_live([(pointer, up(size, 512)) for pointer, size in events])
    heap = simulate(OneHeap, events, repeat)[0]
    print(f"  {'of which in per cent':<22} {'ROUNDING':>9} {'GAPS':>9} {'THREADS':>9} {'BORDERS':>9}")
    for segments in ("shared", "expandable"):
        option = "segments=" + segments
        with_caches = replay(berth, path, repeat, [option])
        without = replay(berth, path, repeat, [option, "thread-cache=0"])
        if with_caches and without:
            shares = (rounded - most, heap - rounded, with_caches[0] - without[0], without[0] - heap)
            print(f"  {'  ' + segments:<22}" + "".join(f" {100 * s / most:>9.2f}" for s in shares))
    sys.stdout.flush()


def row(policy, figures, most):
    if figures is None:
        print(f"  {policy:<22} {'could not run':>14}")
        return
    reserved, *calls = figures
    print(f"  {policy:<22} {reserved / MIB:>10.0f} MiB {reserved / most:>8.4f}" +
          "".join(f" {count:>10}" for count in calls))
    sys.stdout.flush()


def compare_plan(arguments, path, folder, most):
    plan = os.path.join(folder, "plan")
    done = subprocess.run([arguments.berth, "trace", "plan", path, "-o", plan, "--effort",
                           str(arguments.effort)], capture_output=True, text=True, check=False)
    row("berth plan", replay(arguments.berth, path, arguments.repeat, ["segments=shared"], plan)
        if done.returncode == 0 else None, most)


def compare(arguments, name, path, events, folder):
    if arguments.disturb:
        compare_disturbed(arguments, name, path, events, folder)
        return
    kept = kept_of(events) if arguments.keep else frozenset()
    most = max_live(events, kept)
    allocations = sum(1 for _, size in events if size)
    print(f"\n{name}: {allocations} allocations, max-live {most / MIB:.0f} MiB")
    print(f"  {'POLICY':<22} {'RESERVED':>14} {'/LIVE':>8} {'CALLS 1ST':>10} {'LAST REP':>10} "
          f"{'MAPS 1ST':>10} {'LAST REP':>10}")
    for segments in ("own", "shared", "expandable"):
        figures = replay(arguments.berth, path, arguments.repeat, ["segments=" + segments],
                         keep=arguments.keep)
        row("berth " + segments, figures, most)
        arguments.goals.add(segments, figures, most)
    if not arguments.keep:
        compare_plan(arguments, path, folder, most)
    for policy, make in SIMULATED:
        row(policy + " (simulated)", simulate(make, events, arguments.repeat, kept), most)
    if arguments.losses:
        losses(arguments.berth, path, events, arguments.repeat, most)


def disturb(events, seed):
    """The same program, 1 % of its blocks missing and 1 % up to twice as large."""
    chance, missing, out = random.Random(seed), set(), []
    for pointer, size in events:
        x = chance.random() if size else 1
        if size:
            missing.discard(pointer)
        if x < 0.01:
            missing.add(pointer)
        elif x < 0.02:
            size = int(size * (1 + chance.random()))
        if pointer not in missing:
            out.append((pointer, size))
    return out


class Disturbed:
    """What is counted over all programs and seeds."""

    def __init__(self):
        self.pairs = []  # reserved over max-live with the plan and without

    def add(self, figures, without, most):
        if figures and without:
            self.pairs.append((figures[0] / most, without[0] / most))

    def show(self):
        if not self.pairs:
            return
        print(f"\nof {len(self.pairs)} disturbed runs, with the plan and without")
        for limit in (1.01, 1.02, 1.05, 1.1, 1.2):
            print(f"  within {limit:<6}{sum(with_plan <= limit for with_plan, _ in self.pairs):>6}"
                  f"{sum(without <= limit for _, without in self.pairs):>6}")
        for name, of in (("mean", lambda values: sum(values) / len(values)), ("most", max)):
            print(f"  {name:<12}" + "".join(f" {of(column):>7.4f}" for column in zip(*self.pairs)))
        worse = [with_plan - without for with_plan, without in self.pairs]
        print(f"  more with the plan by 0.01: {sum(by > 0.01 for by in worse)}, most: "
              f"{max(worse):.4f}")


def compare_disturbed(arguments, name, path, events, folder):
    most = max_live(events)
    allocations = sum(1 for _, size in events if size)
    options = ["segments=" + arguments.segments]
    print(f"\n{name}: {allocations} allocations, max-live {most / MIB:.0f} MiB")
    print(f"  {'':<22} {'RESERVED':>14} {'/LIVE':>8} {'CALLS 1ST':>10} {'LAST REP':>10} "
          f"{'MAPS 1ST':>10} {'LAST REP':>10}")
    plan, other = os.path.join(folder, "plan"), os.path.join(folder, "disturbed.csv")
    # Of one thread, as what follows it.
    write(other, events)
    done = subprocess.run([arguments.berth, "trace", "plan", other, "-o", plan, "--effort",
                           str(arguments.effort)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print("  no plan")
        return
    row("the planned run", replay(arguments.berth, path, arguments.repeat, options, plan), most)
    for seed in arguments.disturb:
        disturbed = disturb(events, seed)
        write(other, disturbed)
        most = max_live(disturbed)
        figures = replay(arguments.berth, other, arguments.repeat, options, plan)
        without = replay(arguments.berth, other, arguments.repeat, options)
        row(f"disturbed by {seed}", figures, most)
        row("  without the plan", without, most)
        arguments.disturbed.add(figures, without, most)


TOKENIZER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "infer",
                         "model", "tokenizer.json")
# Two of berth-infer's ways: a prompt after the other, and sessions that are kept to the end.
INFER_RUNS = [("in turn", []), ("sessions", ["--keep-sessions"])]


def recorded(command, recorder, path, **env):
    """Runs the command, and has what it allocates on the host written to the path."""
    if os.path.exists(path):
        os.unlink(path)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "LD_PRELOAD": recorder, "HOST_TRACE": path, **env})


def infer_events(infer, recorder, model, folder, extra):
    """What one run allocates on the host."""
    chance, path = random.Random(1), os.path.join(folder, "host.csv")
    command = [infer, "--model", model, "--threads", "1", "--max-tokens", "16", "--ignore-eos",
               "--ids", *extra]
    for _ in range(24):
        words = [str(chance.randrange(1000)) for _ in range(chance.randrange(4, 300))]
        command += ["--prompt", " ".join(words)]
    recorded(command, recorder, path)
    return read(path, 1)


def infer_compare(arguments, folder):
    infer, recorder = map(os.path.abspath, arguments.infer)
    model = os.path.join(folder, "model")
    os.mkdir(model)
    infer_decode.model_write(model, 32)
    shutil.copy(TOKENIZER, model)
    for name, extra in INFER_RUNS:
        events = infer_events(infer, recorder, model, folder, extra)
        scale = -(-GIB // max_live(events))
        events = [(pointer, size * scale) for pointer, size in events]
        path = os.path.join(folder, "trace.csv")
        write(path, events)
        compare(arguments, f"berth-infer on the host, {name}, x {scale}", path, events, folder)


TORCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "device_torch.py")


def tensors(path):
    """What a program's tensors take. The frees of all else at such addresses are in the file, too:
    of what was not recorded, and of nothing."""
    events, live = [], set()
    for pointer, size in read(path, 1):
        if size:
            live.add(pointer)
            events.append((pointer, size))
        elif pointer in live:
            live.remove(pointer)
            events.append((pointer, 0))
    return events


def torch_compare(arguments, folder):
    python, recorder = shutil.which(arguments.torch[0]), os.path.abspath(arguments.torch[1])
    names = subprocess.run([python, TORCH], check=True, capture_output=True, text=True)
    for name in names.stdout.split():
        if arguments.only and name not in arguments.only:
            continue
        host, path = os.path.join(folder, "host.csv"), os.path.join(folder, "trace.csv")
        recorded([python, TORCH, name], recorder, host, HOST_TRACE_OF="libc10.")
        events, scale = tensors(host), 1
        most = max_live(events)
        while most * scale < GIB:
            scale *= 2
        events = [(pointer, size * scale) for pointer, size in events]
        write(path, events)
        compare(arguments, f"{name} (PyTorch's tensors on the host, x {scale})", path, events,
                folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("berth")
    parser.add_argument("traces", nargs="*")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--effort", type=float, default=10)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--generated", action="store_true")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--losses", action="store_true")
    parser.add_argument("--disturb", type=int, action="append", metavar="SEED")
    parser.add_argument("--segments", choices=("own", "shared", "expandable"), default="shared")
    parser.add_argument("--infer", nargs=2, metavar=("BERTH-INFER", "RECORDER"))
    parser.add_argument("--torch", nargs=2, metavar=("PYTHON", "RECORDER"))
    parser.add_argument("--only", action="append", metavar="NAME")
    arguments = parser.parse_intermixed_args()
    if arguments.keep and arguments.losses:
        parser.error("--losses is of runs that end: expected it without --keep")
    if arguments.keep and arguments.disturb:
        parser.error("--disturb is of runs that end: expected it without --keep")
    arguments.disturbed = Disturbed()
    arguments.goals = Goals()
    print("reserved over max-live, and driver calls; berth on the virtual driver, all else is "
          "simulated here")
    with tempfile.TemporaryDirectory() as folder:
        for trace in arguments.traces:
            events = read(trace, arguments.scale)
            path = os.path.join(folder, "trace.csv") if arguments.scale > 1 else trace
            if arguments.scale > 1:
                write(path, events)
            name = os.path.basename(trace)
            compare(arguments, name + (f" x {arguments.scale}" if arguments.scale > 1 else ""),
                    path, events, folder)
        if arguments.infer:
            infer_compare(arguments, folder)
        if arguments.torch:
            torch_compare(arguments, folder)
        for generate in (GENERATED + HELD_OUT if arguments.generated or not (
                arguments.traces or arguments.infer or arguments.torch) else []):
            path = os.path.join(folder, "trace.csv")
            events = generate() if arguments.seed is None else generate(arguments.seed)
            write(path, events)
            compare(arguments, generate.__name__ + " (generated)", path, events, folder)
    arguments.disturbed.show()
    arguments.goals.show()


if __name__ == "__main__":
    main()
