/* All of libferkd. */
#ifndef FERKD_FERKD_H
#define FERKD_FERKD_H

#include "ferkd/calibrate.h"
#include "ferkd/data.h"
#include "ferkd/exchange.h"
#include "ferkd/image.h"
#include "ferkd/label.h"
#include "ferkd/loader.h"
#include "ferkd/report.h"
#include "ferkd/status.h"
#include "ferkd/train.h"

#endif
