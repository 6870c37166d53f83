#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes one object of jemalloc's position-independent archive, to be linked into
# libberth-malloc.so: its C++ part is left out (it would need libstdc++), its public names get the
# prefix berth_je_, and everything else becomes local.
#
# malloc_conf, malloc_conf_2_conf_harder and malloc_message keep their names: they are variables
# that a program may define, and must then be the ones that jemalloc reads.
#
# Calls that jemalloc makes to the outside and that Berth must see are renamed too:
#   pthread_atfork  Berth's own fork handlers have to run inside jemalloc's (pmem/fork.c);
#   pthread_mutex_lock, pthread_mutex_trylock, pthread_mutex_unlock
#                   a fork may find its own thread's locks held (pmem/fork_lock.c);
#   pthread_key_create
#                   the end of a thread has to wait for its other destructors (pmem/arena.c);
#   madvise, munmap, mprotect
#                   may fail while a block is freed, and free() keeps errno (pmem/keep_errno.c);
#   mmap            must be refused what the C library's is (pmem/overcommit.c).
#
# Of its inside, where the archive has them, are named: the table berth_je_size_classes
# (pmem/plain.c); the options berth_je_opt_retain (pmem/overcommit.c) and berth_je_opt_fit
# (pmem/arena_control.c); the table of its arenas, and how many there are (pmem/fork_lock.c); the
# functions by which a thread begins, comes by an arena and by a cache, which its other objects call
# by way of pmem/spare.c; and what a thread does now and then about its cache, which passes
# pmem/tend.c.
#
# usage: embed_jemalloc.sh AR LD OBJCOPY ARCHIVE OUTPUT
set -eu
ar=$1 ld=$2 objcopy=$3 archive=$4 output=$5
case $archive in /*) ;; *) archive=$PWD/$archive ;; esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

public="calloc dallocx free mallctl mallctlbymib mallctlnametomib malloc malloc_stats_print
    malloc_usable_size mallocx memalign nallocx rallocx realloc sallocx sdallocx xallocx"
# Public too, but Berth makes them of the others.
unused="aligned_alloc posix_memalign valloc"
seen="pthread_atfork pthread_mutex_lock pthread_mutex_trylock pthread_mutex_unlock
    pthread_key_create madvise munmap mprotect mmap"
inside="je_sz_size2index_tab berth_je_size_classes
je_opt_retain berth_je_opt_retain
je_opt_lg_extent_max_active_fit berth_je_opt_fit
je_arenas berth_je_arenas
je_narenas_total_get berth_je_narenas_total_get
je_arena_palloc berth_je_arena_palloc
je_tsd_fetch_slow berth_je_tsd_fetch_slow
je_tcache_gc_event_handler berth_je_tcache_gc_event_handler"
begin="je_tsd_fetch_slow berth_je_tsd_fetch"
choose="je_arena_choose_hard berth_je_arena_choose"
kept="malloc_conf malloc_conf_2_conf_harder malloc_message"

for name in $public; do
    echo "$name berth_je_$name" >>"$work/rename"
    echo "berth_je_$name" >>"$work/keep"
done
for name in $seen $unused; do
    echo "$name berth_je_$name" >>"$work/rename"
done
echo "$inside" >>"$work/rename"
echo "$inside" | cut -d ' ' -f 2 >>"$work/keep"
# The object that has it calls it too: there its name becomes weak, and its code has another.
echo "$choose" >>"$work/rename"
echo "${choose#* }" >>"$work/keep"
echo "${choose#* }_hard" >>"$work/keep"
for name in $kept; do
    echo "$name" >>"$work/keep"
done

mkdir "$work/o"
(cd "$work/o" && "$ar" x "$archive" && rm -f jemalloc_cpp.*)
for object in "$work"/o/*.o; do
    case ${object##*/} in
    tsd.*) ;;
    *) "$objcopy" --redefine-sym "${begin% *}=${begin#* }" "$object" ;;
    esac
done
# Where malloc() and free() begin in a line of the processor's cache is otherwise a matter of what is
# linked before them: a program that does little else was seen to take 1.03 to 1.06 of jemalloc's time.
for object in "$work"/o/jemalloc.*o; do
    "$objcopy" --set-section-alignment .text=64 "$object"
done
for object in "$work"/o/tcache.*o; do
    if [ -f "$object" ]; then
        "$objcopy" --redefine-sym je_arena_palloc=berth_je_cache_palloc "$object"
    fi
done
for object in "$work"/o/thread_event.*o; do
    if [ -f "$object" ]; then
        "$objcopy" --redefine-sym je_tcache_gc_event_handler=berth_je_gc_event "$object"
    fi
done
"$ld" -r --defsym="${choose#* }_hard=${choose% *}" -o "$work/whole.o" "$work"/o/*.o
"$objcopy" --redefine-syms="$work/rename" "$work/whole.o" "$work/renamed.o"
"$objcopy" --keep-global-symbols="$work/keep" --weaken-symbol="${choose#* }" \
    "$work/renamed.o" "$output"
