/* FKD's label archives (szq0214/FKD): a file of torch.save for each image. */
#ifndef FK_FKD_H
#define FK_FKD_H

#include "exchange/torch_file.h"
#include "ferkd/train.h"

/* What the label arrays are; the archives do not say. */
typedef enum fk_fkd_type {
    FK_FKD_ORI,                /* [R, C] */
    FK_FKD_HARD,               /* [R] */
    FK_FKD_SMOOTHING,          /* [R, 2]: class, probability; the rest evenly elsewhere */
    FK_FKD_MARGINAL_SMOOTHING, /* [R, 2, k] */
    FK_FKD_MARGINAL_RENORM     /* the same array: divided by its sum, 0 elsewhere */
} fk_fkd_type;

/* "ori", "hard", "smoothing", "marginal_smoothing_k5", "marginal_renorm" ...; false: none of them. */
bool fk_fkd_parse(const char *word, fk_fkd_type *out);

/* folder/SPLIT/CLASS/NAME.tar, where FKD's loader looks for the labels of an image: SPLIT is the data's own folder, NAME ends at
 * its first dot. The caller frees. */
FERKD_CHECK ferkd_status fk_fkd_path(const ferkd_dataset *data, const char *folder, uint32_t image,
                                     char **out);

#endif
