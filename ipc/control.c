/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/control.h"

#include "alloc/clock.h"
#include "alloc/file_call.h"
#include "alloc/fork_turn.h"
#include "alloc/log.h"
#include "alloc/options.h"
#include "alloc/pause.h"
#include "alloc/pool_tend.h"
#include "alloc/sandbox.h"
#include "alloc/stats.h"
#include "alloc/thread.h"
#include "ipc/descriptors.h"
#include "ipc/json.h"
#include "ipc/leftovers.h"
#include "ipc/operation.h"
#include "ipc/server.h"
#include "ipc/shared_tier.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * Note [Two threads]
 *
 * The socket must live in a program that may close every descriptor it can find, hand them to
 * children, or count them. So the thread that owns the socket leaves the process's table of
 * descriptors for one of its own (descriptors.h): the program cannot close, inherit or see the
 * socket, and Berth cannot mistake a descriptor of the program's for its own.
 *
 * But installing a table opens files for the program's threads to use, and a CUDA driver's calls
 * work on descriptors that the program's threads opened: that needs the process's table. So the
 * "berth-control" thread, which shares it, does what clients ask and owns no descriptor, and
 * "berth-socket" moves bytes. They pass one exchange at a time.
 */

enum control_state {
    STATE_IDLE = 0, /* also what a forked child finds */
    STATE_STARTED,
    STATE_OFF, /* it failed, or is not wanted */
};

/* How the socket thread's start ended. */
enum socket_state { SOCKET_STARTING, SOCKET_OPEN, SOCKET_FAILED, SOCKET_ENDED };

/*
 * Everything that belongs to one process. Lives in a mapping that a forked child finds zeroed: the
 * child has no threads, no lock is held in it, and the parent's socket is not its to unlink.
 */
struct control {
    _Atomic int state; /* enum control_state; changed by compare-and-swap */
    /*
     * The process that this is about, from its first question on. Another one that sees it is a
     * vfork() child, which borrows this memory: threads that it made would die with its exec.
     */
    _Atomic pid_t pid;
    _Atomic unsigned refused_starts; /* see START_TRIES_MAX */
    atomic_bool is_running;          /* the control thread is */
    atomic_bool has_locks;           /* `lock`, `changed` and `work` can be used */

    /* See berth__control_pause(). */
    atomic_bool pausing;
    bool quiet; /* a start that fails is not said: there was one before, or is none for a reason */
    _Atomic int threads;          /* that were started, and have not come to their end */
    _Atomic pid_t control_thread; /* their numbers, once they run */
    _Atomic pid_t socket_thread;

    pthread_mutex_t lock; /* guards all below but `work` and `identity` */
    pthread_cond_t changed;
    struct berth_exchange *exchange; /* waiting for its answer; the socket thread's; else NULL */
    bool woken;                      /* see berth__control_wake() */
    atomic_bool exiting;             /* the program is: the socket gets no name any more */
    bool leaderless; /* the socket thread found that only these two threads are left */
    enum socket_state socket_state;
    char why[BERTH_ADDRESS_WHY_MAX + 128]; /* of SOCKET_FAILED */

    /*
     * Held while the control thread works. fork() waits for it, up to FORK_WAIT_MS, so that a child
     * does not inherit a half-installed table or a loader's lock that nobody will release.
     */
    pthread_mutex_t work;

    struct berth_identity identity; /* fixed once socket_state is SOCKET_OPEN */
    uint64_t tended_ms;   /* when the pools were last looked after; the control thread's own */
    uint64_t host_due_ms; /* when host tiers are, next; the same */
    char hello[BERTH_SERVER_HELLO_MAX];
    char directory[PATH_MAX];
    char name[BERTH_ADDRESS_NAME_MAX];
    dev_t device; /* of the socket's name; set before socket_state is SOCKET_OPEN */
    _Atomic ino_t inode;
    struct berth_server server; /* the socket thread's */
};

#define FORK_WAIT_MS 1000
/* How long a call waits for the threads to end that fails, or worse, while there are any. */
#define PAUSE_WAIT_MS 3000
#define PAUSE_STEP_US 50
/* A signal that waits is lost where the program chooses to ignore it just then. */
#define STEPS_PER_RING 256
/*
 * The kernel makes no thread (EAGAIN) while another one of the process is in execve(). If that
 * succeeds, nobody is left to tell; if not, the next occasion starts anew, this many times.
 */
#define START_TRIES_MAX 16
/* How many names of other processes are looked at when the socket opens. */
#define SWEEP_MAX 64
/* How often it is looked whether the program's own threads have all ended. */
#define LEADER_CHECK_MS 2000
/* How often the control thread looks after those that lend to a shared tier by legacy IPC. */
#define WATCH_MS 1000
/* Beyond what the C library needs: dlopen, jansson's recursion (2048 deep), a table's checks. */
#define CONTROL_STACK_SIZE ((size_t)1 << 20)
#define SOCKET_STACK_SIZE ((size_t)128 << 10)

int (*berth__control_wanted)(void);
bool (*berth__control_unwanted)(void);
void (*berth__control_impossible)(void);
int (*berth__control_load_callsite)(char *why, size_t why_size);
void (*berth__control_look)(void);

static _Atomic(struct control *) the_control;
/* $XDG_RUNTIME_DIR as it was before main: later on the program may be changing its environment. */
static char runtime_directory[PATH_MAX];
static atomic_bool main_has_begun;
static atomic_bool start_was_asked;
/* The handlers stay registered in forked children. Written by the control thread only. */
static bool fork_handlers_registered;
static __thread bool fork_holds_work __attribute__((tls_model("initial-exec")));

/* Where a kernel cannot zero the mapping at fork, this handler does. */
static void forget_in_child(void)
{
    memset(the_control, 0, sizeof(*the_control));
}

static struct control *control_get(void)
{
    struct control *control = atomic_load_explicit(&the_control, memory_order_acquire);
    struct control *none = NULL;

    if (BERTH_LIKELY(control))
        return control;
    control =
        mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (control == MAP_FAILED)
        return NULL;
    if (!atomic_compare_exchange_strong(&the_control, &none, control)) {
        munmap(control, sizeof(*control));
        return none;
    }
    if (madvise(control, sizeof(*control), MADV_WIPEONFORK) < 0)
        pthread_atfork(NULL, NULL, forget_in_child);
    return control;
}

/* Of forks that this thread is amid; see alloc/fork_turn.h. */
static __thread unsigned forks __attribute__((tls_model("initial-exec")));

static void wait_for_work(struct control *control)
{
    fork_holds_work = false;
    if (control->state != STATE_STARTED)
        return;
    /* It may be waiting for a lock that the forking thread holds, the loader's: then never. */
    for (int waited_ms = 0; waited_ms < FORK_WAIT_MS && !fork_holds_work; waited_ms++) {
        fork_holds_work = pthread_mutex_trylock(&control->work) == 0;
        if (!fork_holds_work)
            berth__pause(1000000);
    }
}

static void before_fork(void)
{
    struct berth_fork_turn turn;

    if (berth__fork_turn_prepare(&turn, &forks))
        wait_for_work(the_control);
    berth__fork_turn_over(&turn);
}

static void after_fork_in_parent(void)
{
    struct berth_fork_turn turn;

    if (berth__fork_turn_parent(&turn, &forks)) {
        if (fork_holds_work)
            pthread_mutex_unlock(&the_control->work);
        fork_holds_work = false;
    }
    berth__fork_turn_over(&turn);
}

static void after_fork_in_child(void)
{
    struct berth_fork_turn turn;

    berth__fork_turn_child(&turn, &forks);
    fork_holds_work = false; /* the lock itself was zeroed: nobody holds it */
    berth__fork_turn_over(&turn);
}

/* Both threads: one after the other, the socket thread asks and the control thread answers. */
static void ask_control_thread(void *context, struct berth_exchange *exchange)
{
    struct control *control = context;

    pthread_mutex_lock(&control->lock);
    control->exchange = exchange;
    pthread_cond_broadcast(&control->changed);
    while (control->exchange)
        pthread_cond_wait(&control->changed, &control->lock);
    pthread_mutex_unlock(&control->lock);
}

static void tell(struct control *control, enum socket_state state)
{
    pthread_mutex_lock(&control->lock);
    control->socket_state = state;
    pthread_cond_broadcast(&control->changed);
    pthread_mutex_unlock(&control->lock);
}

/*
 * A program whose main thread has called pthread_exit ends when its last thread does. These two
 * would keep it alive: when only they are left, the control thread calls exit as that thread would.
 */
static void check_leader(struct control *control)
{
    if (!berth__descriptors_program_ended(control->identity.pid, 2))
        return;
    pthread_mutex_lock(&control->lock);
    control->leaderless = true;
    pthread_cond_broadcast(&control->changed);
    pthread_mutex_unlock(&control->lock);
}

static int read_identity(struct control *control)
{
    char quoted[BERTH_SERVER_HELLO_MAX - 128];
    int r = berth__identity_read(&control->identity);

    if (r < 0) {
        /*
         * A sandbox is being built (a new pid namespace whose /proc is not mounted yet), or the
         * program changed its root: nobody could find this process by its number there.
         */
        control->quiet =
            control->quiet || berth__option(BERTH_OPTION_CONTROL) != BERTH_CONTROL_ALWAYS;
        snprintf(control->why, sizeof(control->why), "/proc/self/stat: %s", strerror(-r));
        return r;
    }
    snprintf(control->hello, sizeof(control->hello),
             "{\"berth\":\"" BERTH_VERSION "\",\"protocol\":%d,\"pid\":%d,\"program\":%s}\n",
             BERTH_PROTOCOL, (int)control->identity.pid,
             berth__json_quote(control->identity.program, quoted, sizeof(quoted)));
    return 0;
}

/*
 * Nothing is opened before the thread has descriptors of its own. Programs that believe themselves
 * alone, shells among them, close a descriptor and put another file at its number: one that came
 * there in between would be theirs when it is closed.
 */
static int open_socket(struct control *control)
{
    struct berth_server_config config = {.directory = control->directory,
                                         .name = control->name,
                                         .hello = control->hello,
                                         .answer = ask_control_thread,
                                         .context = control};
    uid_t uid = berth__geteuid();
    int r = berth__descriptors_leave(control->why, sizeof(control->why));

    if (r == 0)
        r = read_identity(control);
    if (r < 0)
        return r;
    r = berth__address_directory(uid, runtime_directory, true, control->directory, control->why);
    if (r < 0)
        return r;
    berth__address_name(control->identity.pid, control->identity.start, control->name);
    pthread_mutex_lock(&control->lock);
    r = control->exiting ? -ECANCELED : berth__server_open(&control->server, &config);
    if (r == 0) {
        control->device = control->server.device;
        control->inode = control->server.inode;
    }
    pthread_mutex_unlock(&control->lock);
    if (r < 0) {
        snprintf(control->why, sizeof(control->why), "%s/%s: %s", control->directory, control->name,
                 strerror(-r));
        return r;
    }
    berth__leftovers_sweep(control->directory, SWEEP_MAX);
    return 0;
}

/*
 * Takes the socket's name away, if it is still this process's socket that has it. Neither thread
 * holds the lock, which guards that, for longer than it takes to make the name.
 */
static void unlink_name(struct control *control)
{
    char path[PATH_MAX + BERTH_ADDRESS_NAME_MAX];
    struct stat st;

    snprintf(path, sizeof(path), "%s/%s", control->directory, control->name);
    if (control->inode != 0 && berth__lstat(path, &st) == 0 && st.st_ino == control->inode &&
        st.st_dev == control->device)
        berth__unlink(path);
}

static void *socket_main(void *context)
{
    struct control *control = context;

    control->socket_thread = gettid();
    berth__thread.inside++;
    prctl(PR_SET_NAME, "berth-socket");
    if (open_socket(control) < 0) {
        tell(control, SOCKET_FAILED);
        control->threads--;
        return NULL;
    }
    tell(control, SOCKET_OPEN);
    while (!control->pausing && berth__server_step(&control->server, LEADER_CHECK_MS) == 0)
        check_leader(control);
    if (control->pausing)
        unlink_name(control);
    berth__server_close(&control->server);
    tell(control, SOCKET_ENDED);
    control->threads--;
    return NULL;
}

/* Starts a detached thread with all signals blocked. 0 or negative errno. */
static int start_thread(void *(*run)(void *), struct control *control, size_t stack_size)
{
    long least = sysconf(_SC_THREAD_STACK_MIN); /* thread-local storage included */
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;
    int r;

    r = pthread_attr_init(&attributes);
    if (r != 0)
        return -r;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, stack_size + (least > 0 ? (size_t)least : 0));
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    control->threads++;
    r = pthread_create(&thread, &attributes, run, control);
    if (r != 0)
        control->threads--;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -r;
}

static int prepare(struct control *control)
{
    int r;

    if (!fork_handlers_registered &&
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0)
        fork_handlers_registered = true;
    r = start_thread(socket_main, control, SOCKET_STACK_SIZE);
    if (r < 0)
        snprintf(control->why, sizeof(control->why), "no thread could be started: %s",
                 strerror(-r));
    return r;
}

/* Whether a start that failed with `error` is left to the next occasion. */
static bool postponed(struct control *control, int error)
{
    /* After unshare(CLONE_NEWPID) the kernel lets children begin, but no threads (EINVAL). */
    control->quiet = control->quiet || error == -EINVAL;
    if ((error != -EAGAIN && error != -EINVAL) ||
        atomic_fetch_add_explicit(&control->refused_starts, 1, memory_order_relaxed) >=
            START_TRIES_MAX)
        return false;
    control->state = STATE_IDLE;
    return true;
}

static void give_up(struct control *control)
{
    control->state = STATE_OFF;
    if (!control->exiting)
        berth__log(control->quiet ? BERTH_LOG_INFO : BERTH_LOG_WARNING, BERTH_TOPIC_IPC,
                   "the control socket stays closed: %s", control->why);
}

/* Under a sandbox the program's own calls alone give memory back. */
static bool tends_host(void)
{
    return berth__host_tend && !berth__sandbox_is_on();
}

/*
 * When something is to be done though nobody asks, UINT64_MAX for never: others are watched, the
 * pools looked after. This thread alone changes the options that say so.
 */
static uint64_t due_ms(const struct control *control)
{
    uint64_t watch =
        berth__shared_tier_watches() ? (uint64_t)berth__clock_ms() + WATCH_MS : UINT64_MAX;
    int interval = berth__pool_tend_interval();
    uint64_t tend = interval < 0 ? UINT64_MAX : control->tended_ms + (uint64_t)interval;

    if (tends_host() && control->host_due_ms < tend)
        tend = control->host_due_ms;
    return watch < tend ? watch : tend;
}

/* Waits, for a while where others are to be looked after. False: it is time to do that. */
static bool wait_for_change(struct control *control)
{
    uint64_t due = due_ms(control);
    struct timespec end;

    if (due == UINT64_MAX) {
        pthread_cond_wait(&control->changed, &control->lock);
        return true;
    }
    end.tv_sec = (time_t)(due / 1000);
    end.tv_nsec = (long)(due % 1000) * 1000000;
    return pthread_cond_clockwait(&control->changed, &control->lock, CLOCK_MONOTONIC, &end) == 0;
}

/* However many clients ask, the pools and the tiers are looked after when it is time. */
static void tend(struct control *control)
{
    int interval = berth__pool_tend_interval();

    if (tends_host() && (uint64_t)berth__clock_ms() >= control->host_due_ms) {
        int next = berth__host_tend();

        control->host_due_ms = (uint64_t)berth__clock_ms() + (uint64_t)next;
    }
    if (interval < 0 || (uint64_t)berth__clock_ms() < control->tended_ms + (uint64_t)interval)
        return;
    berth__pool_tend();
    control->tended_ms = (uint64_t)berth__clock_ms();
}

/* Waits until there is something to do. False: there never will be. */
static bool next_work(struct control *control)
{
    while (!control->exchange && !control->woken && !control->leaderless &&
           control->socket_state < SOCKET_FAILED && wait_for_change(control))
        ;
    control->woken = false;
    return !control->leaderless && control->socket_state < SOCKET_FAILED;
}

/* One answer, if one is waited for; and what is done unasked. Called without the lock. */
static void work(struct control *control, struct berth_exchange *exchange)
{
    pthread_mutex_lock(&control->work);
    if (exchange)
        berth__operation_answer(&control->identity, exchange);
    pthread_mutex_unlock(&control->work);
    if (exchange) {
        pthread_mutex_lock(&control->lock);
        control->exchange = NULL;
        pthread_cond_broadcast(&control->changed);
        pthread_mutex_unlock(&control->lock);
    }
    pthread_mutex_lock(&control->work);
    berth__shared_tier_run();
    tend(control);
    pthread_mutex_unlock(&control->work);
}

static void run_control(struct control *control)
{
    int r = prepare(control);

    if (r < 0) {
        if (!postponed(control, r))
            give_up(control);
        return;
    }
    control->is_running = true;
    work(control, NULL);
    pthread_mutex_lock(&control->lock);
    while (next_work(control)) {
        struct berth_exchange *exchange = control->exchange;

        pthread_mutex_unlock(&control->lock);
        work(control, exchange);
        pthread_mutex_lock(&control->lock);
    }
    pthread_mutex_unlock(&control->lock);
    if (control->leaderless)
        exit(0);
    if (!control->pausing)
        give_up(control);
}

static void *control_main(void *context)
{
    struct control *control = context;

    control->control_thread = gettid();
    berth__thread.inside++; /* for good: nothing of this thread's is placed or recorded */
    prctl(PR_SET_NAME, "berth-control");
    run_control(control);
    control->threads--;
    return NULL;
}

static int begin(struct control *control)
{
    int r;

    if (berth__option(BERTH_OPTION_CONTROL) == BERTH_CONTROL_NEVER) {
        control->state = STATE_OFF;
        return 0;
    }
    if (!control->has_locks) {
        pthread_mutex_init(&control->lock, NULL);
        pthread_mutex_init(&control->work, NULL);
        pthread_cond_init(&control->changed, NULL);
        control->has_locks = true;
    }
    berth__thread.inside++;
    r = start_thread(control_main, control, CONTROL_STACK_SIZE);
    berth__thread.inside--;
    if (r < 0 && !postponed(control, r)) {
        snprintf(control->why, sizeof(control->why), "no thread could be started: %s",
                 strerror(-r));
        give_up(control);
    }
    return r;
}

/* Not while they are being ended: who does that begins them again. */
static int start_now(struct control *control)
{
    int idle = STATE_IDLE;
    int r = 0;

    /* A pause that comes in between waits for what begins here. */
    control->threads++;
    if (!control->pausing && atomic_compare_exchange_strong(&control->state, &idle, STATE_STARTED))
        r = begin(control);
    control->threads--;
    return r;
}

/* Whether this is the process that `control` is about, and not a vfork() child of it. */
static bool is_own(struct control *control)
{
    pid_t self = getpid();
    pid_t none = 0;

    return atomic_compare_exchange_strong(&control->pid, &none, self) || none == self;
}

int berth__control_start(void)
{
    struct control *control = control_get();
    int saved_errno = errno;
    int r;

    if (!control)
        return -ENOMEM;
    if (BERTH_LIKELY(atomic_load_explicit(&control->state, memory_order_relaxed) != STATE_IDLE))
        return 0;
    start_was_asked = true;
    /* A thread that begins in a sandbox may be killed for what it asks of the kernel. */
    if (!main_has_begun || !is_own(control) || berth__sandbox_is_on())
        return 0;
    r = start_now(control);
    errno = saved_errno;
    return r;
}

bool berth__control_wake(void)
{
    struct control *control = control_get();

    if (!control || control->state != STATE_STARTED || !is_own(control))
        return false;
    /* A thread that has not begun looks at everything first. */
    if (!control->is_running)
        return true;
    pthread_mutex_lock(&control->lock);
    control->woken = true;
    pthread_cond_broadcast(&control->changed);
    pthread_mutex_unlock(&control->lock);
    return true;
}

/* Whether the kernel knows the thread no more: it does for a moment after the thread's last act. */
static bool is_gone(pid_t thread)
{
    return thread == 0 || (syscall(SYS_tgkill, getpid(), thread, 0) < 0 && errno == ESRCH);
}

static bool await_end(struct control *control)
{
    uint64_t end = (uint64_t)berth__clock_ms() + PAUSE_WAIT_MS;
    unsigned steps_after_ring = 0;

    while (control->threads > 0 || !is_gone(control->control_thread) ||
           !is_gone(control->socket_thread)) {
        if ((uint64_t)berth__clock_ms() > end)
            return false;
        /* A bell that is not there yet belongs to a thread that looks before it waits. */
        if (control->inode != 0 &&
            (steps_after_ring > 0 || berth__doorbell_ring(&control->server.bell) == 0))
            steps_after_ring = (steps_after_ring + 1) % STEPS_PER_RING;
        berth__pause(PAUSE_STEP_US * 1000L);
    }
    return true;
}

/* As before the first start; others may be waking the control thread even now. */
static void forget_threads(struct control *control)
{
    control->quiet = true;
    control->is_running = false;
    pthread_mutex_lock(&control->lock);
    control->woken = false;
    control->socket_state = SOCKET_STARTING;
    pthread_mutex_unlock(&control->lock);
    control->control_thread = control->socket_thread = 0;
    control->inode = 0;
}

/* Threads that gave up may not have come to their end yet; they are waited for once. */
static bool is_ending(const struct control *control)
{
    return control->state == STATE_OFF &&
           (control->threads > 0 || control->control_thread != 0 || control->socket_thread != 0);
}

/* There are threads to be ended, or there will be. */
static bool has_threads(const struct control *control)
{
    return control->state == STATE_STARTED || is_ending(control);
}

bool berth__control_pause(void)
{
    struct control *control = atomic_load_explicit(&the_control, memory_order_acquire);
    int saved_errno = errno;
    bool idle = false;
    bool ended;

    /* A vfork() child has no threads, and a sandbox may forbid what this takes. */
    if (!control || !has_threads(control) || !is_own(control) || berth__thread.inside > 0 ||
        berth__sandbox_is_on() || !atomic_compare_exchange_strong(&control->pausing, &idle, true))
        return false;
    /* Another pause may have come to its end meanwhile: what follows is for its threads alone. */
    if (!has_threads(control)) {
        control->pausing = false;
        return false;
    }
    berth__thread.inside++;
    ended = await_end(control);
    if (ended) {
        forget_threads(control);
        if (control->state == STATE_STARTED)
            control->state = STATE_IDLE;
        control->pausing = false;
    }
    /* Otherwise they end later, and do not start again. */
    berth__thread.inside--;
    errno = saved_errno;
    return ended;
}

void berth__control_stay_off(void)
{
    struct control *control = atomic_load_explicit(&the_control, memory_order_acquire);

    if (control && is_own(control))
        control->state = STATE_OFF;
}

const char *berth__control_runtime_directory(void)
{
    return runtime_directory;
}

void berth__control_main_begun(void)
{
    const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
    struct control *control = control_get();

    if (runtime && strlen(runtime) < sizeof(runtime_directory))
        strcpy(runtime_directory, runtime);
    main_has_begun = true;
    if (control)
        is_own(control); /* from now on known */
    if (start_was_asked || berth__option(BERTH_OPTION_CONTROL) == BERTH_CONTROL_ALWAYS)
        berth__control_start();
}

/* At exit the socket's name goes away, and none is made any more. */
__attribute__((destructor)) static void control_unlink(void)
{
    struct control *control = the_control;

    if (!control || control->state != STATE_STARTED)
        return;
    pthread_mutex_lock(&control->lock);
    control->exiting = true;
    unlink_name(control);
    pthread_mutex_unlock(&control->lock);
}
