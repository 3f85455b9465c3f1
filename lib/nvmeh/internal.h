/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of nvmeh share.
 *
 *	nvmeh.c    the association: memory, life cycle (running, failed, closed), submission
 *	setup.c    the ladder from the first connection to ready, then keep-alive
 *	queue.c    one queue: connection, slots of commands, completion
 *	send.c     gathers PDUs into sends
 *	receive.c  takes the received bytes apart
 *
 * A command's way: waiting -> slot (bound to a CID) -> send list -> in a send -> answered -> done.
 * A slot is released when it was answered and none of its bytes are in the send list or in a send.
 */
#ifndef NVMEH_INTERNAL_H
#define NVMEH_INTERNAL_H

#include "nvme/pdu.h"
#include "nvmeh/nvmeh.h"

#define QUEUE_DEPTH_DEFAULT 128u
#define QUEUE_DEPTH_MAX     1024u
#define ADMIN_DEPTH         32u
#define ADMIN_CAPSULE_MAX   8192u /* in-capsule data that every admin queue takes */
#define CAPSULE_MAX         (1024u * 1024)
#define SEND_BYTES_MAX      (512u * 1024)
#define SEND_HEADERS_IO     (16u * 1024)
#define SEND_HEADERS_ADMIN  (4u * 1024)
#define RECEIVE_BYTES_IO    (64u * 1024)
#define RECEIVE_BYTES_ADMIN (16u * 1024)
#define RECEIVE_DIRECT_MIN                                                                         \
	4096u /* this much of one C2HData still to come: received into the command's buffer */
#define SETUP_TIMEOUT_DEFAULT (10 * IO_NS_PER_S)
#define REASON_SIZE           256

/* A place in a command's iov. */
struct cursor {
	unsigned index;
	size_t offset;
};

/* A command that has a CID.  The queue's; on the free list while cmd is NULL. */
struct slot {
	struct nvmeh_cmd *cmd; /* the association's until done */
	struct list_node node; /* queue->free */
	struct list_node
		send_node; /* queue->to_send: the capsule or H2CData is still to be gathered */
	struct list_node flight_node; /* queue->in_flight: bytes of it are in the send under way */
	uint16_t cid;
	bool in_capsule;
	bool capsule_sent; /* gathered at least */
	bool answered;
	struct cursor cursor; /* next byte to send or to receive */
	uint32_t moved;       /* bytes before the cursor */
	uint32_t ordered;     /* bytes asked for by R2T and not gathered yet */
	uint16_t ttag;
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
	struct pdu pdu;
	struct pdu_frame frame;
	struct slot *slot; /* whose data these are; NULL: dropped */
	uint32_t left;     /* of the phase */
	uint32_t crc;
	uint32_t direct_bytes; /* of the receive under way, into the slot's buffer */
};

struct queue {
	struct nvmeh *assoc;
	uint16_t qid;
	uint16_t entries;

	struct task setup;
	enum { QUEUE_START, QUEUE_CONNECTING, QUEUE_NEGOTIATING, QUEUE_ATTACHING, QUEUE_UP } state;
	struct io_connect connect;
	bool connecting;
	struct io_conn *conn; /* ours until io_conn_close(), then NULL when closed */
	bool shut;            /* io_conn_close() was called, or there is nothing to close */
	bool negotiated;
	bool open; /* commands of the owner are sent */

	struct pdu_limits limits;
	struct pdu_encoding encoding;
	uint32_t maxh2cdata;
	uint32_t capsule_max; /* in-capsule data */

	struct slot *slots; /* owned, slot_count of them */
	unsigned slot_count, free_count;
	struct list free;
	struct list waiting; /* nvmeh_cmd */

	struct task send_task;
	struct io_send send;
	bool sending;
	bool send_yielded; /* others had their turn to submit since the first wake */
	struct list to_send, in_flight;
	struct iovec send_iov[IO_IOV_MAX];
	unsigned send_iov_count;
	uint32_t send_bytes;
	uint8_t *send_headers; /* owned */
	uint32_t send_headers_size, send_headers_used;

	struct task receive_task;
	struct io_recv recv;
	bool receiving, received;
	bool ending, hung_up; /* a TermReq was sent: only the end of the stream is waited for */
	struct receiver receiver;
};

struct setup {
	struct task task;
	enum {
		SETUP_START,
		SETUP_ADMIN_QUEUE,
		SETUP_CAP,
		SETUP_ENABLE,
		SETUP_STATUS,
		SETUP_PAUSE,
		SETUP_IDENTIFY,
		SETUP_QUEUE_COUNT,
		SETUP_IO_QUEUE,
	} state;
	struct io_timer deadline, pause;
	unsigned queue_index; /* that is being set up */
	bool is_ready;
};

struct keep_alive {
	struct task task;
	enum { KEEP_ALIVE_START, KEEP_ALIVE_PAUSE, KEEP_ALIVE_SENT } state;
	struct io_timer timer;
};

struct nvmeh {
	struct io *io;
	struct nvmeh_options options;

	struct task life;
	enum {
		LIFE_START,
		LIFE_RUNNING,
		LIFE_SEND_FREE,
		LIFE_TERM_SENT,
		LIFE_HUNG_UP,
		LIFE_DRAINING,
		LIFE_DOWN
	} state;
	struct io_timer life_timer;
	bool closing;
	int fail_code;
	char reason[REASON_SIZE];
	struct queue *term_queue; /* where the TermReq goes; NULL: none */
	uint8_t term[PDU_TERM_BYTES_MAX];
	uint32_t term_length;
	struct list dead; /* commands to complete with -ECONNRESET */

	struct setup setup;
	struct keep_alive keep_alive;
	struct nvmeh_cmd cmd; /* of the set-up and of keep-alive */
	struct iovec cmd_iov;
	bool cmd_done;
	uint8_t *page; /* owned, NVME_IDENTIFY_SIZE: data of cmd */

	uint16_t cntlid;
	uint64_t cap;
	uint32_t transfer_max;

	struct nvmeh_stats stats;
	struct queue *queues; /* owned; 0 is the admin queue */
	unsigned queue_count;
};

/* nvmeh.c */
/* The first failure counts.  Everything stops at once; the rest is the life cycle's. */
void assoc_fail(struct nvmeh *assoc, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* As assoc_fail(-EPROTO), and the controller is told why. */
void assoc_fail_pdu(struct queue *queue, const struct pdu_fault *fault, const uint8_t *header,
	size_t header_length);
bool assoc_is_over(const struct nvmeh *assoc);

/* setup.c */
task_step setup_step;
task_step keep_alive_step;
task_step queue_setup_step;

/* queue.c */
int queue_init(struct queue *queue, struct nvmeh *assoc, unsigned qid);
void queue_free(struct queue *queue);
/* The controller's limit; before the queue is used. */
void queue_limit_entries(struct queue *queue, unsigned entries);
void queue_connect(struct queue *queue);
void queue_shut(struct queue *queue);
bool queue_is_down(const struct queue *queue);
/* Gives waiting commands their slots. */
void queue_dispatch(struct queue *queue);
/* Puts one of our own commands before those of the owner. */
void queue_submit_first(struct queue *queue, struct nvmeh_cmd *cmd);
/* NULL: there is no command of this CID under way. */
struct slot *queue_slot(struct queue *queue, uint16_t cid);
void queue_answer(struct queue *queue, struct slot *slot, const struct nvme_cqe *cqe);
/* Completes the command if it was answered and all its bytes are sent. */
void queue_settle(struct queue *queue, struct slot *slot);
/* Moves all commands to the list of the dead; only when the queue is down. */
void queue_bury(struct queue *queue, struct list *dead);
unsigned slot_direction(const struct slot *slot);

/* send.c */
task_step nvmeh_send_step;
/* ICReq or TermReq: these bytes alone.  Nothing may be under way. */
void send_raw(struct queue *queue, const uint8_t *bytes, uint32_t length);
void cursor_advance(struct cursor *cursor, const struct nvmeh_cmd *cmd, size_t bytes);

/* receive.c */
task_step nvmeh_receive_step;
void receive_start(struct queue *queue);
/* What else comes is not looked at: only waits for the end of the stream. */
void receive_end(struct queue *queue);
/* A receive that writes into the command's buffer is under way. */
bool receive_is_into(const struct queue *queue, const struct nvmeh_cmd *cmd);

#endif
