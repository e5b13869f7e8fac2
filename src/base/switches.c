#include "base/switches.h"

#include "base/option.h"

static const fk_switch SWITCHES[] = {
    {"FERKD_BF16", "always|never",
     "whether training computes in bf16 where it is left to choose, instead of measuring what is "
     "faster"},
    {"FERKD_WINOGRAD", "always|never",
     "3x3 convolutions by Winograd kernels of ferkd's own wherever they can be, or nowhere, "
     "instead of where they are faster"},
    {"FERKD_POINTWISE", "always|never", "the same of 1x1 convolutions in f32, in training"},
    {"FERKD_TILES", "never", "go without the matrix tiles of the processor (AMX)"},
    {"FERKD_KERNELS", "plain", "only kernels without special instructions"},
};

const fk_switch *fk_switches(size_t *n)
{
    *n = FK_COUNT(SWITCHES);
    return SWITCHES;
}

bool fk_switch_is(const char *name, const char *word)
{
    const char *said = getenv(name);

    return said && strcmp(said, word) == 0;
}

ferkd_status fk_switches_check(void)
{
    for (size_t i = 0; i < FK_COUNT(SWITCHES); i++) {
        const char *said = getenv(SWITCHES[i].name);
        if (said && *said && !fk_is_choice(SWITCHES[i].words, said))
            return fk_fail(FERKD_USAGE, "%s in the environment may be %s, not \"%s\"",
                           SWITCHES[i].name, SWITCHES[i].words, said);
    }
    return FERKD_OK;
}
