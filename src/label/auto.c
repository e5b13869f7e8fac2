/* Which regions hurt, told from the store alone. */
#include "base/compat.h"

#include "label/auto.h"

void fk_auto_choose(const fk_survey *s, const ferkd_store_info *info, char *rules, char *words)
{
    (void)s;
    (void)info;
    (void)snprintf(rules, FK_AUTO_TEXT, "max < 5%%: discard; max < 10%%: smooth 0.1; else: keep");
    (void)snprintf(
        words, FK_AUTO_TEXT,
        "the least sure 5%% of the regions are dropped, the next 5%% get the ground truth");
}
