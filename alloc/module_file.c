/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/module_file.h"

#include "alloc/build_hash.h"
#include "alloc/file_call.h"
#include "alloc/module_symbols.h"
#include "alloc/sandbox.h"
#include "alloc/site_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What is read at once, and the room for a name. */
#define CHUNK ((size_t)64 << 10)
#define NAME_ROOM ((size_t)4 << 10)
/* Of a build id's note; the linker writes 36 bytes at most. */
#define NOTE_ROOM 256
/* More sections or segments than this are no sane file's. */
#define HEADERS_MAX 65535

struct berth_module_file {
    const char *path;
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
    uint64_t strings, strings_size; /* where the table of strings is */
    struct berth_module_symbols *symbols;
};

/* An open file while it is being read. */
struct reading {
    int fd;
    struct stat st;
    ElfW(Ehdr) header;
    ElfW(Shdr) symbols, strings;
};

/* By system calls: the C library's functions are cancellation points, and malloc is none. */
static int open_to_read(const char *path)
{
    /* A pipe or device of that name must not hold the program up. */
    return (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

static void close_read(int fd)
{
    syscall(SYS_close, fd);
}

static bool read_at(int fd, void *to, size_t size, uint64_t offset)
{
    char *at = to;

    while (size > 0) {
        long n = syscall(SYS_pread64, fd, at, size, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return true;
}

static const char *file_path(const char *path)
{
    return *path ? path : "/proc/self/exe";
}

static int open_file(const char *path, struct stat *ret)
{
    int fd;

    /* The kernel's own module has a name without being a file. */
    if (berth__sandbox_is_on() || (*path && !strchr(path, '/')))
        return -1;
    fd = open_to_read(file_path(path));
    if (fd >= 0 && (berth__fstat(fd, ret) < 0 || !S_ISREG(ret->st_mode))) {
        close_read(fd);
        return -1;
    }
    return fd;
}

static bool read_header(struct reading *reading)
{
    ElfW(Ehdr) *header = &reading->header;

    return read_at(reading->fd, header, sizeof(*header), 0) &&
           memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
           header->e_ident[EI_CLASS] == (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) &&
           header->e_phentsize == sizeof(ElfW(Phdr)) && header->e_shentsize == sizeof(ElfW(Shdr));
}

/* The build id in the notes at `offset`, or 0. */
static uint64_t note_build(int fd, uint64_t offset, uint64_t size)
{
    while (size >= sizeof(ElfW(Nhdr))) {
        unsigned char data[NOTE_ROOM];
        ElfW(Nhdr) note;
        uint64_t name_size, data_size, whole;

        if (!read_at(fd, &note, sizeof(note), offset))
            return 0;
        name_size = ((uint64_t)note.n_namesz + 3) & ~(uint64_t)3;
        data_size = ((uint64_t)note.n_descsz + 3) & ~(uint64_t)3;
        whole = sizeof(note) + name_size + data_size;
        if (whole > size)
            return 0;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
            note.n_descsz <= NOTE_ROOM - 4 &&
            read_at(fd, data, 4 + note.n_descsz, offset + sizeof(note)) &&
            memcmp(data, "GNU", 4) == 0)
            return berth__build_hash(data + 4, note.n_descsz);
        offset += whole;
        size -= whole;
    }
    return 0;
}

static bool has_build(const struct reading *reading, uint64_t build)
{
    for (unsigned i = 0; i < reading->header.e_phnum; i++) {
        ElfW(Phdr) segment;

        if (!read_at(reading->fd, &segment, sizeof(segment),
                     reading->header.e_phoff + i * sizeof(segment)))
            return false;
        if (segment.p_type == PT_NOTE &&
            note_build(reading->fd, segment.p_offset, segment.p_filesz) == build)
            return true;
    }
    return false;
}

/* Whether [offset, offset + size) is in the file. */
static bool is_inside(const struct reading *reading, const ElfW(Shdr) * section)
{
    uint64_t end = (uint64_t)reading->st.st_size;

    return section->sh_offset <= end && section->sh_size <= end - section->sh_offset;
}

static bool find_symbols(struct reading *reading)
{
    const ElfW(Ehdr) *header = &reading->header;

    for (unsigned i = 0; i < header->e_shnum && i < HEADERS_MAX; i++) {
        ElfW(Shdr) section;

        if (!read_at(reading->fd, &section, sizeof(section), header->e_shoff + i * sizeof(section)))
            return false;
        if (section.sh_type != SHT_SYMTAB || section.sh_entsize != sizeof(ElfW(Sym)))
            continue;
        reading->symbols = section;
        return section.sh_link < header->e_shnum &&
               read_at(reading->fd, &reading->strings, sizeof(section),
                       header->e_shoff + section.sh_link * sizeof(section)) &&
               is_inside(reading, &reading->symbols) && is_inside(reading, &reading->strings);
    }
    return false;
}

static bool add_symbols(const struct reading *reading, struct berth_module_symbols *symbols)
{
    uint64_t left = reading->symbols.sh_size - reading->symbols.sh_size % sizeof(ElfW(Sym));
    uint64_t offset = reading->symbols.sh_offset;
    const size_t chunk = CHUNK - CHUNK % sizeof(ElfW(Sym));
    void *bytes = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool is_read = bytes != MAP_FAILED;

    while (is_read && left > 0) {
        size_t now = left < chunk ? (size_t)left : chunk;

        is_read = read_at(reading->fd, bytes, now, offset);
        if (is_read)
            berth__module_symbols_add(symbols, bytes, (uint32_t)(now / sizeof(ElfW(Sym))));
        offset += now;
        left -= now;
    }
    if (bytes != MAP_FAILED)
        munmap(bytes, CHUNK);
    return is_read;
}

/* The index of a file that was found right; NULL without memory. */
static struct berth_module_symbols *read_symbols(const struct reading *reading)
{
    uint64_t count = reading->symbols.sh_size / sizeof(ElfW(Sym));
    struct berth_module_symbols *symbols =
        count < UINT32_MAX ? berth__module_symbols_new((uint32_t)count) : NULL;

    if (symbols && !add_symbols(reading, symbols)) {
        berth__module_symbols_free(symbols);
        return NULL;
    }
    if (symbols)
        berth__module_symbols_order(symbols);
    return symbols;
}

static struct berth_module_file *file_new(const char *path, const struct reading *reading,
                                          struct berth_module_symbols *symbols)
{
    struct berth_module_file *file = berth__site_store_alloc(sizeof(*file));

    if (!file)
        return NULL;
    *file = (struct berth_module_file){
        .path = berth__site_store_text(path, strlen(path)),
        .device = reading->st.st_dev,
        .inode = reading->st.st_ino,
        .size = reading->st.st_size,
        .changed = reading->st.st_mtim,
        .strings = reading->strings.sh_offset,
        .strings_size = reading->strings.sh_size,
        .symbols = symbols,
    };
    return file->path ? file : NULL;
}

/* Whether the open file is the one that is meant; finds its symbol table then. */
static bool is_meant(struct reading *reading, const char *path, uint64_t build)
{
    return read_header(reading) && (build == 0 ? *path == '\0' : has_build(reading, build)) &&
           find_symbols(reading);
}

bool berth__module_file_exists(const char *path, uint64_t build)
{
    struct reading reading = {.fd = open_file(path, &reading.st)};
    bool exists = reading.fd >= 0 && is_meant(&reading, path, build);

    if (reading.fd >= 0)
        close_read(reading.fd);
    return exists;
}

struct berth_module_file *berth__module_file_read(const char *path, uint64_t build)
{
    struct reading reading = {.fd = open_file(path, &reading.st)};
    struct berth_module_symbols *symbols = NULL;
    struct berth_module_file *file = NULL;

    if (reading.fd < 0)
        return NULL;
    if (is_meant(&reading, path, build))
        symbols = read_symbols(&reading);
    close_read(reading.fd);
    if (symbols)
        file = file_new(path, &reading, symbols);
    if (symbols && !file)
        berth__module_symbols_free(symbols);
    return file;
}

void berth__module_file_free(struct berth_module_file *file)
{
    /* The structure itself stays: what it lies in is never taken back. */
    berth__module_symbols_free(file->symbols);
    file->symbols = NULL;
}

/* Names of one look-up: an open file, and room for two. */
struct names {
    int fd;
    const struct berth_module_file *file;
    char *room;
};

static const char *file_name(void *context, uint32_t name, int slot, size_t *ret_length)
{
    const struct names *names = context;
    char *to = names->room + (size_t)slot * NAME_ROOM;
    uint64_t left = name < names->file->strings_size ? names->file->strings_size - name : 0;
    size_t size = left < NAME_ROOM - 1 ? (size_t)left : NAME_ROOM - 1;

    *ret_length = 0;
    if (size > 0 && read_at(names->fd, to, size, names->file->strings + name))
        *ret_length = strnlen(to, size);
    to[*ret_length] = '\0';
    return to;
}

static bool is_same_file(const struct berth_module_file *file, const struct stat *st)
{
    return st->st_dev == file->device && st->st_ino == file->inode && st->st_size == file->size &&
           st->st_mtim.tv_sec == file->changed.tv_sec &&
           st->st_mtim.tv_nsec == file->changed.tv_nsec;
}

const char *berth__module_file_name(struct berth_module_file *file, uint64_t value,
                                    uint64_t *ret_start)
{
    struct names names = {.file = file};
    const char *name = NULL;
    struct stat st;

    names.fd = open_file(file->path, &st);
    if (names.fd < 0)
        return NULL;
    names.room =
        mmap(NULL, 2 * NAME_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (names.room != MAP_FAILED) {
        if (is_same_file(file, &st))
            name =
                berth__module_symbols_name_by(file->symbols, value, file_name, &names, ret_start);
        munmap(names.room, 2 * NAME_ROOM);
    }
    close_read(names.fd);
    return name;
}
