/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/user_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

/* A line of the map is three numbers: `count` users from `inside` on are those from `outside` on.
 */
enum field { INSIDE, OUTSIDE, COUNT, FIELDS };

struct line {
    uint64_t number[FIELDS];
    unsigned field;
    bool is_in_number;
};

static bool line_has(const struct line *line, uid_t uid)
{
    return line->field == FIELDS && uid >= line->number[INSIDE] &&
           uid - line->number[INSIDE] < line->number[COUNT];
}

/* Takes the next character. True: it ends a line that has `uid`. */
static bool line_take(struct line *line, char c, uid_t uid)
{
    bool ends_with_uid;

    if (c >= '0' && c <= '9' && line->field < FIELDS) {
        line->number[line->field] = line->number[line->field] * 10 + (uint64_t)(c - '0');
        line->is_in_number = true;
        return false;
    }
    line->field += line->is_in_number;
    line->is_in_number = false;
    if (c != '\n')
        return false;
    ends_with_uid = line_has(line, uid);
    if (!ends_with_uid)
        *line = (struct line){.field = INSIDE};
    return ends_with_uid;
}

uid_t berth__user_map_outside(int fd, uid_t uid)
{
    struct line line = {.field = INSIDE};
    char text[256];
    ssize_t n;

    while ((n = read(fd, text, sizeof(text))) > 0 || (n < 0 && errno == EINTR))
        for (ssize_t i = 0; i < n; i++)
            if (line_take(&line, text[i], uid))
                return (uid_t)(line.number[OUTSIDE] + (uid - line.number[INSIDE]));
    return uid;
}

uid_t berth__user_map_outer(uid_t uid)
{
    int fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC);
    uid_t outer = uid;

    if (fd < 0)
        return uid;
    outer = berth__user_map_outside(fd, uid);
    close(fd);
    return outer;
}
