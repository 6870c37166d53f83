/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/sanitizer.h"

#ifdef __x86_64__

#include "hooks/early_call.h"
#include "hooks/elf_table.h"

#include <link.h>

static enum berth_anew_without without_of(const char *path)
{
    static const struct {
        char name[24];
        enum berth_anew_without without;
    } sanitizers[] = {
        {"libasan.so", BERTH_ANEW_WITHOUT_ALL},
        {"libhwasan.so", BERTH_ANEW_WITHOUT_ALL},
        {"libclang_rt.asan", BERTH_ANEW_WITHOUT_ALL},
        {"libclang_rt.hwasan", BERTH_ANEW_WITHOUT_ALL},
        {"libtsan.so", BERTH_ANEW_WITHOUT_MALLOC},
        {"liblsan.so", BERTH_ANEW_WITHOUT_MALLOC},
    };
    const char *name = berth__early_base(path);

    for (size_t i = 0; i < sizeof(sanitizers) / sizeof(sanitizers[0]); i++)
        if (berth__early_begins(name, sanitizers[i].name))
            return sanitizers[i].without;
    return BERTH_ANEW_AS_IT_IS;
}

/* The first that the loader has put behind this library, and that cannot have it; or NULL. */
static const char *find(enum berth_anew_without least, enum berth_anew_without *ret)
{
    const struct link_map *map = berth__elf_first_map();
    bool behind = false;

    for (; map; map = map->l_next) {
        enum berth_anew_without without =
            behind && map->l_name ? without_of(map->l_name) : BERTH_ANEW_AS_IT_IS;

        if (without >= least) {
            *ret = without;
            return map->l_name;
        }
        behind = behind || map->l_addr == (ElfW(Addr))__ehdr_start;
    }
    return NULL;
}

/* Whether the user has told AddressSanitizer to bear others before it. */
static bool bears_others(char *const *environment)
{
    for (; *environment; environment++)
        if (berth__early_begins(*environment, "ASAN_OPTIONS="))
            for (const char *s = *environment; *s; s++)
                if (berth__early_begins(s, "verify_asan_link_order=0"))
                    return true;
    return false;
}

void berth__sanitizer_evade(enum berth_anew_without least)
{
    enum berth_anew_without without = BERTH_ANEW_AS_IT_IS;
    const char *path = find(least, &without);
    struct berth_anew_start start;
    struct berth_anew_why why;

    if (!path || !berth__anew_ask(&start))
        return;
    if (without == BERTH_ANEW_WITHOUT_ALL && bears_others(start.envp))
        without = BERTH_ANEW_WITHOUT_MALLOC;
    if (without < least)
        return;
    why.before = "the program is built with ";
    why.name = berth__early_base(path);
    why.behind = without == BERTH_ANEW_WITHOUT_ALL ? ", which bears no library before it"
                                                   : ", whose malloc must be the only one";
    berth__anew_start(&start, without, &why);
}

#endif
