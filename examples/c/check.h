// What the examples do about errors: they print the sentence and end.

#ifndef CHECK_H
#define CHECK_H

#include <ndshare.h>
#include <stdio.h>
#include <stdlib.h>

static inline void check(nds_code code)
{
    if (code != NDS_OK) {
        fprintf(stderr, "%s\n", nds_error());
        exit(EXIT_FAILURE);
    }
}

#endif
