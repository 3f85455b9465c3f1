/* SPDX-License-Identifier: Apache-2.0 */
/* Structures and constants of the NVM Express base, NVM command set and fabrics specifications,
 * little-endian as on the wire. */
#ifndef NVME_SPEC_H
#define NVME_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NVME_NQN_SIZE 224 /* 223 characters and NUL */

#define NVME_DISCOVERY_NQN "nqn.2014-08.org.nvmexpress.discovery"

/* ---- queue entries -----------------------------------------------------------------------------
 */

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
_Static_assert(offsetof(struct nvme_sqe, dptr) == 24, "submission queue entry");
_Static_assert(offsetof(struct nvme_sqe, cdw10) == 40, "submission queue entry");

#define NVME_SQE_FUSE_MASK 0x03u
#define NVME_SQE_PSDT_MASK 0xc0u
#define NVME_SQE_PSDT_SGL  0x40u /* the only one that fabrics allow */

/* Completion queue entry. */
struct nvme_cqe {
	uint64_t dw01;
	uint16_t sqhd;
	uint16_t sqid;
	uint16_t cid;
	uint16_t status; /* bit 0 phase, bits 8:1 SC, 11:9 SCT, 13:12 CRD, 14 more, 15 DNR */
};
_Static_assert(sizeof(struct nvme_cqe) == 16, "completion queue entry");

/* Between the wire's status field and SCT << 8 | SC, which is what all code of ours passes on. */
#define NVME_CQE_DNR 0x8000u

static inline uint16_t nvme_status_from_wire(uint16_t field)
{
	return (uint16_t)((field >> 1) & 0x7ffu);
}

static inline uint16_t nvme_status_to_wire(uint16_t status)
{
	return (uint16_t)((status & 0x7ffu) << 1);
}

/* ---- opcodes -----------------------------------------------------------------------------------
 */

/* Bits 1:0 of an opcode (of FCTYPE for fabrics commands) are the direction of its data. */
enum nvme_direction {
	NVME_NO_DATA = 0,
	NVME_HOST_TO_CONTROLLER = 1,
	NVME_CONTROLLER_TO_HOST = 2,
	NVME_BOTH_WAYS = 3, /* not used by any command that we know */
};

enum {
	NVME_ADMIN_DELETE_IO_SQ = 0x00,
	NVME_ADMIN_CREATE_IO_SQ = 0x01,
	NVME_ADMIN_GET_LOG_PAGE = 0x02,
	NVME_ADMIN_DELETE_IO_CQ = 0x04,
	NVME_ADMIN_CREATE_IO_CQ = 0x05,
	NVME_ADMIN_IDENTIFY = 0x06,
	NVME_ADMIN_ABORT = 0x08,
	NVME_ADMIN_SET_FEATURES = 0x09,
	NVME_ADMIN_GET_FEATURES = 0x0a,
	NVME_ADMIN_ASYNC_EVENT_REQUEST = 0x0c,
	NVME_ADMIN_KEEP_ALIVE = 0x18,
	NVME_FABRICS = 0x7f, /* on every queue */
	NVME_ADMIN_VENDOR_FIRST = 0xc0,
};

enum {
	NVME_IO_FLUSH = 0x00,
	NVME_IO_WRITE = 0x01,
	NVME_IO_READ = 0x02,
	NVME_IO_WRITE_UNCORRECTABLE = 0x04,
	NVME_IO_COMPARE = 0x05,
	NVME_IO_WRITE_ZEROES = 0x08,
	NVME_IO_DATASET_MANAGEMENT = 0x09,
	NVME_IO_VERIFY = 0x0c,
	NVME_IO_RESERVATION_REGISTER = 0x0d,
	NVME_IO_RESERVATION_REPORT = 0x0e,
	NVME_IO_RESERVATION_ACQUIRE = 0x11,
	NVME_IO_RESERVATION_RELEASE = 0x15,
	NVME_IO_VENDOR_FIRST = 0x80,
};

/* FCTYPE, byte 4 of a fabrics command. */
enum {
	NVME_FABRICS_PROPERTY_SET = 0x00,
	NVME_FABRICS_CONNECT = 0x01,
	NVME_FABRICS_PROPERTY_GET = 0x04,
	NVME_FABRICS_AUTH_SEND = 0x05,
	NVME_FABRICS_AUTH_RECEIVE = 0x06,
	NVME_FABRICS_DISCONNECT = 0x08,
};

static inline uint8_t nvme_sqe_fctype(const struct nvme_sqe *sqe)
{
	return (uint8_t)(sqe->nsid & 0xffu);
}

/* As enum nvme_direction. */
static inline unsigned nvme_sqe_direction(const struct nvme_sqe *sqe)
{
	return (sqe->opcode == NVME_FABRICS ? nvme_sqe_fctype(sqe) : sqe->opcode) & 3u;
}

/* Bits of CDW12 of read, write and write zeroes; the low 16 bits are the number of blocks, 0's
 * based. */
#define NVME_RW_FUA        (1u << 30)
#define NVME_RW_LIMITED    (1u << 31)
#define NVME_WZ_DEALLOCATE (1u << 25)
#define NVME_DSM_DEALLOCATE                                                                        \
	(1u << 2) /* CDW11 of dataset management; CDW10 bits 7:0: ranges, 0's based */

struct nvme_dsm_range {
	uint32_t attributes;
	uint32_t blocks;
	uint64_t lba;
};
_Static_assert(sizeof(struct nvme_dsm_range) == 16, "dataset management range");

#define NVME_NSID_ALL 0xffffffffu

/* ---- status, as SCT << 8 | SC -------------------------------------------------------------------
 */

enum {
	NVME_SC_SUCCESS = 0x000,
	NVME_SC_INVALID_OPCODE = 0x001,
	NVME_SC_INVALID_FIELD = 0x002,
	NVME_SC_CID_CONFLICT = 0x003,
	NVME_SC_DATA_TRANSFER_ERROR = 0x004,
	NVME_SC_ABORTED_POWER_LOSS = 0x005,
	NVME_SC_INTERNAL_ERROR = 0x006,
	NVME_SC_ABORT_REQUESTED = 0x007,
	NVME_SC_ABORTED_SQ_DELETION = 0x008,
	NVME_SC_ABORTED_FAILED_FUSED = 0x009,
	NVME_SC_ABORTED_MISSING_FUSED = 0x00a,
	NVME_SC_INVALID_NAMESPACE = 0x00b,
	NVME_SC_COMMAND_SEQUENCE_ERROR = 0x00c,
	NVME_SC_INVALID_SGL_SEGMENT = 0x00d,
	NVME_SC_INVALID_SGL_COUNT = 0x00e,
	NVME_SC_DATA_SGL_LENGTH_INVALID = 0x00f,
	NVME_SC_METADATA_SGL_LENGTH_INVALID = 0x010,
	NVME_SC_SGL_TYPE_INVALID = 0x011,
	NVME_SC_INVALID_PRP_OFFSET = 0x013,
	NVME_SC_SGL_OFFSET_INVALID = 0x016,
	NVME_SC_HOST_ID_INCONSISTENT = 0x018,
	NVME_SC_KEEP_ALIVE_EXPIRED = 0x019,
	NVME_SC_KEEP_ALIVE_INVALID = 0x01a,
	NVME_SC_NAMESPACE_WRITE_PROTECTED = 0x020,
	NVME_SC_TRANSIENT_TRANSPORT_ERROR = 0x022,
	NVME_SC_LBA_OUT_OF_RANGE = 0x080,
	NVME_SC_CAPACITY_EXCEEDED = 0x081,
	NVME_SC_NAMESPACE_NOT_READY = 0x082,
	NVME_SC_RESERVATION_CONFLICT = 0x083,

	NVME_SC_CQ_INVALID = 0x100,
	NVME_SC_INVALID_QUEUE_ID = 0x101,
	NVME_SC_INVALID_QUEUE_SIZE = 0x102,
	NVME_SC_ABORT_LIMIT_EXCEEDED = 0x103,
	NVME_SC_ASYNC_EVENT_LIMIT_EXCEEDED = 0x105,
	NVME_SC_INVALID_LOG_PAGE = 0x109,
	NVME_SC_FEATURE_NOT_SAVEABLE = 0x10d,
	NVME_SC_FEATURE_NOT_CHANGEABLE = 0x10e,
	NVME_SC_FEATURE_NOT_NAMESPACE = 0x10f,
	NVME_SC_CONNECT_INCOMPATIBLE_FORMAT = 0x180,
	NVME_SC_CONNECT_CONTROLLER_BUSY = 0x181,
	NVME_SC_CONNECT_INVALID_PARAMETERS = 0x182,
	NVME_SC_CONNECT_RESTART_DISCOVERY = 0x183,
	NVME_SC_CONNECT_INVALID_HOST = 0x184,
	NVME_SC_DISCOVERY_RESTART = 0x190,
	NVME_SC_AUTHENTICATION_REQUIRED = 0x191,

	NVME_SC_WRITE_FAULT = 0x280,
	NVME_SC_UNRECOVERED_READ_ERROR = 0x281,
	NVME_SC_COMPARE_FAILURE = 0x285,
	NVME_SC_ACCESS_DENIED = 0x286,
	NVME_SC_UNWRITTEN_BLOCK = 0x287,

	NVME_SC_INTERNAL_PATH_ERROR = 0x300,
	NVME_SC_HOST_PATH_ERROR = 0x370,
	NVME_SC_VENDOR_FIRST = 0x7c0,
};

/* Text for a person; never NULL. */
const char *nvme_status_text(uint16_t status);

/* ---- SGL descriptors
 * ----------------------------------------------------------------------------- */

struct nvme_sgl_descriptor {
	uint64_t address; /* or the offset in the capsule */
	uint32_t length;
	uint8_t reserved[3];
	uint8_t type; /* type bits 7:4, subtype bits 3:0 */
};
_Static_assert(sizeof(struct nvme_sgl_descriptor) == 16, "SGL descriptor");
_Static_assert(offsetof(struct nvme_sgl_descriptor, type) == 15, "SGL descriptor");

#define NVME_SGL_TYPE_DATA_OFFSET 0x01u /* data block, subtype offset: in the capsule */
#define NVME_SGL_TYPE_TRANSPORT                                                                    \
	0x5au /* transport data block, transport specific: by R2T or C2HData */

/* The two forms that NVMe/TCP knows. */
struct nvme_sgl {
	bool in_capsule;
	uint64_t offset; /* into the capsule's data; 0 unless in_capsule */
	uint32_t length;
};

/* 0; -EPROTO with the status to answer in ret_status when it is another descriptor or not well
 * formed. */
int nvme_sgl_decode(const uint8_t dptr[16], struct nvme_sgl *ret_sgl, uint16_t *ret_status);
void nvme_sgl_encode(uint8_t dptr[16], const struct nvme_sgl *sgl);

/* ---- fabrics commands: the fields within struct nvme_sqe
 * -------------------------------------------- */

/* Connect: CDW10 is RECFMT 15:0 and QID 31:16, CDW11 SQSIZE 15:0 (0's based) and CATTR 23:16, CDW12
 * KATO in ms. */
struct nvme_connect_cmd {
	uint16_t qid;
	uint16_t sqsize; /* 0's based */
	uint8_t cattr;
	uint32_t kato_ms;
};

#define NVME_CATTR_DISABLE_SQ_FLOW 0x04u /* no submission queue head pointer in completions */

static inline void nvme_connect_put(struct nvme_sqe *sqe, const struct nvme_connect_cmd *cmd)
{
	sqe->opcode = NVME_FABRICS;
	sqe->nsid = NVME_FABRICS_CONNECT;
	sqe->cdw10 = (uint32_t)cmd->qid << 16;
	sqe->cdw11 = cmd->sqsize | (uint32_t)cmd->cattr << 16;
	sqe->cdw12 = cmd->kato_ms;
}

static inline struct nvme_connect_cmd nvme_connect_get(const struct nvme_sqe *sqe)
{
	return (struct nvme_connect_cmd){
		.qid = (uint16_t)(sqe->cdw10 >> 16),
		.sqsize = (uint16_t)sqe->cdw11,
		.cattr = (uint8_t)(sqe->cdw11 >> 16),
		.kato_ms = sqe->cdw12,
	};
}

static inline uint16_t nvme_connect_recfmt(const struct nvme_sqe *sqe)
{
	return (uint16_t)sqe->cdw10;
}

struct nvme_connect_data {
	uint8_t hostid[16];
	uint16_t cntlid; /* FFFFh: a new one (dynamic controllers) */
	uint8_t reserved18[238];
	char subnqn[256];
	char hostnqn[256];
	uint8_t reserved768[256];
};
_Static_assert(sizeof(struct nvme_connect_data) == 1024, "connect data");
_Static_assert(offsetof(struct nvme_connect_data, subnqn) == 256, "connect data");
_Static_assert(offsetof(struct nvme_connect_data, hostnqn) == 512, "connect data");

#define NVME_CNTLID_DYNAMIC 0xffffu

/* Completion of a refused connect: offset of the invalid parameter 15:0, 1 << 16 when it is in the
 * data. */
#define NVME_CONNECT_INVALID_IN_DATA (1u << 16)
/* Completion of an accepted one: CNTLID 15:0; these bits ask for authentication. */
#define NVME_CONNECT_AUTH_REQUIRED_MASK 0x00060000u

/* Property get and set: CDW10 bits 2:0 are 0 for 4 bytes and 1 for 8; CDW11 the offset; CDW12 and
 * CDW13 the value. */
#define NVME_PROPERTY_8_BYTES 1u

enum {
	NVME_PROPERTY_CAP = 0x00, /* 8 bytes */
	NVME_PROPERTY_VS = 0x08,
	NVME_PROPERTY_CC = 0x14,
	NVME_PROPERTY_CSTS = 0x1c,
	NVME_PROPERTY_NSSR = 0x20,
};

/* CAP */
#define NVME_CAP_MQES_MASK   UINT64_C(0xffff) /* 0's based */
#define NVME_CAP_CQR         (UINT64_C(1) << 16)
#define NVME_CAP_TO_SHIFT    24 /* 8 bits, 500 ms each */
#define NVME_CAP_CSS_NVM     (UINT64_C(1) << 37)
#define NVME_CAP_MPSMIN(cap) ((unsigned)((cap) >> 48) & 0xfu)

/* CC */
#define NVME_CC_EN           (1u << 0)
#define NVME_CC_SHN_MASK     (3u << 14)
#define NVME_CC_SHN_NORMAL   (1u << 14)
#define NVME_CC_IOSQES_SHIFT 16
#define NVME_CC_IOCQES_SHIFT 20

/* CSTS */
#define NVME_CSTS_RDY           (1u << 0)
#define NVME_CSTS_CFS           (1u << 1)
#define NVME_CSTS_SHST_MASK     (3u << 2)
#define NVME_CSTS_SHST_COMPLETE (2u << 2)

#define NVME_VERSION_1_4 0x00010400u

/* ---- identify
 * ------------------------------------------------------------------------------------ */

/* CNS, CDW10 bits 7:0 of identify (CNTID in bits 31:16). */
enum {
	NVME_CNS_NAMESPACE = 0x00,
	NVME_CNS_CONTROLLER = 0x01,
	NVME_CNS_ACTIVE_NAMESPACES = 0x02,
	NVME_CNS_NAMESPACE_DESCRIPTORS = 0x03,
	NVME_CNS_COMMAND_SET_NAMESPACE = 0x05,
	NVME_CNS_COMMAND_SET_CONTROLLER = 0x06,
	NVME_CNS_INDEPENDENT_NAMESPACE = 0x08,
	NVME_CNS_COMMAND_SETS = 0x1c,
};

#define NVME_IDENTIFY_SIZE 4096u

struct nvme_id_ctrl {
	uint16_t vid;
	uint16_t ssvid;
	char sn[20]; /* ASCII filled up with blanks, as mn and fr */
	char mn[40];
	char fr[8];
	uint8_t rab;
	uint8_t ieee[3];
	uint8_t cmic;
	uint8_t mdts; /* largest transfer: 2^mdts units of CAP.MPSMIN; 0: no limit */
	uint16_t cntlid;
	uint32_t ver;
	uint32_t rtd3r;
	uint32_t rtd3e;
	uint32_t oaes; /* NVME_OAES_... */
	uint32_t ctratt;
	uint16_t rrls;
	uint8_t reserved102[9];
	uint8_t cntrltype; /* NVME_CNTRLTYPE_... */
	uint8_t fguid[16];
	uint16_t crdt[3];
	uint8_t reserved134[122];
	uint16_t oacs;
	uint8_t acl;
	uint8_t aerl; /* asynchronous event requests, 0's based */
	uint8_t frmw;
	uint8_t lpa;
	uint8_t elpe;
	uint8_t npss;
	uint8_t avscc;
	uint8_t apsta;
	uint16_t wctemp;
	uint16_t cctemp;
	uint16_t mtfa;
	uint32_t hmpre;
	uint32_t hmmin;
	uint8_t tnvmcap[16];
	uint8_t unvmcap[16];
	uint32_t rpmbs;
	uint16_t edstt;
	uint8_t dsto;
	uint8_t fwug;
	uint16_t kas; /* granularity of the keep-alive time-out, 100 ms units; 0: none */
	uint16_t hctma;
	uint16_t mntmt;
	uint16_t mxtmt;
	uint32_t sanicap;
	uint32_t hmminds;
	uint16_t hmmaxd;
	uint16_t nsetidmax;
	uint16_t endgidmax;
	uint8_t anatt;
	uint8_t anacap;
	uint32_t anagrpmax;
	uint32_t nanagrpid;
	uint32_t pels;
	uint16_t domainid;
	uint8_t reserved358[10];
	uint8_t megcap[16];
	uint8_t reserved384[128];
	uint8_t sqes; /* 66h: 64 bytes */
	uint8_t cqes; /* 44h: 16 bytes */
	uint16_t maxcmd;
	uint32_t nn;
	uint16_t oncs; /* NVME_ONCS_... */
	uint16_t fuses;
	uint8_t fna;
	uint8_t vwc; /* bit 0: a volatile write cache is there; bits 2:1 = 3: flush takes NSID
			FFFFFFFFh */
	uint16_t awun;
	uint16_t awupf;
	uint8_t icsvscc;
	uint8_t nwpc;
	uint16_t acwu;
	uint16_t ocfs;
	uint32_t sgls; /* NVME_SGLS_... */
	uint32_t mnan;
	uint8_t maxdna[16];
	uint32_t maxcna;
	uint8_t reserved564[204];
	char subnqn[256];
	uint8_t reserved1024[768];
	uint32_t ioccsz; /* largest I/O capsule, 16-byte units, with the 64-byte command */
	uint32_t iorcsz; /* 1 */
	uint16_t icdoff; /* start of in-capsule data after the command, 16-byte units */
	uint8_t fcatt;   /* bit 0: 1 static controllers */
	uint8_t msdbd;   /* SGL data blocks a capsule may have, 1 */
	uint16_t ofcs;
	uint8_t dctype;
	uint8_t reserved1807[241];
	uint8_t psd[32][32];
	uint8_t vendor[1024];
};
_Static_assert(sizeof(struct nvme_id_ctrl) == NVME_IDENTIFY_SIZE, "identify controller");
_Static_assert(offsetof(struct nvme_id_ctrl, mdts) == 77, "identify controller");
_Static_assert(offsetof(struct nvme_id_ctrl, ver) == 80, "identify controller");
_Static_assert(offsetof(struct nvme_id_ctrl, cntrltype) == 111, "identify controller");
_Static_assert(offsetof(struct nvme_id_ctrl, oacs) == 256, "identify controller");
_Static_assert(offsetof(struct nvme_id_ctrl, kas) == 320, "identify controller");
_Static_assert(offsetof(struct nvme_id_ctrl, anatt) == 342, "identify controller");
_Static_assert(offsetof(struct nvme_id_ctrl, sqes) == 512, "identify controller");
_Static_assert(offsetof(struct nvme_id_ctrl, vwc) == 525, "identify controller");
_Static_assert(offsetof(struct nvme_id_ctrl, sgls) == 536, "identify controller");
_Static_assert(offsetof(struct nvme_id_ctrl, subnqn) == 768, "identify controller");
_Static_assert(offsetof(struct nvme_id_ctrl, ioccsz) == 1792, "identify controller");
_Static_assert(offsetof(struct nvme_id_ctrl, psd) == 2048, "identify controller");

#define NVME_CNTRLTYPE_IO        1u
#define NVME_CNTRLTYPE_DISCOVERY 2u
#define NVME_OAES_NAMESPACES     (1u << 8)
#define NVME_OAES_DISCOVERY      (1u << 31)
#define NVME_CTRATT_HOSTID_128   (1u << 0)
#define NVME_LPA_EXTENDED        (1u << 2) /* get log page with offset and long length */
#define NVME_CMIC_MANY_CTRLS     (1u << 1)
#define NVME_ONCS_COMPARE        (1u << 0)
#define NVME_ONCS_DSM            (1u << 2)
#define NVME_ONCS_WRITE_ZEROES   (1u << 3)
#define NVME_ONCS_RESERVATIONS   (1u << 5)
#define NVME_SGLS_ANY_ALIGNMENT  (1u << 0) /* bits 1:0 = 1: SGLs supported at byte alignment */
#define NVME_SGLS_KEYED          (1u << 2)
#define NVME_SGLS_OFFSET         (1u << 20) /* SGL data block with offset: data in the capsule */
#define NVME_SGLS_TRANSPORT      (1u << 21)

struct nvme_lba_format {
	uint16_t ms;
	uint8_t lbads; /* log2 of the block size */
	uint8_t rp;
};

struct nvme_id_ns {
	uint64_t nsze;
	uint64_t ncap;
	uint64_t nuse;
	uint8_t nsfeat; /* bit 0 thin, bit 1 NAWUN.., bit 2 deallocated errors, bit 3 no reuse of
			   ids, bit 4 NPWG.. */
	uint8_t nlbaf;  /* 0's based */
	uint8_t flbas;
	uint8_t mc;
	uint8_t dpc;
	uint8_t dps;
	uint8_t nmic;
	uint8_t rescap;
	uint8_t fpi;
	uint8_t dlfeat; /* bits 2:0 = 1: deallocated blocks read as zeros; bit 3: write zeroes may
			   deallocate */
	uint16_t nawun;
	uint16_t nawupf;
	uint16_t nacwu;
	uint16_t nabsn;
	uint16_t nabo;
	uint16_t nabspf;
	uint16_t noiob;
	uint8_t nvmcap[16];
	uint16_t npwg;
	uint16_t npwa;
	uint16_t npdg;
	uint16_t npda;
	uint16_t nows;
	uint16_t mssrl;
	uint32_t mcl;
	uint8_t msrc;
	uint8_t reserved81[11];
	uint32_t anagrpid;
	uint8_t reserved96[3];
	uint8_t nsattr; /* bit 0: write protected */
	uint16_t nvmsetid;
	uint16_t endgid;
	uint8_t nguid[16];
	uint8_t eui64[8];
	struct nvme_lba_format lbaf[64];
	uint8_t vendor[3712];
};
_Static_assert(sizeof(struct nvme_id_ns) == NVME_IDENTIFY_SIZE, "identify namespace");
_Static_assert(offsetof(struct nvme_id_ns, dlfeat) == 33, "identify namespace");
_Static_assert(offsetof(struct nvme_id_ns, npwg) == 64, "identify namespace");
_Static_assert(offsetof(struct nvme_id_ns, nsattr) == 99, "identify namespace");
_Static_assert(offsetof(struct nvme_id_ns, nguid) == 104, "identify namespace");
_Static_assert(offsetof(struct nvme_id_ns, lbaf) == 128, "identify namespace");

/* One entry of the namespace identification descriptor list; `length` bytes of id follow. */
struct nvme_ns_descriptor {
	uint8_t type;
	uint8_t length;
	uint8_t reserved[2];
};
_Static_assert(sizeof(struct nvme_ns_descriptor) == 4, "namespace descriptor");

#define NVME_NIDT_EUI64 1u /* 8 bytes */
#define NVME_NIDT_NGUID 2u /* 16 bytes */
#define NVME_NIDT_UUID  3u /* 16 bytes */
#define NVME_NIDT_CSI   4u /* 1 byte: command set, 0 NVM */

/* ---- features
 * -------------------------------------------------------------------------------------- */

enum {
	NVME_FEATURE_ARBITRATION = 0x01,
	NVME_FEATURE_POWER_MANAGEMENT = 0x02,
	NVME_FEATURE_TEMPERATURE = 0x04,
	NVME_FEATURE_ERROR_RECOVERY = 0x05,
	NVME_FEATURE_VOLATILE_WRITE_CACHE = 0x06,
	NVME_FEATURE_NUMBER_OF_QUEUES =
		0x07, /* both CDW11 and answer: NSQR 15:0, NCQR 31:16, 0's based */
	NVME_FEATURE_WRITE_ATOMICITY = 0x0a,
	NVME_FEATURE_ASYNC_EVENT_CONFIG = 0x0b,
	NVME_FEATURE_TIMESTAMP = 0x0e,
	NVME_FEATURE_KEEP_ALIVE_TIMER = 0x0f,
	NVME_FEATURE_HOST_ID = 0x81,
};

/* Answer of an asynchronous event request: type 2:0, information 15:8, log page 23:16. */
#define NVME_EVENT_TYPE_NOTICE       2u
#define NVME_EVENT_NOTICE_NAMESPACES 0x00u
#define NVME_EVENT_NOTICE_DISCOVERY  0xf0u

/* ---- log pages
 * ------------------------------------------------------------------------------------- */

enum {
	NVME_LOG_SUPPORTED_PAGES = 0x00,
	NVME_LOG_ERROR = 0x01,
	NVME_LOG_SMART = 0x02,
	NVME_LOG_FIRMWARE = 0x03,
	NVME_LOG_CHANGED_NAMESPACES = 0x04,
	NVME_LOG_COMMAND_EFFECTS = 0x05,
	NVME_LOG_ANA = 0x0c,
	NVME_LOG_DISCOVERY = 0x70,
};

struct nvme_log_error_entry {
	uint64_t error_count;
	uint16_t sqid;
	uint16_t cid;
	uint16_t status;
	uint16_t location;
	uint64_t lba;
	uint32_t nsid;
	uint8_t vendor;
	uint8_t trtype;
	uint8_t reserved30[2];
	uint64_t command_info;
	uint16_t trtype_info;
	uint8_t reserved42[22];
};
_Static_assert(sizeof(struct nvme_log_error_entry) == 64, "error log entry");

struct nvme_log_smart {
	uint8_t critical_warning;
	uint8_t temperature[2]; /* Kelvin */
	uint8_t spare;
	uint8_t spare_threshold;
	uint8_t used_percent;
	uint8_t endurance_warning;
	uint8_t reserved7[25];
	uint8_t data_units_read[16];
	uint8_t data_units_written[16];
	uint8_t host_reads[16];
	uint8_t host_writes[16];
	uint8_t busy_minutes[16];
	uint8_t power_cycles[16];
	uint8_t power_on_hours[16];
	uint8_t unsafe_shutdowns[16];
	uint8_t media_errors[16];
	uint8_t error_entries[16];
	uint32_t warning_temperature_minutes;
	uint32_t critical_temperature_minutes;
	uint16_t temperature_sensors[8];
	uint8_t reserved216[296];
};
_Static_assert(sizeof(struct nvme_log_smart) == 512, "SMART log");
_Static_assert(offsetof(struct nvme_log_smart, warning_temperature_minutes) == 192, "SMART log");

struct nvme_log_firmware {
	uint8_t afi;
	uint8_t reserved1[7];
	char frs[7][8];
	uint8_t reserved64[448];
};
_Static_assert(sizeof(struct nvme_log_firmware) == 512, "firmware slot log");

struct nvme_log_changed_namespaces {
	uint32_t nsid[1024]; /* rising, 0 ends; only FFFFFFFFh: more than fit */
};
_Static_assert(sizeof(struct nvme_log_changed_namespaces) == 4096, "changed namespaces log");

struct nvme_log_command_effects {
	uint32_t admin[256]; /* bit 0: supported, bit 1: changes blocks */
	uint32_t io[256];
	uint8_t reserved2048[2048];
};
_Static_assert(sizeof(struct nvme_log_command_effects) == 4096, "command effects log");

#define NVME_EFFECT_SUPPORTED (1u << 0)
#define NVME_EFFECT_BLOCKS    (1u << 1)

struct nvme_log_discovery_entry {
	uint8_t trtype;
	uint8_t adrfam;
	uint8_t subtype;
	uint8_t treq; /* bits 1:0: 2 secure channel not required; bit 2: SQ flow control may be
			 disabled */
	uint16_t portid;
	uint16_t cntlid;
	uint16_t asqsz;
	uint16_t eflags;
	uint8_t reserved12[20];
	char trsvcid[32]; /* ASCII; these are filled up with zeros */
	uint8_t reserved64[192];
	char subnqn[256];
	char traddr[256];
	uint8_t tsas[256]; /* TCP: byte 0 is the security type, 0 none */
};
_Static_assert(sizeof(struct nvme_log_discovery_entry) == 1024, "discovery log entry");
_Static_assert(offsetof(struct nvme_log_discovery_entry, trsvcid) == 32, "discovery log entry");
_Static_assert(offsetof(struct nvme_log_discovery_entry, subnqn) == 256, "discovery log entry");
_Static_assert(offsetof(struct nvme_log_discovery_entry, traddr) == 512, "discovery log entry");

struct nvme_log_discovery {
	uint64_t genctr;
	uint64_t numrec;
	uint16_t recfmt;
	uint8_t reserved18[1006];
	/* entries follow */
};
_Static_assert(sizeof(struct nvme_log_discovery) == 1024, "discovery log");

#define NVME_TRTYPE_TCP              3u
#define NVME_ADRFAM_IPV4             1u
#define NVME_ADRFAM_IPV6             2u
#define NVME_SUBTYPE_DISCOVERY_OTHER 1u
#define NVME_SUBTYPE_NVME            2u
#define NVME_SUBTYPE_DISCOVERY_SELF  3u

/*
 * Get log page: LID CDW10 7:0, RAE CDW10 bit 15, NUMDL CDW10 31:16, NUMDU CDW11 15:0 (dwords, 0's
 * based), offset in bytes CDW12 and CDW13.
 */
static inline uint64_t nvme_log_length_bytes(const struct nvme_sqe *sqe)
{
	uint64_t numd = sqe->cdw10 >> 16 | (uint64_t)(sqe->cdw11 & 0xffffu) << 16;

	return (numd + 1) * 4;
}

static inline uint64_t nvme_log_offset_bytes(const struct nvme_sqe *sqe)
{
	return sqe->cdw12 | (uint64_t)sqe->cdw13 << 32;
}

#endif
