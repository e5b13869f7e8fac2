/* Weights that training starts from. */
#ifndef FK_INIT_H
#define FK_INIT_H

#include "ferkd/status.h"
#include "net/graph.h"

/* Fill g from a run folder, a .safetensors file or what torch.save wrote (.pth, .pt, .bin), by the parameters' names.
 * A tensor of another size (the head, for other classes) keeps what it has; what was taken, missing and left over is
 * said through watch; *head_anew (or NULL): is the head among what was not taken? FERKD_USAGE: nothing in the file has a name that
 * is wanted. */
FERKD_CHECK ferkd_status fk_load_init(fk_graph *g, const char *from, const ferkd_watch *watch,
                                      bool *head_anew);

struct fk_run;
/* The weights that the run's graph starts from: drawn, of an ONNX file, or of what fk_load_init() reads. anew: the head
 * of the ONNX file has other classes. Of a file whose classes have names, the head of those that are wanted is kept. */
FERKD_CHECK ferkd_status fk_student_start(struct fk_run *run, bool anew);

#endif
