/* SPDX-License-Identifier: Apache-2.0 */
/* Making and freeing the ring. */
#include "base/bytes.h"
#include "uring/internal.h"
#include "uring/uring.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ENTRIES_DEFAULT 256u
#define CQ_FACTOR       8u /* completions may come in bursts */

/* From the best to the plainest; a kernel that does not know a flag says EINVAL. */
static const struct {
	unsigned flags;
	const char *text;
} setups[] = {
	{IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
		"SINGLE_ISSUER DEFER_TASKRUN COOP_TASKRUN TASKRUN_FLAG SUBMIT_ALL"},
	{IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
			IORING_SETUP_SUBMIT_ALL,
		"SINGLE_ISSUER COOP_TASKRUN TASKRUN_FLAG SUBMIT_ALL"},
	{IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
		"COOP_TASKRUN TASKRUN_FLAG SUBMIT_ALL"},
	{0, "plain"},
};

static int explain(int error, struct err *err)
{
	switch (error) {
	case -EPERM:
	case -EACCES:
		return err_set(err, -EPERM,
			"io_uring is forbidden here: allow it with `sysctl "
			"kernel.io_uring_disabled=0`, "
			"or in a container with a seccomp profile that lets io_uring_setup, "
			"io_uring_enter and io_uring_register through");
	case -ENOSYS:
		return err_set(err, -ENOSYS,
			"io_uring is not there: it needs Linux 5.11 or newer with CONFIG_IO_URING, "
			"and in "
			"a container a seccomp profile that lets io_uring_setup, io_uring_enter "
			"and "
			"io_uring_register through");
	case -ENOMEM:
		return err_set(err, -ENOMEM,
			"no memory for io_uring: raise the limit of locked memory (ulimit -l)");
	default:
		return err_set(err, error, "io_uring_setup: %s", err_describe(error));
	}
}

/* A filter may let the set-up through and not the rest: better to know it now. */
static int try_ring(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	io_uring_prep_nop(sqe);
	int error = io_uring_submit_and_wait(ring, 1);

	if (error < 0) {
		return error;
	}
	error = io_uring_peek_cqe(ring, &cqe);
	if (error == 0) {
		io_uring_cqe_seen(ring, cqe);
	}
	return error;
}

static int make_ring(struct uring *uring, struct err *err)
{
	const struct real_options *options = &uring->real.options;
	unsigned entries = options->ring_entries != 0 ? options->ring_entries : ENTRIES_DEFAULT;
	int error = -EINVAL;

	for (unsigned i = options->ring_first_setup; i < ARRAY_COUNT(setups) && error == -EINVAL;
		i++) {
		struct io_uring_params params = {
			.flags = setups[i].flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
			.cq_entries = entries * CQ_FACTOR,
		};

		error = io_uring_queue_init_params(entries, &uring->ring, &params);
		if (error == 0) {
			(void)snprintf(uring->real.text, sizeof(uring->real.text), "io_uring %s",
				setups[i].text);
		}
	}
	if (error != 0) {
		return explain(error, err);
	}
	unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;

	if ((uring->ring.features & needed) != needed) {
		io_uring_queue_exit(&uring->ring);
		return explain(-ENOSYS, err);
	}
	error = try_ring(&uring->ring);
	if (error != 0) {
		io_uring_queue_exit(&uring->ring);
		return explain(error, err);
	}
	return 0;
}

static int uring_open(struct real *real, struct err *err)
{
	struct uring *uring = uring_of_real(real);
	int error = make_ring(uring, err);

	if (error == 0) {
		/* Spares each system call the look-up of the descriptor; kernels before 5.18 refuse
		 * it. */
		(void)io_uring_register_ring_fd(&uring->ring);
	}
	return error;
}

static void uring_close(struct real *real)
{
	struct uring *uring = uring_of_real(real);

	uring_drain(uring);
	io_uring_queue_exit(&uring->ring);
}

static const struct io_ops io_ops = {
	.now_ns = real_now_ns,
	.post = real_post,
	.listen = uring_listen,
	.unlisten = uring_unlisten,
	.connect = uring_connect,
	.fd_submit = uring_fd_submit,
	.fd_cancel = uring_fd_cancel,
	.fd_forget = uring_fd_forget,
	.zalloc = real_zalloc,
	.free = real_free_memory,
	.dump = real_dump,
};

const struct real_backend uring_backend = {
	.name = "io_uring",
	.cost = "nothing",
	.ops = &io_ops,
	.size = sizeof(struct uring),
	.open = uring_open,
	.close = uring_close,
	.submit = uring_submit,
	.has_work = uring_has_work,
	.enter = uring_enter,
	.complete = uring_complete,
	.disk_start = uring_disk_start,
};
