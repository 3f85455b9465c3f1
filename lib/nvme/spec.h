/* SPDX-License-Identifier: Apache-2.0 */
/* Structures and constants of the NVM Express base, NVM command set and fabrics specifications, little-endian as on the wire. */
#ifndef NVME_SPEC_H
#define NVME_SPEC_H

#include <stdint.h>

#define NVME_NQN_SIZE 224 /* 223 characters and NUL */

/* Submission queue entry, base specification figure "Common Command Format". */
struct nvme_sqe {
	uint8_t opcode;
	uint8_t flags; /* fuse bits 1:0, PSDT bits 7:6 */
	uint16_t cid;
	uint32_t nsid;
	uint32_t cdw2;
	uint32_t cdw3;
	uint64_t mptr;
	uint8_t dptr[16]; /* one SGL descriptor */
	uint32_t cdw10;
	uint32_t cdw11;
	uint32_t cdw12;
	uint32_t cdw13;
	uint32_t cdw14;
	uint32_t cdw15;
};
_Static_assert(sizeof(struct nvme_sqe) == 64, "submission queue entry");

/* Completion queue entry. */
struct nvme_cqe {
	uint64_t dw01;
	uint16_t sqhd;
	uint16_t sqid;
	uint16_t cid;
	uint16_t status; /* bit 0 phase, bits 8:1 SC, 11:9 SCT, 13:12 CRD, 14 more, 15 DNR */
};
_Static_assert(sizeof(struct nvme_cqe) == 16, "completion queue entry");

#endif
