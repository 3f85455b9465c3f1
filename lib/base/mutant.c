/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mutant.h"

#ifdef STRAKE_MUTANTS
enum mutant mutant_active = MUTANT_NONE;
#else
/* Nothing: a translation unit must not be empty. */
extern const int mutant_none;
const int mutant_none = MUTANT_NONE;
#endif
