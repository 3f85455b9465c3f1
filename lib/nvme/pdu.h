/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NVMe/TCP transport's PDUs, pure: bytes to a struct that holds valid values only, and back.
 * No I/O and no memory.
 *
 * Receiving a PDU takes two steps, because its length is known after 8 bytes and its data do not
 * pass through here:
 *
 *   8 bytes             pdu_frame_decode() -> type, where the data are, how many bytes in all
 *   frame.header_bytes  pdu_decode() -> struct pdu (header digest checked)
 *   frame.data_offset   data_length bytes of data, then 4 bytes of digest if frame.data_digest
 *
 * Sending: pdu_encode() gives everything before the data (header, digest, padding); the sender puts
 * the data and, if it was negotiated, le32 of their crc32c behind.
 *
 * Reserved bytes are written as zeros and not looked at when received, as the base specification
 * has it; reserved bits of FLAGS and reserved types are refused, since they change what the rest
 * means.
 */
#ifndef NVME_PDU_H
#define NVME_PDU_H

#include "nvme/spec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pdu_type {
	PDU_ICREQ = 0,
	PDU_ICRESP = 1,
	PDU_H2C_TERM = 2,
	PDU_C2H_TERM = 3,
	PDU_CAPSULE_CMD = 4,
	PDU_CAPSULE_RESP = 5,
	PDU_H2C_DATA = 6,
	PDU_C2H_DATA = 7,
	PDU_R2T = 9,
};

enum pdu_role {
	PDU_ROLE_HOST,
	PDU_ROLE_CONTROLLER,
};

#define PDU_COMMON_BYTES 8u /* what pdu_frame_decode() wants */
/* Most that comes before data: a capsule with digest (76 bytes) behind which data begin at a
 * multiple of 72. */
#define PDU_HEADER_MAX     144u
#define PDU_DIGEST_BYTES   4u
#define PDU_IC_BYTES       128u
#define PDU_TERM_BYTES_MAX 152u
#define PDU_PDA_MAX        31u /* data alignment (PDA + 1) * 4 bytes */
#define PDU_MAXH2CDATA_MIN 4096u

/* What was negotiated for a connection, from the receiver's point of view. */
struct pdu_limits {
	enum pdu_role receiver;
	bool header_digest;
	bool data_digest;
	uint8_t pda; /* the alignment that the receiver announced (host: HPDA, controller: CPDA) */
	uint32_t capsule_data_max; /* controller: data in a command capsule */
	uint32_t data_max;         /* controller: MAXH2CDATA; host: largest C2HData */
};

/* Why a PDU was refused: the fields of the H2CTermReq or C2HTermReq to send, and a text for the
 * log. */
struct pdu_fault {
	uint16_t fes;
	uint32_t fei;
	const char *text; /* a constant */
};

/* Fatal error status */
enum {
	PDU_FES_HEADER_FIELD = 1, /* FEI: byte offset of the field */
	PDU_FES_SEQUENCE = 2,
	PDU_FES_HEADER_DIGEST = 3, /* FEI: the digest that came */
	PDU_FES_OUT_OF_RANGE = 4,  /* data transfer outside of the command's */
	PDU_FES_LIMIT = 5,         /* more data than agreed, more R2Ts than agreed */
	PDU_FES_UNSUPPORTED = 6,   /* FEI: byte offset of the parameter */
};

struct pdu_frame {
	enum pdu_type type;
	uint8_t flags;
	bool data_digest;      /* 4 bytes follow the data */
	uint32_t header_bytes; /* header with its digest: what pdu_decode() wants */
	uint32_t data_offset;  /* from the start of the PDU; data_length is 0: the end */
	uint32_t data_length;
	uint32_t total_bytes; /* PLEN */
};

struct pdu_icreq {
	uint16_t pfv; /* 0 */
	uint8_t hpda;
	bool header_digest, data_digest;
	uint32_t maxr2t; /* 0's based */
};

struct pdu_icresp {
	uint16_t pfv; /* 0 */
	uint8_t cpda;
	bool header_digest, data_digest;
	uint32_t maxh2cdata; /* at least 4096, multiple of 4 */
};

/* The refused PDU's header follows as data (frame.data_length bytes, at most 128). */
struct pdu_term {
	uint16_t fes;
	uint32_t fei;
};

/* H2CData, C2HData: of data_length bytes. */
struct pdu_data {
	uint16_t cccid;
	uint16_t ttag;   /* H2CData only */
	uint32_t offset; /* in the command's data, multiple of 4 */
	uint32_t length; /* > 0; offset + length does not overflow */
	bool last;
	bool success; /* C2HData only, with last only: no CapsuleResp follows */
};

struct pdu_r2t {
	uint16_t cccid;
	uint16_t ttag;
	uint32_t offset; /* multiple of 4 */
	uint32_t length; /* > 0; offset + length does not overflow */
};

struct pdu {
	enum pdu_type type;
	/* CAPSULE_CMD: in-capsule data; H2C_DATA, C2H_DATA: equals data.length; TERM: the copied
	 * header; else 0 */
	uint32_t data_length;
	union {
		struct pdu_icreq icreq;
		struct pdu_icresp icresp;
		struct pdu_term term;
		struct nvme_sqe sqe;
		struct nvme_cqe cqe;
		struct pdu_data data;
		struct pdu_r2t r2t;
	};
};

/* Checks the first 8 bytes of a PDU.  0, or -EPROTO with *ret_fault. */
int pdu_frame_decode(const struct pdu_limits *limits, const uint8_t *from,
	struct pdu_frame *ret_frame, struct pdu_fault *ret_fault);

/* The header: frame->header_bytes bytes at `from`, beginning with those that gave the frame.  0, or
 * -EPROTO with *ret_fault. */
int pdu_decode(const struct pdu_limits *limits, const struct pdu_frame *frame, const uint8_t *from,
	struct pdu *ret_pdu, struct pdu_fault *ret_fault);

/* What was negotiated, from the sender's point of view. */
struct pdu_encoding {
	bool header_digest; /* not used for ICReq, ICResp and TermReqs */
	bool data_digest;
	uint8_t pda; /* the alignment that the receiver wants */
};

/*
 * Writes everything that comes before the data: returns its length, at most PDU_HEADER_MAX.  PLEN
 * counts pdu->data_length bytes of data and their digest, which the caller sends behind it.
 */
uint32_t pdu_encode(
	const struct pdu *pdu, const struct pdu_encoding *encoding, uint8_t to[PDU_HEADER_MAX]);

/* Does a PDU with data sent with this encoding carry a data digest? */
static inline bool pdu_has_data_digest(const struct pdu *pdu, const struct pdu_encoding *encoding)
{
	return encoding->data_digest && pdu->data_length > 0 &&
	       (pdu->type == PDU_CAPSULE_CMD || pdu->type == PDU_H2C_DATA ||
		       pdu->type == PDU_C2H_DATA);
}

/*
 * A whole H2CTermReq or C2HTermReq (`sender` is our role) for the fault, with the refused PDU's
 * first bytes (`header_length` of them, cut at 128).  Returns its length, at most
 * PDU_TERM_BYTES_MAX.
 */
uint32_t pdu_term_encode(enum pdu_role sender, const struct pdu_fault *fault, const uint8_t *header,
	size_t header_length, uint8_t to[PDU_TERM_BYTES_MAX]);

/* "CapsuleCmd"; never NULL. */
const char *pdu_type_name(enum pdu_type type);

#endif
