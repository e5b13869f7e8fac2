/* A line with rate and time left where a person watches; plain lines, now and then, elsewhere. */
#include "cli.h"

#include <signal.h>
#include <unistd.h>

#include "base/mem.h"

#define PLAIN_EVERY_S 30.0

static volatile sig_atomic_t interrupted;

static struct {
    char what[16];
    double start, shown;
    unsigned long long first;
    bool open; /* a line without its end stands on the terminal */
} line;

static void on_signal(int number)
{
    (void)number;
    if (interrupted) /* the second time people mean it */
        _exit(130);
    interrupted = 1;
}

static int stop(void *ctx)
{
    (void)ctx;
    return interrupted;
}

static void time_left(double s, char *text, size_t size)
{
    int v = (int)(s + 0.5);

    if (v >= 3600)
        (void)snprintf(text, size, "%d:%02d:%02d", v / 3600, v / 60 % 60, v % 60);
    else
        (void)snprintf(text, size, "%d:%02d", v / 60, v % 60);
}

static void progress(void *ctx, const char *what, unsigned long long done, unsigned long long total,
                     const char *detail)
{
    double now = fk_now_s();
    bool terminal = isatty(STDERR_FILENO);
    char left[32] = "?";

    (void)ctx;
    if (strcmp(line.what, what) != 0 || done <= line.first) {
        (void)snprintf(line.what, sizeof line.what, "%s", what);
        line.start = line.shown = now;
        line.first = done;
        return;
    }
    if (now - line.shown < (terminal ? 0.2 : PLAIN_EVERY_S))
        return;
    line.shown = now;
    double rate = (double)(done - line.first) / (now - line.start);
    if (total > done && rate > 0)
        time_left((double)(total - done) / rate, left, sizeof left);
    if (!terminal) {
        (void)fprintf(stderr, "%s %llu/%llu  %.1f/s  %s left  %s\n", what, done, total, rate, left,
                      detail);
        return;
    }
    int cells = total ? (int)(24 * done / total) : 0;
    (void)fprintf(stderr, "\r\033[K%s [%-24.*s] %3.0f%%  %llu/%llu  %.1f/s  %s left  %s", what,
                  cells, "########################",
                  total ? 100.0 * (double)done / (double)total : 0.0, done, total, rate, left,
                  detail);
    (void)fflush(stderr);
    line.open = true;
}

void cli_progress_end(void)
{
    if (line.open)
        (void)fputs("\r\033[K", stderr);
    line.open = false;
}

static void message(void *ctx, const char *text)
{
    (void)ctx;
    cli_progress_end();
    (void)fprintf(stderr, "%s\n", text);
}

ferkd_watch cli_watch(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    return (ferkd_watch){.progress = progress, .message = message, .stop = stop};
}
