/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/shadow.h"

#include "alloc/types.h"
#include "hooks/elf_table.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

/* What the C library calls by these very names, or a program brings with its own heap. */
static const char *const of_the_heap[] = {
    "malloc",   "calloc",        "realloc",        "free",
    "memalign", "aligned_alloc", "posix_memalign", "malloc_usable_size"};
/* What a program in C++ replaces: the other forms of an operator then mean the program's. */
static const char *const of_operators[] = {"_Znwm",
                                           "_Znam",
                                           "_ZdlPv",
                                           "_ZdaPv",
                                           "_ZnwmSt11align_val_t",
                                           "_ZnamSt11align_val_t",
                                           "_ZdlPvSt11align_val_t",
                                           "_ZdaPvSt11align_val_t"};
/* One of them is in every runtime of a sanitizer. */
static const char *const of_sanitizers[] = {"__sanitizer_set_death_callback",
                                            "__sanitizer_print_stack_trace"};
/*
 * What Berth and jemalloc call amid their work. A preloaded library may allocate where it is called
 * for one of these the first time (libfaketime), which is as the heap begins, under its locks; and
 * the time that it tells a program is none for the kernel's waits.
 */
static const char *const of_work[] = {
    "clock_gettime",          "clock_nanosleep",        "nanosleep",
    "pthread_cond_broadcast", "pthread_cond_clockwait", "pthread_cond_destroy",
    "pthread_cond_init",      "pthread_cond_signal",    "pthread_cond_timedwait",
    "pthread_cond_wait",      "pthread_mutex_destroy",  "pthread_mutex_init",
    "pthread_mutex_lock",     "pthread_mutex_trylock",  "pthread_mutex_unlock"};

struct shadow {
    const struct link_map *program;
    const struct link_map *libc; /* whose of_work are to be called; or NULL */
    struct berth_elf elf;        /* the program's */
    struct berth_elf library;    /* whose imports are looked at */
    bool is_relocated;           /* and its slots may be read-only */
    bool is_private;             /* what it exports is for nobody but itself */
};

/* No loop here may become a call of the C library's: its names are not bound yet. */
static bool is_equal(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static bool is_of_the_heap(const char *name)
{
    for (size_t i = 0; i < sizeof(of_the_heap) / sizeof(of_the_heap[0]); i++)
        if (is_equal(name, of_the_heap[i]))
            return true;
    return false;
}

static bool is_operator(const char *name)
{
    for (size_t i = 0; i < sizeof(of_operators) / sizeof(of_operators[0]); i++)
        if (is_equal(name, of_operators[i]))
            return true;
    return false;
}

static bool is_of_work(const char *name)
{
    for (size_t i = 0; i < sizeof(of_work) / sizeof(of_work[0]); i++)
        if (is_equal(name, of_work[i]))
            return true;
    return false;
}

/* Where the function is; in place of some the loader has a choice, which is made by calling them.
 */
static uintptr_t address_of(const struct berth_elf *elf, const ElfW(Sym) * symbol)
{
    uintptr_t address = elf->base + symbol->st_value;

    if (ELF64_ST_TYPE(symbol->st_info) != STT_GNU_IFUNC)
        return address;
#ifdef __x86_64__
    return ((uintptr_t(*)(void))address)();
#else
    return 0; /* what its resolver is told differs from one machine to the next */
#endif
}

/* What the loader would find, were `first` the first of all that it has loaded before, in order. */
static uintptr_t find_from(const struct link_map *first, const char *name, const char *version)
{
    for (const struct link_map *map = first; map; map = map->l_next) {
        const ElfW(Sym) * symbol;
        struct berth_elf elf;

        if (!berth__elf_read_map(map, &elf))
            continue;
        symbol = berth__elf_find_version(&elf, name, version);
        if (symbol)
            return address_of(&elf, symbol);
    }
    return 0;
}

static bool make_writable(uintptr_t slot)
{
    uintptr_t page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t page = slot & ~(page_size - 1);

    return mprotect((void *)page, page_size, PROT_READ | PROT_WRITE) == 0;
}

/* Whether the program has a say in what the relocation binds, and does not know. */
static bool is_shadowed(const struct shadow *shadow, const ElfW(Sym) * symbol)
{
    const char *name = shadow->library.strings + symbol->st_name;

    return ELF64_ST_TYPE(symbol->st_info) != STT_TLS &&
           ELF64_ST_TYPE(symbol->st_info) != STT_OBJECT && berth__elf_defines(&shadow->elf, name) &&
           !is_of_the_heap(name) && !is_operator(name);
}

static void lift_one(const struct shadow *shadow, const ElfW(Rela) * relocation)
{
    const struct berth_elf *library = &shadow->library;
    const ElfW(Sym) *symbol = &library->symbols[ELF64_R_SYM(relocation->r_info)];
    const char *name = library->strings + symbol->st_name;
    bool is_work = shadow->libc && symbol->st_shndx == SHN_UNDEF && is_of_work(name);
    uintptr_t slot = library->base + relocation->r_offset;
    uintptr_t address;

    if (ELF64_R_SYM(relocation->r_info) == 0 || (!is_work && !is_shadowed(shadow, symbol)))
        return;
    /* What the preload libraries export may be meant for each other; nobody else's is. */
    if (symbol->st_shndx != SHN_UNDEF && shadow->is_private)
        address = address_of(library, symbol);
    else
        address = find_from(is_work ? shadow->libc : shadow->program->l_next, name,
                            berth__elf_wanted_version(library, symbol));
    if (address == 0 || (shadow->is_relocated && !make_writable(slot)))
        return;
    __atomic_store_n((uintptr_t *)slot, address + (uintptr_t)relocation->r_addend,
                     __ATOMIC_RELEASE);
}

static void lift(struct shadow *shadow, const struct link_map *library)
{
    const struct berth_elf *elf = &shadow->library;

    if (!berth__elf_read_map(library, &shadow->library))
        return;
    for (size_t i = elf->relative_count; i < elf->relocation_count; i++)
        lift_one(shadow, &elf->relocations[i]);
    for (size_t i = 0; i < elf->jump_count; i++)
        lift_one(shadow, &elf->jumps[i]);
}

/* The first in the loader's list; false where nothing is to be done. */
static bool find_program(struct shadow *ret)
{
    ret->program = berth__elf_first_map();
    if (!ret->program || !berth__elf_read_map(ret->program, &ret->elf))
        return false;
    for (size_t i = 0; i < sizeof(of_sanitizers) / sizeof(of_sanitizers[0]); i++)
        if (berth__elf_defines(&ret->elf, of_sanitizers[i]))
            return false;
    return true;
}

/* NULL also where a sanitizer's runtime is a library: it must see whoever waits. */
static const struct link_map *find_libc(const struct shadow *shadow)
{
    const struct link_map *found = NULL;
    struct berth_elf elf;

    for (const struct link_map *map = shadow->program->l_next; map; map = map->l_next) {
        if (!berth__elf_read_map(map, &elf))
            continue;
        if (berth__elf_defines(&elf, of_sanitizers[1]))
            return NULL;
        if (!found && berth__elf_defines(&elf, "gnu_get_libc_version"))
            found = map;
    }
    return found;
}

void berth__shadow_lift(void *library)
{
    int saved_errno = errno;
    struct link_map *map;
    struct shadow shadow;

    shadow.is_relocated = true;
    shadow.is_private = true;
    shadow.libc = NULL;
    if (find_program(&shadow) && dlinfo(library, RTLD_DI_LINKMAP, &map) == 0)
        lift(&shadow, map);
    errno = saved_errno;
}

static void lift_own(bool is_relocated)
{
    const struct link_map *map;
    struct shadow shadow;

    shadow.is_relocated = is_relocated;
    shadow.is_private = false;
    if (!find_program(&shadow))
        return;
    shadow.libc = find_libc(&shadow);
    for (map = shadow.program; map; map = map->l_next)
        if (map->l_addr == (ElfW(Addr))__ehdr_start)
            lift(&shadow, map);
}

#ifdef __x86_64__
static void do_nothing(void)
{
}

/*
 * The loader leaves resolvers for last, and what it has relocated is writable until then: nothing
 * of this library has run, and nothing need be asked of the kernel.
 */
__attribute__((used)) static void (*look_for_shadows(void))(void)
{
    lift_own(false);
    return do_nothing;
}

/* Not static, as that of hooks/sanitizer.c. */
void shadows_resolved(void) __attribute__((ifunc("look_for_shadows"), visibility("hidden")));
__attribute__((used)) static void (*const relocated)(void) = shadows_resolved;
#else
__attribute__((constructor(101))) static void begin(void)
{
    lift_own(true);
}
#endif
