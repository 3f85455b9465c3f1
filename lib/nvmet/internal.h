/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of nvmet share.
 *
 *	target.c     the port: listener, subsystems, what is over and can be freed
 *	conn.c       one connection: memory, life, closing
 *	receive.c    takes the received bytes apart
 *	request.c    commands: slots, checks, buffers, execution, answers
 *	send.c       gathers answers into sends
 *	ctrl.c       associations: life, keep-alive, events
 *	fabrics.c    Connect, properties
 *	admin.c      admin commands; features.c, identify.c, log_page.c
 *	blk.c        a blk_dev as a subsystem
 *
 * A request's way:
 *
 *	FREE -> RECEIVING (data in its capsule) ----------------------------> READY -> EXECUTING
 *	     -> AWAIT_BUFFER -> SEND_R2T -> AWAIT_DATA (H2CData) -> -------->
 *	     -> AWAIT_BUFFER (data to the host) ---------------------------->
 *	EXECUTING -> ANSWERED (in the send list) -> SENDING (data in a send) -> DONE -> FREE
 *
 * Nothing can lock up: a slot that waits for data from the host owns its buffer, and its connection
 * stops receiving only for a slot or for the buffer of in-capsule data.  Slots are the connection's
 * own, more than a host may use.  In-capsule data have a spare buffer of the connection, whose
 * command needs nothing more from the host.
 */
#ifndef NVMET_INTERNAL_H
#define NVMET_INTERNAL_H

#include "nvme/pdu.h"
#include "nvmet/nvmet.h"

#define QUEUE_DEPTH_DEFAULT  128u
#define QUEUE_DEPTH_MIN      32u
#define QUEUE_DEPTH_MAX      1024u
#define QUEUES_MAX_DEFAULT   64u
#define REQUESTS_MAX_DEFAULT 1024u
#define CAPSULE_DATA_MAX     8192u
#define H2C_DATA_MAX         (256u * 1024)
#define TRANSFER_MAX         BUFPOOL_BUFFER_MAX
#define MDTS                 8u /* 4096 << 8 */
#define RECEIVE_BYTES_ADMIN  (16u * 1024)
#define RECEIVE_BYTES_IO     (128u * 1024)
#define RECEIVE_DIRECT_MIN   4096u
#define RECEIVE_BUDGET       64u /* requests a turn */
#define SEND_HEADERS_BYTES   8192u
#define SEND_BYTES_MAX       (512u * 1024)
#define ASYNC_EVENTS_MAX     4u
#define SETUP_TIMEOUT_NS     (10 * IO_NS_PER_S)
#define LINGER_NS            (2 * IO_NS_PER_S)
#define DISCOVERY_KATO_MS    120000u
#define KATO_UNIT_MS         100u
#define CNTLID_MAX           0xffefu
#define FIRMWARE_REVISION    STRAKE_VERSION
#define NVME_VERSION_2_0     0x00020000u
#define TTAG_INDEX_BITS      11u

struct conn;

enum request_state {
	REQUEST_FREE,
	REQUEST_RECEIVING,
	REQUEST_AWAIT_BUFFER,
	REQUEST_SEND_R2T,
	REQUEST_AWAIT_DATA,
	REQUEST_READY,
	REQUEST_EXECUTING,
	REQUEST_HELD, /* an asynchronous event request */
	REQUEST_ANSWERED,
	REQUEST_SENDING,
	REQUEST_DONE, /* answered; its handler still has it */
};

struct request {
	struct nvmet_req req;
	struct conn *conn;
	/* conn->free, await_buffer, to_send or in_flight, target->ready */
	struct list_node node;
	enum request_state state;
	uint16_t index;
	uint16_t ttag; /* index and a generation above it */
	uint16_t status;
	bool counted; /* the handler's: in the counts of target, connection and association */
	bool spare;   /* its buffer is the connection's spare one */
	bool digest_error;
	uint32_t buffer_bytes; /* 0: no buffer */
	uint32_t moved;        /* received so far */
	uint64_t dw01;
};

enum receive_phase {
	RECEIVE_HEADER,
	RECEIVE_PADDING,
	RECEIVE_DATA,
	RECEIVE_DIGEST,
};

struct receiver {
	enum receive_phase phase;
	uint8_t *bytes; /* owned; [begin, end) is received and not used yet */
	uint32_t size, begin, end;
	uint32_t size_wanted;
	struct pdu pdu;
	struct pdu_frame frame;
	struct request *request; /* whose data these are; NULL: dropped */
	uint32_t left;           /* of the phase */
	uint32_t crc;
	uint32_t direct_bytes; /* of the receive under way, into the request's buffer */
	bool stalled;          /* waits for a slot or a buffer */
};

struct conn {
	struct nvmet *target;
	struct list_node node; /* target->conns */
	struct io_conn *io_conn;
	struct nvmet_ctrl *ctrl;    /* NULL before Connect and after the end */
	struct request *connect;    /* executing: it waits for the host's other associations */
	struct list_node ctrl_node; /* ctrl->conns */
	uint16_t qid;
	uint16_t entries;
	uint16_t sqhd;
	bool no_flow_control;

	struct task life_task;
	struct io_timer timer; /* until Connect, and after a refusal */
	bool closing;          /* io_conn_close() was called */
	bool closed;
	bool ended; /* detached from everything but executing requests */
	bool refused;
	unsigned counted; /* requests at handlers */

	struct pdu_limits limits;
	struct pdu_encoding encoding;
	bool negotiated;

	struct request first;     /* index 0; the only one until Connect */
	struct request *requests; /* owned; index 1 .. */
	unsigned request_count;   /* of requests */
	struct list free, await_buffer, to_send, in_flight;
	struct bufpool_waiter buffer_waiter;
	uint8_t *spare; /* owned, CAPSULE_DATA_MAX */
	bool spare_used;

	struct task receive_task;
	struct io_recv recv;
	bool receiving, received;
	struct receiver receiver;

	struct task send_task;
	struct io_send send;
	bool sending, send_yielded;
	bool icresp_pending;
	bool term_sent;
	struct iovec send_iov[IO_IOV_MAX];
	unsigned send_iov_count;
	uint32_t send_bytes;
	uint8_t *send_headers; /* owned, SEND_HEADERS_BYTES */
	uint32_t send_headers_used;
	uint8_t term[PDU_TERM_BYTES_MAX];
	uint32_t term_length;
};

/* A kind of notice: one answer to an event request, then none until its log page was read. */
struct notice {
	bool pending, masked;
};

enum feature {
	FEATURE_ARBITRATION,
	FEATURE_POWER_MANAGEMENT,
	FEATURE_TEMPERATURE_OVER,
	FEATURE_TEMPERATURE_UNDER,
	FEATURE_ERROR_RECOVERY,
	FEATURE_WRITE_ATOMICITY,
	FEATURE_ASYNC_EVENTS,
	FEATURE_COUNT,
};

struct nvmet_ctrl {
	struct nvmet *target;
	struct nvmet_subsys *subsys;
	struct list_node node; /* target->ctrls */
	uint16_t cntlid;
	char hostnqn[NVME_NQN_SIZE];
	uint8_t hostid[16];
	void *owner;
	struct list conns;
	struct conn *admin;    /* NULL when it is gone */
	bool dropped;          /* takes no more connections */
	bool gone;             /* the subsystem was told */
	unsigned counted;      /* requests at handlers */
	unsigned unanswered;   /* those of them that are not answered */
	unsigned queues_given; /* I/O queues */

	uint32_t cc, csts;
	uint32_t features[FEATURE_COUNT];
	uint32_t kato_ms;
	uint64_t alive_ns;
	struct task task;
	struct io_timer timer;

	struct request *events[ASYNC_EVENTS_MAX]; /* held requests */
	unsigned event_count;
	struct notice namespaces_changed, discovery_changed;
};

struct nvmet {
	struct io *io;
	struct nvmet_options options;
	char discovery_nqn[NVME_NQN_SIZE];
	struct io_listener listener;
	struct task task;
	bool closing;
	void (*closed)(void *ctx);
	void *closed_ctx;

	struct list subsystems;
	struct nvmet_subsys discovery;
	uint64_t discovery_generation;
	struct list ctrls;
	struct list conns;
	unsigned conn_count;
	uint16_t cntlid_last;

	struct list ready; /* requests that wait for others to end */
	unsigned counted;  /* requests at handlers */

	struct nvmet_stats stats;
};

/* ---- target.c ---- */
/* NULL: there is none (or it is being removed). */
struct nvmet_subsys *target_find_subsys(struct nvmet *target, const char *nqn);
bool target_host_allowed(struct nvmet_subsys *subsys, const char *hostnqn);

/* ---- conn.c ---- */
void conn_accept(struct nvmet *target, struct io_conn *io_conn);
/* Closes at once; the rest follows when everything in flight is over. */
void conn_shut(struct conn *conn);
/* Says why by a C2HTermReq, then closes. */
void conn_refuse(struct conn *conn, const struct pdu_fault *fault, const uint8_t *header,
	size_t header_length);
/* Slots for a queue of this many entries.  0 or -ENOMEM. */
int conn_add_requests(struct conn *conn, unsigned entries);
static inline bool conn_is_over(const struct conn *conn)
{
	return conn->closing || conn->refused;
}

/* ---- receive.c ---- */
task_step receive_step;

/* ---- request.c ---- */
struct request *request_of_index(struct conn *conn, unsigned index);
/* NULL: none is free. */
struct request *request_take(struct conn *conn);
void request_recycle(struct request *request);
/* Checks the command of a capsule with this much data.  0 or the status to answer. */
uint16_t request_judge(struct request *request, uint32_t capsule_bytes);
/* A buffer for in-capsule data.  false: none now. */
bool request_get_capsule_buffer(struct request *request);
/* The capsule is there, but for in-capsule data. */
void request_begin(struct request *request);
/* All data are there. */
void request_data_complete(struct request *request);
/* Serves those that wait for a buffer, as far as there are some. */
void conn_serve_buffers(struct conn *conn);
/* Runs requests that are ready, as far as requests_max allows. */
void target_run_ready(struct nvmet *target);
void request_answer(struct request *request, uint16_t status, uint64_t dw01);
/* Takes it back from its handler: an event request is held. */
void request_hold(struct request *request);
/* The end of a connection. */
void conn_drop_requests(struct conn *conn);

/* ---- send.c ---- */
task_step send_step;

/* ---- ctrl.c ---- */
struct nvmet_ctrl *ctrl_new(
	struct nvmet *target, struct nvmet_subsys *subsys, const struct nvme_connect_data *data);
void ctrl_free(struct nvmet_ctrl *ctrl);
struct nvmet_ctrl *ctrl_find(struct nvmet *target, uint16_t cntlid);
void ctrl_attach(struct nvmet_ctrl *ctrl, struct conn *conn);
void ctrl_detach(struct nvmet_ctrl *ctrl, struct conn *conn);
void ctrl_set_kato(struct nvmet_ctrl *ctrl, uint32_t kato_ms);
/* Drops the I/O connections. */
void ctrl_drop_io(struct nvmet_ctrl *ctrl);
bool ctrl_is_discovery(const struct nvmet_ctrl *ctrl);
/* Answers event requests with what is pending. */
void ctrl_send_events(struct nvmet_ctrl *ctrl);
static inline bool ctrl_is_ready(const struct nvmet_ctrl *ctrl)
{
	return (ctrl->csts & NVME_CSTS_RDY) != 0;
}
/* I/O queues that an association may have. */
unsigned target_io_queues_max(const struct nvmet *target);

/* ---- fabrics.c, admin.c, features.c, identify.c, log_page.c ---- */
void fabrics_command(struct request *request);
/* Another association is over: who waited for that goes on, or ends with its connection. */
void fabrics_run_connects(struct nvmet *target);
void admin_command(struct request *request);
void features_set(struct request *request);
void features_get(struct request *request);
void features_init(struct nvmet_ctrl *ctrl);
void identify_command(struct request *request);
void log_page_command(struct request *request);
/* Copies the part of a page that was asked for; the rest of the buffer is zeros already. */
void request_fill(struct request *request, const void *from, size_t length, uint64_t offset);
/* ASCII filled up with blanks. */
void text_put(char *to, size_t size, const char *text);

#endif
