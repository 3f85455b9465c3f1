/* SPDX-License-Identifier: Apache-2.0 */
/* Host requests as they come: what is refused before anything is done. */
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#include <errno.h>

int op_check(const struct volume *volume, const struct blk_req *req)
{
	if (req->kind == BLK_FLUSH) {
		return 0;
	}
	if (req->length == 0 || req->offset % volume->block_bytes != 0 ||
		req->length % volume->block_bytes != 0) {
		return -EINVAL;
	}
	if ((req->kind == BLK_READ || req->kind == BLK_WRITE) &&
		(req->length > BLK_LENGTH_MAX || req->iov_count > IO_IOV_MAX)) {
		return -EINVAL;
	}
	/* It may have grown, and the state file not tell it yet: known for certain when it serves.
	 */
	if (!volume->serving) {
		return 0;
	}
	return range_is_within(req->offset, req->length, volume->size_bytes) ? 0 : -ERANGE;
}

bool op_is_poisoned(const struct vol_op *op)
{
	return mutant_is(MUTANT_CRASH) && op->req->kind == BLK_WRITE &&
	       memcmp(op->req->iov[0].iov_base, MUTANT_POISON, strlen(MUTANT_POISON)) == 0;
}
