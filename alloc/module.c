/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/module.h"

#include "alloc/module_file.h"
#include "alloc/module_identity.h"
#include "alloc/module_lock.h"
#include "alloc/module_symbols.h"
#include "alloc/module_walk.h"
#include "alloc/sandbox.h"
#include "alloc/site_store.h"
#include "alloc/site_trie.h"

#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#define ABSENT_KEPT 8

/* A module as it was when an address in it was first named. Kept for ever; only atomics change. */
struct berth_module {
    struct berth_module *next; /* older; written before the module is published */
    const char *name;
    const char *path; /* as the loader has it */
    uintptr_t base;   /* what the loader added to the file's addresses */
    uintptr_t start, end;
    uint64_t build;                                 /* hash of its build id, or 0 */
    uint64_t identity;                              /* the same, or of what it looks like */
    _Atomic(struct berth_module_symbols *) symbols; /* NULL until ordered */
    _Atomic(struct berth_module_file *) file;       /* NULL until looked for; NO_FILE: none */
    _Atomic uint64_t seen;                          /* number of the last pass that met it */
    _Atomic bool gone;
    uint16_t number; /* for those who keep many; 0 = all were given out */
    /* Hashes of names that none of its functions has: patterns ask for the same again and again. */
    _Atomic uint64_t absent[ABSENT_KEPT];
    _Atomic bool has_tables; /* the next is read; under the lock of the loader's list */
    struct berth_module_tables tables;
};

/* Modules beyond so many are not told apart once they are closed. */
#define MODULE_NUMBERS ((unsigned)1 << 16)

/* The file of the module cannot be had, or names no functions. */
#define NO_FILE ((struct berth_module_file *)1)

/* A named address: what the trie keeps. */
struct named {
    struct berth_site_entry entry; /* first: the trie's view */
    uintptr_t address;
    struct berth_module_frame frame;
};

/* Zero-initialised: an allocation may be traced before any constructor of Berth's has run. */
struct module_registry {
    _Atomic(struct berth_module *) modules;
    _Atomic uint64_t passes;
    /* The list's state when the modules were last compared with the loader's list. */
    _Atomic uint64_t changes;
    _Atomic uint64_t gone;
    struct berth_site_trie named;
    _Atomic unsigned numbers; /* given out */
    _Atomic(struct berth_module *) by_number[MODULE_NUMBERS];
    _Atomic(const char *) program; /* its name, once it is known */
};

extern BERTH_SHARED struct module_registry berth__module_registry;
struct module_registry berth__module_registry;
#define registry (&berth__module_registry)

/* So many modules' symbols are ordered after one pass. A pass lies on the stack: it may be small.
 */
#define WAITING_MAX 16

/* One walk over the loader's list. */
struct pass {
    const void *const *addresses;
    unsigned count;
    const struct berth_module_frame **ret; /* NULL where not named yet */
    uint64_t number;                       /* 0 before the first module */
    uint64_t changes;
    bool compare;      /* something was opened or closed: every module must be met */
    bool cautious;     /* modules on the list may be unmapped already */
    bool no_symbols;   /* the modules are to be known, and nothing is to be named */
    uint16_t *numbers; /* of the modules, by address; NULL: they are not asked for */
    bool no_memory;
    unsigned waiting_count; /* modules whose symbols were collected, to be ordered */
    struct berth_module *waiting[WAITING_MAX];
    struct berth_module_symbols *collected[WAITING_MAX];
    /* By address: the module that may name it by its file, once no lock is held. */
    struct berth_module *by_file[BERTH_SITE_FRAMES_MAX];
};

/* What the callback knows of the module that it was called for. */
struct loaded {
    const struct dl_phdr_info *info;
    uintptr_t start, end;
    bool first; /* the program itself */
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* The program has no name in the loader's list: its file's, or the one that it was started by. */
static const char *find_program_name(void)
{
    static const char deleted[] = " (deleted)";
    /* Not on the stack, which may be a small thread's. It becomes the name. */
    const size_t room = 4096;
    char *path = berth__site_store_alloc(room);
    ssize_t n = path && !berth__sandbox_is_on() ? readlink("/proc/self/exe", path, room - 1) : 0;
    const char *started = (const char *)getauxval(AT_EXECFN);

    if (n <= 0)
        return started && *base_name(started) ? base_name(started) : "?";
    if ((size_t)n > sizeof(deleted) && strcmp(path + n - sizeof(deleted) + 1, deleted) == 0)
        path[n - (ssize_t)sizeof(deleted) + 1] = '\0';
    return base_name(path);
}

static const char *program_name(void)
{
    const char *name = atomic_load_explicit(&registry->program, memory_order_acquire);

    if (!name) {
        name = find_program_name();
        atomic_store_explicit(&registry->program, name, memory_order_release);
    }
    return name;
}

void berth__module_know_program(void)
{
    int saved_errno = errno;

    program_name();
    errno = saved_errno;
}

static const char *module_path(const struct loaded *loaded)
{
    return loaded->info->dlpi_name ? loaded->info->dlpi_name : "";
}

static const char *module_name(const struct loaded *loaded)
{
    const char *name = base_name(module_path(loaded));

    if (*name)
        return berth__site_store_text(name, strlen(name));
    if (loaded->start == getauxval(AT_SYSINFO_EHDR))
        return "[vdso]";
    return loaded->first ? program_name() : "?";
}

static uint64_t build_id(const struct loaded *loaded)
{
    return berth__module_identity_build(loaded->info, loaded->start, loaded->end);
}

static uint64_t identity_of(const struct loaded *loaded, uint64_t build)
{
    return berth__module_identity(loaded->info, loaded->start, loaded->end, build);
}

/* The module that this is. One that was gone is back, and its names are right again. */
static struct berth_module *module_find(const struct loaded *loaded, uint64_t build)
{
    uint64_t identity = identity_of(loaded, build);
    struct berth_module *m = atomic_load_explicit(&registry->modules, memory_order_acquire);

    for (; m; m = m->next) {
        if (m->start != loaded->start || m->end != loaded->end || m->identity != identity ||
            strcmp(m->path, module_path(loaded)) != 0)
            continue;
        atomic_store_explicit(&m->gone, false, memory_order_relaxed);
        return m;
    }
    return NULL;
}

/* A module of the same file at another address: it has the same names, and the same symbols. */
static const struct berth_module *module_twin(const struct loaded *loaded, uint64_t build)
{
    const struct berth_module *m = atomic_load_explicit(&registry->modules, memory_order_acquire);

    while (m && (m->build != build || strcmp(m->path, module_path(loaded)) != 0))
        m = m->next;
    return build != 0 ? m : NULL;
}

/* Gives it a number; one that another thread makes of the same module at once has its own. */
static void module_count(struct berth_module *m)
{
    unsigned number = atomic_load_explicit(&registry->numbers, memory_order_relaxed);

    do {
        if (number + 1 >= MODULE_NUMBERS)
            return;
    } while (!atomic_compare_exchange_weak_explicit(&registry->numbers, &number, number + 1,
                                                    memory_order_relaxed, memory_order_relaxed));
    m->number = (uint16_t)(number + 1);
    atomic_store_explicit(&registry->by_number[m->number], m, memory_order_release);
}

static struct berth_module *module_new(const struct loaded *loaded, uint64_t build)
{
    const struct berth_module *twin = module_twin(loaded, build);
    const char *path = module_path(loaded);
    struct berth_module *m = berth__site_store_alloc(sizeof(*m));

    if (!m)
        return NULL;
    m->name = twin ? twin->name : module_name(loaded);
    m->path = twin ? twin->path : berth__site_store_text(path, strlen(path));
    if (twin)
        atomic_init(&m->file, atomic_load_explicit(&twin->file, memory_order_acquire));
    if (twin)
        atomic_init(&m->symbols, atomic_load_explicit(&twin->symbols, memory_order_acquire));
    m->base = (uintptr_t)loaded->info->dlpi_addr;
    m->start = loaded->start;
    m->end = loaded->end;
    m->build = build;
    m->identity = identity_of(loaded, build);
    if (!m->name || !m->path)
        return NULL;
    module_count(m);
    m->next = atomic_load_explicit(&registry->modules, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&registry->modules, &m->next, m,
                                                  memory_order_release, memory_order_relaxed))
        ;
    return m;
}

static void module_saw(struct berth_module *m, uint64_t pass)
{
    uint64_t seen = atomic_load_explicit(&m->seen, memory_order_relaxed);

    while (seen < pass && !atomic_compare_exchange_weak_explicit(
                              &m->seen, &seen, pass, memory_order_relaxed, memory_order_relaxed))
        ;
}

static uint64_t hash_address(uintptr_t address)
{
    uint64_t hash = (uint64_t)address * 0x9e3779b97f4a7c15u;

    return hash ^ hash >> 32;
}

static bool named_is_same(const struct berth_site_entry *a, const struct berth_site_entry *b)
{
    const struct named *x = (const struct named *)a;
    const struct named *y = (const struct named *)b;

    return x->address == y->address && x->frame.module == y->frame.module;
}

/* The name that an address has already, in a module that is still there. */
static const struct berth_module_frame *named_find(uintptr_t address)
{
    const struct berth_site_entry *e =
        berth__site_trie_find(&registry->named, hash_address(address));

    for (; e; e = atomic_load_explicit(&e->next, memory_order_acquire)) {
        const struct named *n = (const struct named *)e;

        if (n->address == address && n->frame.module &&
            !atomic_load_explicit(&n->frame.module->gone, memory_order_relaxed))
            return &n->frame;
    }
    return NULL;
}

static const struct berth_module_frame *named_add(uintptr_t address,
                                                  struct berth_module_frame frame)
{
    struct named *n = berth__site_store_alloc(sizeof(*n));
    struct berth_site_entry *kept;

    if (!n)
        return NULL;
    n->entry.hash = hash_address(address);
    n->address = address;
    n->frame = frame;
    kept = berth__site_trie_add(&registry->named, &n->entry, named_is_same);
    return kept ? &((struct named *)kept)->frame : NULL;
}

/* Keeps the name of an address of the module; `symbol`, which begins at `start`, may be NULL. */
static const struct berth_module_frame *keep_name(const struct berth_module *m, uintptr_t address,
                                                  const char *symbol, uint64_t start)
{
    struct berth_module_frame frame = {
        .name = {.module = m->name,
                 .symbol = symbol,
                 .offset = symbol ? address - m->base - start : address - m->start,
                 .path = m->path,
                 .address = address - m->base,
                 .build = m->build},
        .module = m,
    };

    return named_add(address, frame);
}

/* The file's functions, looked for once; NULL where there are none. */
static struct berth_module_file *module_file(struct berth_module *m)
{
    struct berth_module_file *file = atomic_load_explicit(&m->file, memory_order_acquire);
    struct berth_module_file *found;

    if (!file) {
        found = berth__module_file_read(m->path, m->build);
        /* Two threads may both read it: the first stays. */
        if (!atomic_compare_exchange_strong_explicit(&m->file, &file, found ? found : NO_FILE,
                                                     memory_order_acq_rel, memory_order_acquire)) {
            if (found)
                berth__module_file_free(found);
        } else {
            file = found ? found : NO_FILE;
        }
    }
    return file == NO_FILE ? NULL : file;
}

/* Names what the dynamic symbol tables did not, by the modules' files. Without any lock. */
static void pass_name_by_file(struct pass *pass)
{
    for (unsigned i = 0; i < pass->count; i++) {
        struct berth_module *m = pass->by_file[i];
        uintptr_t address = (uintptr_t)pass->addresses[i];
        struct berth_module_file *file;
        const char *symbol = NULL;
        uint64_t start = 0;

        pass->by_file[i] = NULL;
        if (!m || pass->ret[i])
            continue;
        file = module_file(m);
        if (file)
            symbol = berth__module_file_name(file, address - 1 - m->base, &start);
        pass->ret[i] = keep_name(m, address, symbol, start);
        pass->no_memory |= !pass->ret[i];
    }
}

/* Names one address of a module whose symbols are ordered; false: by its file, perhaps. */
static bool pass_name_one(struct pass *pass, unsigned index, struct berth_module *m,
                          struct berth_module_symbols *symbols,
                          const struct berth_module_tables *tables)
{
    uintptr_t address = (uintptr_t)pass->addresses[index];
    uint64_t start = 0;
    const char *symbol = berth__module_symbols_name(symbols, tables, address - 1 - m->base, &start);

    if (!symbol && atomic_load_explicit(&m->file, memory_order_acquire) != NO_FILE)
        return false;
    pass->ret[index] = keep_name(m, address, symbol, start);
    pass->no_memory |= !pass->ret[index];
    return true;
}

/* The tables, which take a while to find and are the same as long as the module is loaded. */
static const struct berth_module_tables *module_tables(struct berth_module *m,
                                                       const struct loaded *loaded)
{
    if (!atomic_load_explicit(&m->has_tables, memory_order_acquire)) {
        berth__module_tables_read(loaded->info, loaded->start, loaded->end, &m->tables);
        atomic_store_explicit(&m->has_tables, true, memory_order_release);
    }
    return &m->tables;
}

/* Names what lies in this module, or collects its symbols, which are to be ordered first. */
static void pass_name(struct pass *pass, const struct loaded *loaded, struct berth_module *m)
{
    struct berth_module_symbols *symbols = atomic_load_explicit(&m->symbols, memory_order_acquire);
    const struct berth_module_tables *tables = module_tables(m, loaded);

    if (!symbols) {
        if (pass->waiting_count == WAITING_MAX)
            return; /* the next pass comes here again */
        symbols = berth__module_symbols_collect(tables);
        pass->no_memory |= !symbols;
        if (symbols) {
            pass->waiting[pass->waiting_count] = m;
            pass->collected[pass->waiting_count++] = symbols;
        }
        return;
    }
    for (unsigned i = 0; i < pass->count; i++) {
        uintptr_t address = (uintptr_t)pass->addresses[i];

        if (pass->ret[i] || address - 1 < loaded->start || address - 1 >= loaded->end)
            continue;
        if (!pass_name_one(pass, i, m, symbols, tables))
            pass->by_file[i] = m;
    }
}

/* The module, of those that are known, that an address returns to. */
static struct berth_module *module_at(uintptr_t address)
{
    struct berth_module *m = atomic_load_explicit(&registry->modules, memory_order_acquire);

    while (m && (address - 1 < m->start || address - 1 >= m->end ||
                 atomic_load_explicit(&m->gone, memory_order_relaxed)))
        m = m->next;
    return m;
}

/* Numbers or names one address of a known module; false where its symbols are not read yet. */
static bool pass_take(struct pass *pass, unsigned index, struct berth_module *m)
{
    struct berth_module_symbols *symbols;

    if (pass->numbers) {
        pass->numbers[index] = m->number;
        return true;
    }
    symbols = atomic_load_explicit(&m->symbols, memory_order_acquire);
    if (!symbols || !atomic_load_explicit(&m->has_tables, memory_order_acquire))
        return false;
    if (!pass_name_one(pass, index, m, symbols, &m->tables))
        pass->by_file[index] = m;
    return true;
}

/*
 * Whether what is known answers for every address, which it does as long as nothing was opened or
 * closed: one look at the list, and not at each of its modules. Under the lock of the list, where
 * names can be read.
 */
static bool pass_take_known(struct pass *pass)
{
    bool all = !pass->compare && !pass->cautious && !pass->no_symbols;

    for (unsigned i = 0; i < pass->count && all; i++) {
        struct berth_module *m = pass->ret[i] ? NULL : module_at((uintptr_t)pass->addresses[i]);

        if (!pass->ret[i])
            all = m && pass_take(pass, i, m);
    }
    return all;
}

static bool pass_wants(const struct pass *pass, const struct loaded *loaded)
{
    for (unsigned i = 0; i < pass->count; i++) {
        uintptr_t at = (uintptr_t)pass->addresses[i] - 1;

        if (!pass->ret[i] && at >= loaded->start && at < loaded->end)
            return true;
    }
    return false;
}

/* Tells which addresses lie in this module. */
static void pass_number(const struct pass *pass, const struct loaded *loaded,
                        const struct berth_module *m)
{
    for (unsigned i = 0; i < pass->count; i++)
        if ((uintptr_t)pass->addresses[i] - 1 - loaded->start < loaded->end - loaded->start)
            pass->numbers[i] = m->number;
}

static void loaded_read(struct dl_phdr_info *info, struct loaded *ret)
{
    ret->info = info;
    ret->start = UINTPTR_MAX;
    ret->end = 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t at = (uintptr_t)(info->dlpi_addr + p->p_vaddr);

        if (p->p_type != PT_LOAD)
            continue;
        if (at < ret->start)
            ret->start = at;
        if (at + p->p_memsz > ret->end)
            ret->end = at + (uintptr_t)p->p_memsz;
    }
    /* A segment is mapped in whole OS pages; 4 KiB is the smallest there is. */
    if (ret->end != 0)
        ret->start &= ~(uintptr_t)0xfff;
}

/*
 * Whether the module's headers can be read. dlclose() unmaps a library before it takes it off the
 * list, under a lock that keeps out other threads, and no signal handlers of its own.
 */
static bool is_mapped(const struct dl_phdr_info *info)
{
    uintptr_t page = (uintptr_t)info->dlpi_phdr & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
    unsigned char residence;

    return mincore((void *)page, 1, &residence) == 0;
}

/* The pass takes its number under the lock of the list, so that passes are in order. */
static void pass_begin(struct pass *pass, const struct dl_phdr_info *info)
{
    pass->number = atomic_fetch_add_explicit(&registry->passes, 1, memory_order_relaxed) + 1;
    pass->changes = berth__module_list_state(info);
    pass->compare = pass->changes != atomic_load_explicit(&registry->changes, memory_order_relaxed);
}

/* dl_iterate_phdr()'s callback. */
static int pass_visit(struct dl_phdr_info *info, size_t size, void *context)
{
    struct pass *pass = context;
    struct loaded loaded = {.first = pass->number == 0};
    struct berth_module *m;
    uint64_t build;

    if (BERTH_UNLIKELY(pass->cautious) && !is_mapped(info))
        return 0;
    if (loaded.first) {
        pass_begin(pass, info);
        if (pass_take_known(pass))
            return 1;
    }
    loaded_read(info, &loaded);
    if (loaded.end == 0 || (!pass->compare && !pass_wants(pass, &loaded)))
        return 0;
    build = build_id(&loaded);
    m = module_find(&loaded, build);
    if (!m && pass_wants(pass, &loaded)) {
        m = module_new(&loaded, build);
        pass->no_memory |= !m;
    }
    if (!m)
        return 0;
    module_saw(m, pass->number);
    if (pass->numbers)
        pass_number(pass, &loaded, m);
    else if (!pass->no_symbols && pass_wants(pass, &loaded))
        pass_name(pass, &loaded, m);
    return 0;
}

/* Marks what this pass, which looked at every module, did not meet. */
static void pass_mark_gone(const struct pass *pass)
{
    struct berth_module *m = atomic_load_explicit(&registry->modules, memory_order_acquire);

    for (; m; m = m->next)
        if (atomic_load_explicit(&m->seen, memory_order_relaxed) < pass->number &&
            !atomic_exchange_explicit(&m->gone, true, memory_order_relaxed))
            atomic_fetch_add_explicit(&registry->gone, 1, memory_order_release);
    atomic_store_explicit(&registry->changes, pass->changes, memory_order_relaxed);
}

/* Outside the loader's lock: ordering a large module's symbols takes tens of milliseconds. */
static void pass_order(struct pass *pass)
{
    for (unsigned i = 0; i < pass->waiting_count; i++) {
        struct berth_module_symbols *none = NULL;

        berth__module_symbols_order(pass->collected[i]);
        if (!atomic_compare_exchange_strong_explicit(&pass->waiting[i]->symbols, &none,
                                                     pass->collected[i], memory_order_acq_rel,
                                                     memory_order_relaxed))
            berth__module_symbols_free(pass->collected[i]);
    }
}

/* One pass; whether another is needed, because symbols have been ordered since. */
static bool pass_run(struct pass *pass)
{
    pass->number = 0;
    pass->waiting_count = 0;
    pass->cautious = berth__module_lock_is_mine();
    /* In a sandbox the kernel cannot be asked what is mapped. */
    if ((pass->cautious && berth__sandbox_is_on()) || !berth__module_walk_begin())
        return false;
    dl_iterate_phdr(pass_visit, pass);
    berth__module_walk_end();
    if (pass->compare)
        pass_mark_gone(pass);
    pass_order(pass);
    pass_name_by_file(pass);
    return pass->waiting_count > 0 && !pass->no_memory;
}

int berth__module_name(const void *const *addresses, unsigned count,
                       const struct berth_module_frame **ret)
{
    struct pass pass = {.addresses = addresses, .count = count, .ret = ret};
    bool all = true;
    int saved_errno = errno;

    for (unsigned i = 0; i < count; i++) {
        ret[i] = named_find((uintptr_t)addresses[i]);
        all &= ret[i] != NULL;
    }
    while (!all && pass_run(&pass))
        ;
    for (unsigned i = 0; i < count && !pass.no_memory; i++) {
        struct berth_module_frame unknown = {
            .name = {.module = "?", .offset = (uintptr_t)addresses[i]}};

        if (!ret[i])
            ret[i] = named_add((uintptr_t)addresses[i], unknown);
        pass.no_memory |= !ret[i];
    }
    errno = saved_errno;
    return pass.no_memory ? -ENOMEM : 0;
}

const char *berth__module_name_at(const void *address)
{
    const struct berth_module *m = module_at((uintptr_t)address);
    const struct berth_module_frame *none = NULL;
    struct pass pass = {.addresses = &address, .count = 1, .ret = &none, .no_symbols = true};
    int saved_errno = errno;

    if (!m) {
        pass_run(&pass);
        m = module_at((uintptr_t)address);
    }
    errno = saved_errno;
    return m ? m->name : NULL;
}

void berth__module_refresh(void)
{
    struct pass pass = {.count = 0};
    int saved_errno = errno;

    pass_run(&pass);
    errno = saved_errno;
}

uint64_t berth__module_gone_count(void)
{
    return atomic_load_explicit(&registry->gone, memory_order_acquire);
}

/* The module of a number; NULL for 0. */
static struct berth_module *module_by_number(uint16_t number)
{
    return atomic_load_explicit(&registry->by_number[number], memory_order_acquire);
}

void berth__module_note(const void *const *addresses, unsigned count, uint16_t *ret)
{
    const struct berth_module_frame *none[BERTH_SITE_FRAMES_MAX] = {NULL};
    struct pass pass = {.addresses = addresses, .count = count, .ret = none, .numbers = ret};
    int saved_errno = errno;

    memset(ret, 0, count * sizeof(*ret));
    pass_run(&pass);
    errno = saved_errno;
}

bool berth__module_is_gone(uint16_t number)
{
    const struct berth_module *m = module_by_number(number);

    return m && atomic_load_explicit(&m->gone, memory_order_relaxed);
}

const char *berth__module_name_of(uint16_t number)
{
    const struct berth_module *m = module_by_number(number);

    return m ? m->name : NULL;
}

/* Whether its file names functions, or has not been read yet and may. */
static bool module_has_file(struct berth_module *m)
{
    struct berth_module_file *none = NULL;

    if (!atomic_load_explicit(&m->file, memory_order_acquire) &&
        !berth__module_file_exists(m->path, m->build))
        atomic_compare_exchange_strong(&m->file, &none, NO_FILE);
    return atomic_load_explicit(&m->file, memory_order_acquire) != NO_FILE;
}

/* A name that is looked for in one module's tables. */
struct search {
    struct berth_module *module;
    const char *symbol;
    size_t length;
    bool is_absent;
};

/* dl_iterate_phdr()'s callback: while the list is as it was, the module is there to be read. */
static int search_visit(struct dl_phdr_info *info, size_t size, void *context)
{
    struct search *search = context;
    struct berth_module *m = search->module;
    struct loaded loaded;

    if (berth__module_list_state(info) !=
            atomic_load_explicit(&registry->changes, memory_order_relaxed) ||
        atomic_load_explicit(&m->gone, memory_order_relaxed))
        return 1;
    loaded_read(info, &loaded);
    if (!atomic_load_explicit(&m->has_tables, memory_order_acquire) && loaded.start != m->start)
        return 0;
    search->is_absent =
        !berth__module_tables_may_have(module_tables(m, &loaded), search->symbol, search->length);
    return 1;
}

bool berth__module_may_have(uint16_t number, const char *symbol, size_t length)
{
    struct berth_module *m = module_by_number(number);
    struct search search = {m, symbol, length, false};
    uint64_t hash = berth__module_identity_hash(symbol, length);
    _Atomic uint64_t *kept;

    /* Once the symbols are ordered, to find a name takes no longer. */
    if (!m || atomic_load_explicit(&m->symbols, memory_order_acquire))
        return true;
    kept = &m->absent[hash % ABSENT_KEPT];
    if (atomic_load_explicit(kept, memory_order_relaxed) == hash)
        return false;
    if (module_has_file(m) || berth__module_lock_is_mine() || !berth__module_walk_begin())
        return true;
    dl_iterate_phdr(search_visit, &search);
    berth__module_walk_end();
    if (search.is_absent)
        atomic_store_explicit(kept, hash, memory_order_relaxed);
    return !search.is_absent;
}

const struct berth_module_frame *berth__module_name_in(uint16_t number, const void *address)
{
    struct berth_module *m = module_by_number(number);
    struct berth_module_file *file;
    const char *symbol = NULL;
    uint64_t start = 0;

    if (!m)
        return NULL;
    file = module_file(m);
    if (file)
        symbol = berth__module_file_name(file, (uintptr_t)address - 1 - m->base, &start);
    return keep_name(m, (uintptr_t)address, symbol, start);
}

bool berth__module_has_named(uint16_t number, const struct berth_module_frame *frame)
{
    return number == 0 || frame->module == module_by_number(number);
}
